#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make test` runs inside the environment; arguments go to pytest.
set -euo pipefail
ruff check .
mypy
if (($#)); then
    exec pytest "$@"
fi
# The whole suite. Files are shared out among processes, one thread each: most of the time a test
# waits or has one core's work.
export OMP_NUM_THREADS=1
suite=(-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
# COVERAGE=1: with the lines that it reaches, also those of processes that it starts. That takes half
# as long again (Python before 3.12), so it is no part of every run.
if [[ -n ${COVERAGE:-} ]]; then
    suite+=(--cov --cov-report=term:skip-covered --cov-fail-under=85)
fi
exec pytest "${suite[@]}"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make test` runs inside the environment; arguments go to pytest.
set -euo pipefail
ruff check .
mypy
if (($#)); then
    exec pytest "$@"
fi
# The whole suite. Files are shared out among processes, one thread each, and one process more than
# there are cores: a test of nodes waits most of its time.
export OMP_NUM_THREADS=1
cores=$(nproc)
suite=(-n $((cores < 4 ? cores + 1 : 4)) --dist loadfile --no-loadscope-reorder)
# COVERAGE=1: with the lines that it reaches, also those of processes that it starts. That takes half
# as long again (Python before 3.12), so it is no part of every run.
if [[ -n ${COVERAGE:-} ]]; then
    suite+=(--cov --cov-report=term:skip-covered --cov-fail-under=85)
fi
exec pytest "${suite[@]}"

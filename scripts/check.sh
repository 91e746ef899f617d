#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make test` runs inside the environment; arguments go to pytest.
set -euo pipefail
ruff check .
mypy
if (($#)); then
    exec pytest "$@"
fi
# The whole suite, with the lines that it reaches, also those of processes that it starts. Files are
# shared out among processes, one thread each: most of the time a test waits or has one core's work.
export OMP_NUM_THREADS=1
exec pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
    --cov --cov-report=term:skip-covered --cov-fail-under=85

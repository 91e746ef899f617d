#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make test` runs inside the environment; arguments go to pytest.
set -euo pipefail
ruff check .
mypy
exec pytest "$@"

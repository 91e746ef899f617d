#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The interfaces and the node tests on the wheels of ROS 2 Jazzy, in an
# environment of their own (.venv-jazzy). Run by `make jazzy`. JAZZY_TESTS names
# other test files.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
shopt -s nullglob
tests=(test/test_interfaces.py test/nodes/test_node*.py test/nodes/test_*_node*.py)
[[ -n ${JAZZY_TESTS:-} ]] && read -ra tests <<< "$JAZZY_TESTS"

# A copy, not this source tree: in the tree lie the interfaces of the main environment.
export LERF_ROS_VENV=$root/.venv-jazzy LERF_ROS_PINS=jazzy LERF_ROS_EDITABLE=0 \
    LERF_ROS_EXTRAS='ros offline sim dev'
mkdir -p out/jazzy
export OMP_NUM_THREADS=1    # two processes share the work
# From another folder, so that no process of a test imports the source tree.
exec bash scripts/run bash -c 'cd out/jazzy && exec pytest -c "$0/pyproject.toml" \
    --rootdir "$0" -p no:cacheprovider -n 2 --dist loadfile "${@/#/$0/}"' "$root" "${tests[@]}"

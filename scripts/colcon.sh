#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds this package as a colcon workspace on the ROS 2 wheels, then tests and
# lints against that install tree. Run by `make colcon`. COLCON_TESTS is a regular
# expression of test names (a test file, or flake8); '.' runs all of them.
#
#   scripts/colcon.sh tools     installs colcon and its linters, and no more
set -euo pipefail
TESTS=${COLCON_TESTS:-^(test_interfaces|test_packaging|flake8|lint_cmake|xmllint)$}
BASE=$PWD/out/colcon

version=$(python -c 'import sys; print("%d%d" % sys.version_info[:2])')
pins=requirements/constraints-py$version.txt
command -v colcon ament_flake8 > /dev/null || python -m pip install --quiet --prefer-binary \
    $([[ -f $pins ]] && echo "-c $pins") -r requirements/colcon.txt \
    2> >(grep -v '^WARNING: Location' >&2)

[[ ${1:-} != tools ]] || exit 0

rm -rf "$BASE"
mkdir -p "$BASE"
export CMAKE_PREFIX_PATH=$VIRTUAL_ENV
# The wheels lack vision_msgs, which a sourced ROS 2 has.
places=(--base-paths "$PWD" "$PWD/wheels/vision_msgs" --build-base "$BASE/build"
    --packages-select lerf_ros vision_msgs)
# The last arguments are for the wheels only: a sourced ROS 2 needs none.
colcon --log-base "$BASE/log" build "${places[@]}" --install-base "$BASE/install" \
    --event-handlers console_direct- --cmake-args -DCMAKE_BUILD_TYPE=Release \
    "-DPython3_EXECUTABLE=$VIRTUAL_ENV/bin/python" \
    "-DCMAKE_PROJECT_vision_msgs_INCLUDE=$PWD/cmake/pypi_wheels.cmake" \
    "-DCMAKE_PROJECT_lerf_ros_INCLUDE=$PWD/cmake/pypi_wheels.cmake"

set +u  # colcon's own scripts read unset variables
. "$BASE/install/setup.bash"
set -u
where=$(cd / && python -c 'import lerf_ros.msg; print(lerf_ros.msg.__file__)')
[[ $where == "$BASE"/install/* ]] || { echo "not the colcon build: $where" >&2; exit 1; }
for executable in "$BASE"/install/lerf_ros/lib/lerf_ros/*; do
    echo "executable: $(basename "$executable")"
done
colcon --log-base "$BASE/log" test "${places[@]}" --install-base "$BASE/install" \
    --event-handlers console_cohesion+ --ctest-args -R "$TESTS"
colcon test-result --test-result-base "$BASE/build" --verbose

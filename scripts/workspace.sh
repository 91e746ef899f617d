#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prepares what a ROS 2 workspace needs besides apt: a virtual environment that sees the system's
# packages, with the newer Python packages that apt lacks. `colcon build` in a shell where it is
# active writes its Python into the nodes, so that `ros2 launch` starts them with it.
#
#   bash scripts/workspace.sh FOLDER [EXTRA...]     extras: offline (default), openclip, view, ...
#   PYTHON=/usr/bin/python3                         must be the Python that ROS 2 was built for
set -euo pipefail
[[ $# -ge 1 ]] || { echo "usage: $0 FOLDER [EXTRA...]" >&2; exit 2; }
requirements=$(cd "$(dirname "$0")/../requirements" && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
folder=$1
shift

files=(-r "$requirements/core.txt")
for extra in "${@:-offline}"; do
    files+=(-r "$requirements/$extra.txt")
done
if [[ -e $folder && ! -f $folder/pyvenv.cfg ]]; then
    echo "lerf_ros: $folder is there and is no virtual environment; name another folder" >&2
    exit 2
fi
"$PYTHON" -m venv --system-site-packages "$folder"
touch "$folder/COLCON_IGNORE"
# ROS' own extension modules were built for the system's numpy: its first number must stay.
held=$("$PYTHON" -c 'import numpy; print("numpy<%d" % (int(numpy.__version__.split(".")[0]) + 1))' \
    2> /dev/null || true)
"$folder/bin/python" -m pip install --prefer-binary --disable-pip-version-check \
    ${held:+"$held"} "${files[@]}"
echo "lerf_ros: now . $folder/bin/activate, then colcon build"

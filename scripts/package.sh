#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `pip install .` as a user types it, into throw-away environments: once with the
# interfaces on the ROS 2 wheels, once without ROS. Run by `make package`.
set -euo pipefail
BASE=$PWD/out/package
ROOT=$PWD
unset AMENT_PREFIX_PATH
version=$(python -c 'import sys; print("%d%d" % sys.version_info[:2])')
pins=$ROOT/requirements/constraints-py$version.txt
[[ -f $pins ]] && export PIP_CONSTRAINT=$pins  # holds in pip's isolated builds too

pip_of() {
    "$1/bin/python" -m pip install --quiet --prefer-binary "${@:2}" \
        2> >(grep -v '^WARNING: Location' >&2)
}

rm -rf "$BASE"
mkdir -p "$BASE"
python -m venv "$BASE/with_ros"
pip_of "$BASE/with_ros" -r requirements/ros.txt pytest
started=$SECONDS
pip_of "$BASE/with_ros" --no-deps .
echo "pip install . with interfaces: $((SECONDS - started)) s"
cd "$BASE"
"$BASE/with_ros/bin/pytest" -c "$ROOT/pyproject.toml" --rootdir "$ROOT" -p no:cacheprovider \
    "$ROOT/test/test_interfaces.py"

python -m venv "$BASE/without_ros"
started=$SECONDS
LERF_ROS_NO_INTERFACES=1 pip_of "$BASE/without_ros" --no-deps "$ROOT"
echo "LERF_ROS_NO_INTERFACES=1 pip install .: $((SECONDS - started)) s"
"$BASE/without_ros/bin/python" - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import distribution
from pathlib import Path

import lerf_ros

assert str(lerf_ros.__file__).startswith(sys.prefix), lerf_ros.__file__
assert importlib.util.find_spec('lerf_ros.msg') is None, 'there are interfaces'
assert 'Tag: py3-none-any' in distribution('lerf_ros').read_text('WHEEL')
assert list(Path(sys.prefix, 'share', 'lerf_ros', 'config').glob('*.yaml')), 'no presets'
print('without interfaces: a pure Python wheel with its parameter files')
PYTHON

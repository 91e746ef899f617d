#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prepares the virtual environment .venv: system packages, pinned Python
# dependencies, the ROS 2 interfaces, a browser for the tests of the page. A call that finds all of it does nothing.
#
#   PYTHON=python3.12 scripts/setup.sh     choose the Python (3.10 to 3.14)
#   LERF_ROS_VENV=path                     another place for the environment
#   LERF_ROS_PINS=jazzy                    other pins: requirements/constraints-jazzy-*.txt
#   LERF_ROS_EXTRAS="ros dev"              fewer dependencies
#   LERF_ROS_EDITABLE=0                    install a copy instead of this source tree
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
. scripts/system_packages.sh
set_ros_aside

VENV=${LERF_ROS_VENV:-.venv}
EXTRAS=${LERF_ROS_EXTRAS:-ros openclip offline sim eval view dev}
EDITABLE=${LERF_ROS_EDITABLE:-1}
PINS=${LERF_ROS_PINS:+$LERF_ROS_PINS-}

# python_version PYTHON: such as 311, or nothing when it does not run.
python_version() {
    "$1" -c 'import sys; print("%d%d" % sys.version_info[:2])' 2> /dev/null || true
}

# choose_python: $PYTHON, else the first supported one whose versions are pinned, else any.
choose_python() {
    local candidate version any=''
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python3.10}; do
        version=$(python_version "$candidate")
        [[ $version =~ ^3(10|11|12|13|14)$ ]] || continue
        any=${any:-$candidate}
        if [[ -f requirements/constraints-${PINS}py$version.txt ]]; then
            any=$candidate
            break
        fi
    done
    echo "$any"
}

refuse_python() {
    echo "lerf_ros: ${PYTHON:-no python3 here} is not a Python 3.10 to 3.14;" \
        'name one: make PYTHON=/path/to/python3' >&2
    exit 1
}

# hash_of FILES...: one word that changes when a file, the Python or the place does.
hash_of() {
    { echo "$PWD $VENV $EXTRAS $EDITABLE $version"; cat "$@"; } | sha256sum | cut -d' ' -f1
}

# stamped NAME HASH: whether this step was finished with these inputs.
stamped() {
    [[ -f $VENV/lerf_ros-$1.stamp && $(< "$VENV/lerf_ros-$1.stamp") == "$2" ]]
}

pip_install() {
    # Lines on folders that some machines' pip settings name say nothing here.
    "$VENV/bin/python" -m pip install --quiet --prefer-binary --disable-pip-version-check \
        "${constraints[@]}" "$@" 2> >(grep -v '^WARNING: Location' >&2)
}

install_dependencies() {
    local started=$SECONDS name files=(-r requirements/core.txt)
    for name in $EXTRAS; do
        files+=(-r "requirements/$name.txt")
    done
    echo "lerf_ros: installing the Python dependencies (several GB, minutes on the first time)"
    # The build tools first and the dependencies after, so that pins of both hold.
    pip_install -r requirements/build.txt "${files[@]}"
    echo "lerf_ros: dependencies installed in $((SECONDS - started)) s"
}

build_interfaces() {
    local started=$SECONDS target=(.)
    [[ $EDITABLE == 1 ]] && target=(-e .)
    echo 'lerf_ros: building the ROS 2 interfaces'
    pip_install --no-deps --no-build-isolation --force-reinstall "${target[@]}"
    echo "lerf_ros: interfaces built in $((SECONDS - started)) s"
}

main() {
    take_turn "build/.set-up-$(basename "$VENV")"
    local python version missing pins constraints=() dependencies interfaces sources=() browser=''
    python=$VENV/bin/python
    version=$(python_version "$python")
    if [[ -z $version || (-n ${PYTHON:-} && $version != "$(python_version "$PYTHON")") ]]; then
        python=$(choose_python)
        [[ -n $python || -z ${PYTHON:-} ]] || refuse_python
        version=${python:+$(python_version "$python")}
    fi
    missing=$(missing_packages "$python")
    if [[ -n $missing ]]; then
        # shellcheck disable=SC2086
        install_packages $missing
        [[ -n $python ]] || python=$(choose_python)
        [[ -n $python ]] || refuse_python
        version=$(python_version "$python")
    fi
    pins=requirements/constraints-${PINS}py$version.txt
    if [[ -f $pins ]]; then
        constraints=(-c "$pins")
    else
        echo "lerf_ros: Python 3.${version#3} is not a version that is run in tests; its" \
            'dependencies are not pinned, only held within their ranges.'
        pins=/dev/null
    fi
    if [[ $(python_version "$VENV/bin/python") != "$version" ]]; then
        echo "lerf_ros: creating $VENV with $("$python" --version)"
        "$python" -m venv --clear "$VENV"
    fi
    dependencies=$(hash_of "$pins" requirements/[!c]*.txt requirements/core.txt)
    mapfile -t sources < <(find action msg srv cmake wheels -type f | sort)
    [[ $EDITABLE == 1 ]] || mapfile -t -O "${#sources[@]}" sources < <(
        find lerf_ros launch config rviz -type f -not -path '*/__pycache__/*' -not -name '*.so' \
            -not -path 'lerf_ros/action/*' \
            -not -path 'lerf_ros/msg/*' -not -path 'lerf_ros/srv/*' 2> /dev/null | sort)
    interfaces=$dependencies-$(hash_of setup.py pyproject.toml CMakeLists.txt package.xml \
        scripts/pip_backend.py "${sources[@]}")
    # Tried once on each machine, beside pip, which waits for the network most of the time.
    if may_install_browser "$EXTRAS" && ! stamped browser "$HOSTNAME"; then
        install_browser &
        browser=$!
    fi
    if ! stamped dependencies "$dependencies"; then
        install_dependencies
        echo "$dependencies" > "$VENV/lerf_ros-dependencies.stamp"
    fi
    if ! stamped interfaces "$interfaces"; then
        build_interfaces
        echo "$interfaces" > "$VENV/lerf_ros-interfaces.stamp"
    fi
    if [[ -n $browser ]]; then
        wait "$browser"
        echo "$HOSTNAME" > "$VENV/lerf_ros-browser.stamp"
    fi
}

main

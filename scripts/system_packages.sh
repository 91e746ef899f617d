# SPDX-License-Identifier: Apache-2.0
# Sourced by setup.sh: what must come from the system's package manager.

# has_library SONAME: whether the dynamic loader knows the library.
has_library() {
    local folders
    folders=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2> /dev/null)
    [[ $folders == *"$1 "* ]]
}

# missing_packages PYTHON: the Debian packages that are not there, one line.
missing_packages() {
    local python=$1 version missing=()
    command -v g++ > /dev/null || missing+=(g++)
    command -v make > /dev/null || missing+=(make)
    command -v cmake > /dev/null || missing+=(cmake)
    has_library libusb-1.0.so.0 || missing+=(libusb-1.0-0)
    has_library libGL.so.1 || missing+=(libgl1)
    has_library libEGL.so.1 || missing+=(libegl1)
    has_library libX11.so.6 || missing+=(libx11-6)
    has_library libgomp.so.1 || missing+=(libgomp1)
    has_library libudev.so.1 || missing+=(libudev1)
    if [[ -z $python ]]; then
        missing+=(python3 python3-venv python3-dev)
    else
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        "$python" -c 'import ensurepip, venv' 2> /dev/null || missing+=("python$version-venv")
        "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' \
            || missing+=("python$version-dev")
    fi
    echo "${missing[*]}"
}

# install_packages NAMES...: through apt when root, else says what to type and fails.
install_packages() {
    if [[ $(id -u) == 0 ]] && command -v apt-get > /dev/null; then
        echo "lerf_ros: installing the system packages $*"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"
    elif command -v apt-get > /dev/null; then
        echo "lerf_ros: please install what is missing: sudo apt-get install $*" >&2
        return 1
    else
        echo "lerf_ros: please install what is missing (names of Debian's packages): $*" >&2
        return 1
    fi
}

# has_browser: whether the tests of the page find one.
has_browser() {
    command -v chromium > /dev/null || command -v chromium-browser > /dev/null
}

# install_browser: chromium for the tests of the page, where root and apt can. It is no condition of
# anything else: where it cannot be had, one line says so and those tests are skipped.
install_browser() {
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=60 chromium)
    # Lists that are missing or too old are the usual reason for a failure.
    "${install[@]}" &> /dev/null || { apt-get update -qq && "${install[@]}"; } &> /dev/null \
        || echo 'lerf_ros: apt has no chromium here; the tests of the page in a browser are skipped'
}

# may_install_browser EXTRAS: whether it is missing, wanted by these extras, and can be had.
may_install_browser() {
    [[ " $1 " == *' view '* && " $1 " == *' dev '* && $(id -u) == 0 ]] \
        && command -v apt-get > /dev/null && ! has_browser
}

# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts. Sets a sourced ROS 2 aside, because the ROS 2
# wheels and another ROS 2 in one process load each other's libraries, and keeps
# everything that is started to this machine, on a ROS domain of its own. Set-ups take turns.

# entries_outside PATHS PREFIXES: the entries of a colon list that are not below a prefix.
entries_outside() {
    local entry prefix kept=''
    local IFS=:
    for entry in $1; do
        for prefix in $2; do
            [[ -n $prefix && $entry/ == "${prefix%/}"/* ]] && continue 2
        done
        kept+=${kept:+:}$entry
    done
    printf '%s' "$kept"
}

# take_turn FILE: waits until no other process that took its turn there is left; two set-ups of one
# environment at once would build in the same place. Without flock nobody waits.
take_turn() {
    command -v flock > /dev/null || return 0
    mkdir -p "$(dirname "$1")"
    exec 9> "$1"
    flock -n 9 || { echo 'lerf_ros: waiting for another set-up of this environment'; flock 9; }
}

set_ros_aside() {
    # A virtual environment there is one with the wheels, not a sourced ROS 2.
    [[ -f ${AMENT_PREFIX_PATH:-}/pyvenv.cfg ]] && unset AMENT_PREFIX_PATH ROS_DISTRO
    if [[ -n ${AMENT_PREFIX_PATH:-} || -n ${ROS_DISTRO:-} ]]; then
        local prefixes="${AMENT_PREFIX_PATH:-}:/opt/ros/${ROS_DISTRO:-none}:${COLCON_PREFIX_PATH:-}"
        echo "lerf_ros: the sourced ROS 2 (${ROS_DISTRO:-$AMENT_PREFIX_PATH}) is set aside;" \
            'this command uses the ROS 2 wheels in its own virtual environment.' \
            'To use the sourced one, build with colcon (README).'
        PATH=$(entries_outside "$PATH" "$prefixes")
        PYTHONPATH=$(entries_outside "${PYTHONPATH:-}" "$prefixes")
        LD_LIBRARY_PATH=$(entries_outside "${LD_LIBRARY_PATH:-}" "$prefixes")
        export PATH PYTHONPATH LD_LIBRARY_PATH
    fi
    unset AMENT_PREFIX_PATH AMENT_CURRENT_PREFIX COLCON_PREFIX_PATH CMAKE_PREFIX_PATH \
        ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION ROS_ETC_DIR
    # Left by a parent that runs on wheels too; ours must find their own libraries.
    unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
    # Python packages of the user or of another environment stay out as well.
    unset PYTHONHOME VIRTUAL_ENV
    export PYTHONNOUSERSITE=1
}

# isolate_ros NAME: localhost only, on a domain that follows from this folder and NAME.
isolate_ros() {
    local sum
    sum=$(printf '%s' "$PWD $1" | cksum | cut -d' ' -f1)
    # Robots sit on low domains; above 101 the ports may be taken by other programs.
    export ROS_DOMAIN_ID=${LERF_ROS_DOMAIN_ID:-$((60 + sum % 40))}
    export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
    unset ROS_LOCALHOST_ONLY ROS_STATIC_PEERS ROS_DISCOVERY_SERVER RMW_IMPLEMENTATION \
        FASTDDS_BUILTIN_TRANSPORTS FASTDDS_DEFAULT_PROFILES_FILE FASTRTPS_DEFAULT_PROFILES_FILE \
        CYCLONEDDS_URI ROS_SECURITY_ENABLE
    echo "lerf_ros: ROS 2 on localhost only, ROS_DOMAIN_ID=$ROS_DOMAIN_ID."
}

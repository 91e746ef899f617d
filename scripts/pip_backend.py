# SPDX-License-Identifier: Apache-2.0
"""The build backend of pip: setuptools, asking for what the interfaces need.

`LERF_ROS_NO_INTERFACES=1` asks for nothing more, a sourced ROS 2 for the small
tools that its own generators import, everything else for the ROS 2 wheels.
"""

import os
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 (pip calls these here)
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

WHEELS = Path(__file__).resolve().parent.parent / 'requirements' / 'build.txt'
# empy 4 came with ROS 2 Kilted, which still reads version 3.
SOURCED_ROS = ['numpy', 'catkin-pkg', 'empy==3.3.4', 'lark']


def interface_requirements() -> list[str]:
    """What building msg/ and srv/ needs from the package index here."""
    if os.environ.get('LERF_ROS_NO_INTERFACES', '0') not in ('', '0'):
        return []
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    # A virtual environment in that list is where wheels are, not a sourced ROS 2.
    if any(prefix and not Path(prefix, 'pyvenv.cfg').exists() for prefix in prefixes):
        return SOURCED_ROS
    lines = (line.split('#')[0].strip() for line in WHEELS.read_text().splitlines())
    return [line for line in lines if line]


def get_requires_for_build_wheel(config_settings=None) -> list[str]:
    """PEP 517: what a wheel needs, beside setuptools itself."""
    return build_meta.get_requires_for_build_wheel(config_settings) + interface_requirements()


def get_requires_for_build_editable(config_settings=None) -> list[str]:
    """PEP 660: what an editable install needs, beside setuptools itself."""
    return build_meta.get_requires_for_build_editable(config_settings) + interface_requirements()

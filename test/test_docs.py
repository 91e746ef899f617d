# SPDX-License-Identifier: Apache-2.0
"""The documents say what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_parameter_table_is_the_settings():
    pytest.importorskip('rclpy', reason='the nodes need ROS')
    spec = importlib.util.spec_from_file_location('table', ROOT / 'scripts/parameter_table.py')
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert (ROOT / 'docs/parameters.md').read_text() == table.document(), (
        'run: python scripts/parameter_table.py')


def test_readme_names_every_topic_service_and_make_target():
    readme = (ROOT / 'README.md').read_text()
    topics = (ROOT / 'lerf_ros/nodes/common/topics.py').read_text()
    for name in re.findall(r"= '(lerf/\w+)'", topics):
        assert f'`{name}`' in readme, name
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    for command in re.findall(r'make ([\w-]+)', readme):
        assert command in targets, command


def test_readme_pictures_exist():
    for path in re.findall(r'!\[[^]]*\]\(([^)]+)\)', (ROOT / 'README.md').read_text()):
        assert (ROOT / path).is_file(), path

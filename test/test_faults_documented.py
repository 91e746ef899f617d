# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md holds the cases of the fault tests, no more and no fewer."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location('fault_table', ROOT / 'scripts/fault_table.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8') == script.page()
    assert sum(len(table) for _, table in script.rows()) >= 40

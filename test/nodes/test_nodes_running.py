# SPDX-License-Identifier: Apache-2.0
"""The nodes as processes: exit codes, signals, and words instead of tracebacks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from ros_bench import spin_until

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]


def start(node, *arguments):
    return subprocess.Popen(
        [sys.executable, '-m', f'lerf_ros.nodes.{node}', '--ros-args', *arguments], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, 'RCUTILS_LOGGING_USE_STDOUT': '1', 'PYTHONUNBUFFERED': '1'})


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(''.join(lines))


@pytest.mark.parametrize(('node', 'argument', 'words'), [
    ('query_node', 'map_direktory:=/tmp', "'map_direktory'; did you mean 'map_directory'?"),
    ('query_node', 'query.threshold:=2', 'must lie between'),
    ('mapper_node', 'image_topik:=x', "'image_topik'; did you mean 'image_topic'?"),
    ('mapper_node', 'mask_file:=/none.png', "'/none.png' cannot be read")])
def test_wrong_settings_end_the_node_with_code_2_and_one_line(node, argument, words):
    process = start(node, '-p', argument)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert words in output and 'Traceback' not in output


def test_two_nodes_share_a_process_and_keep_their_names_and_parameters(tmp_path):
    process = start('lerf_node', '-p', 'autostart:=false', '-p', f'map_directory:={tmp_path}',
                    '-p', 'image_topic:=lens', '-p', 'find.probability:=0.7')
    try:
        lines = ''.join(read_until(process, '[mapper_node]: not started'))
        assert '[query_node]: not started' in lines
        rclpy.init()
        node = rclpy.create_node('watcher')
        names = {'mapper_node', 'query_node'}
        assert spin_until([node], lambda: names <= set(node.get_node_names()))
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        node.destroy_node()
        rclpy.shutdown()
    assert process.returncode == 0 and 'Traceback' not in output, output


def test_arguments_that_rcl_cannot_parse():
    process = start('query_node', '-p', 'query.negatives:=[1, 2.5]')
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and 'Traceback' not in output, output


@pytest.mark.parametrize(('node', 'number'), [
    ('query_node', signal.SIGINT), ('mapper_node', signal.SIGTERM),
    ('lerf_node', signal.SIGINT)])
def test_signals_end_the_nodes_cleanly(node, number):
    process = start(node, '-p', 'autostart:=false', '-p', 'query.threshold:=1')
    read_until(process, 'not started')
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and 'Traceback' not in output, output

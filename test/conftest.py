# SPDX-License-Identifier: Apache-2.0
"""Tests talk on this machine only and on a domain of their own, so that no robot hears them."""

import fcntl
import gc
import os
import tempfile
from pathlib import Path

import pytest


def take_domain():
    """Takes a domain that no other process of tests has until this one ends."""
    # 1 to 100: domains whose ports lie below Linux' ephemeral ones.
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        try:
            file = os.open(Path(tempfile.gettempdir(), f'lerf_ros_test_domain_{domain}'),
                           os.O_CREAT | os.O_RDWR)
        except PermissionError:     # another user's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return str(domain)      # the file stays open, and with it locked
    raise RuntimeError('tests have taken each of the 100 ROS domains')


# Before rclpy.init reads them.
os.environ['ROS_DOMAIN_ID'] = take_domain()
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
# Two robots' default map directories, logs and the like stay out of the user's home.
os.environ.setdefault('ROS_HOME', os.path.join(os.environ.get('TMPDIR', '/tmp'), 'lerf_ros_test'))
# Threads that spin while they wait slow each other down many times on a busy machine.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')


@pytest.fixture(scope='module')
def ros():
    """Initialises rclpy for a module; `pytestmark = pytest.mark.usefixtures('ros')` asks for it."""
    rclpy = pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
    gc.collect()    # nodes of earlier tests would stay in the graph, and fill it
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def nodes(ros):
    """A list; the nodes that a test appends to it are destroyed after the test."""
    made = []
    yield made
    for node in made:
        node.destroy_node()

# SPDX-License-Identifier: Apache-2.0
"""Tests talk on this machine only and on a domain of their own, so that no robot hears them."""

import gc
import os

import pytest

# Before rclpy.init reads them. 1 to 100: domains whose ports lie below Linux' ephemeral ones.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
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

# SPDX-License-Identifier: Apache-2.0
"""The mapper node over Fast DDS, with a process that only collects keyframes."""

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from ros_bench import Camera, FakeProcess, overrides, spin_until

from lerf_ros.errors import ConfigError
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
SECOND = 10**9
STAMP = 100 * SECOND + 1
LARGER = PinholeCamera(64, 48, 9.0, 9.0, 1.0, 1.0)


@pytest.fixture
def bench(tmp_path, nodes):
    """Makes mapper nodes and cameras in one namespace each."""
    def make(namespace='', reliable=True, start=True, **settings):
        mapper = MapperNode(
            FakeProcess, namespace=namespace,
            parameter_overrides=overrides(map_directory=str(tmp_path), tf_timeout=0.3,
                                          status_period=0.05, **settings))
        robot = Node('robot', namespace=namespace)
        nodes.extend((mapper, robot))
        camera = Camera(robot, reliable=reliable)
        camera.reports = []
        robot.create_subscription(FieldStatus, topics.STATUS, camera.reports.append,
                                  topics.STATUS_QOS)
        if start:
            assert mapper.start_alone(), mapper.failure
        return mapper, camera

    return make


def connect(mapper, camera, x=0.0):
    """Waits until both sides know each other; the camera then stands at x."""
    assert spin_until((mapper, camera.node), lambda: camera.matched()
                      and camera.tf.get_subscription_count())
    camera.info()
    for t in (STAMP - SECOND, STAMP + SECOND):
        camera.pose(t, x=x)


def test_an_image_becomes_a_keyframe_with_the_pose_at_its_stamp(bench):
    mapper, camera = bench()
    connect(mapper, camera)
    camera.pose(STAMP + 2 * SECOND, x=1.0)
    camera.image(STAMP + SECOND + SECOND // 4)   # a quarter of the way from x = 0 to x = 1
    assert spin_until((mapper, camera.node), lambda: mapper.process.frames)
    (frame,) = mapper.process.frames
    assert frame.T_world_camera[0, 3] == pytest.approx(0.25)
    assert (frame.camera.width, frame.camera.cx) == (32, 16.0)
    assert mapper.process.frame_id == 'map' and mapper.process.metric


def test_the_transform_may_arrive_after_the_image(bench):
    mapper, camera = bench()
    connect(mapper, camera)
    camera.image(STAMP + 3 * SECOND // 2)
    assert spin_until((mapper, camera.node), lambda: mapper.inputs.received)
    assert not mapper.process.frames
    camera.pose(STAMP + 2 * SECOND, x=0.0)
    assert spin_until((mapper, camera.node), lambda: mapper.process.frames)


@pytest.mark.parametrize(('settings', 'spoil', 'reason', 'words'), [
    ({'camera_frame': 'eye'}, lambda c: c.image(STAMP), 'no pose', 'lens, map'),
    ({'camera_info_topic': 'none'}, lambda c: c.image(STAMP), 'no camera_info', "'none'"),
    ({'queue_size': 1}, lambda c: (c.info(LARGER), c.image(STAMP)), 'camera_info',
     '64x48 pixels but images have 32x24'),
    ({'depth_topic': 'camera/depth'}, lambda c: (c.depth(STAMP, (12, 20)), c.image(STAMP)),
     'depth', 'registered'),
    ({}, lambda c: c.image(STAMP, encoding='xyz48'), 'image', "'xyz48'")])
def test_bad_input_is_counted_and_named_on_the_status_topic(bench, settings, spoil, reason, words):
    mapper, camera = bench(**settings)
    if 'camera_info_topic' in settings:
        camera.matched = camera.images.get_subscription_count
    connect(mapper, camera)
    if 'depth_topic' in settings:
        assert spin_until((mapper, camera.node), camera.depths.get_subscription_count)
    spoil(camera)
    assert spin_until((mapper, camera.node), lambda: mapper.refusals.total)
    assert dict(mapper.refusals.counts) == {reason: 1}
    assert spin_until((mapper, camera.node),
                      lambda: camera.reports and camera.reports[-1].images_refused == 1)
    assert words in camera.reports[-1].message
    assert (camera.reports[-1].images_received, camera.reports[-1].keyframes_used) == (1, 0)


def test_a_full_inbox_leaves_out_the_oldest_and_counts_it(bench):
    mapper, camera = bench()
    connect(mapper, camera)
    camera.image(STAMP)
    assert spin_until((mapper, camera.node), lambda: mapper.process.frames)
    mapper.process.full = True
    camera.pose(STAMP + 2 * SECOND, x=1.0)
    camera.image(STAMP + 2 * SECOND)
    assert spin_until((mapper, camera.node), lambda: mapper.refusals.counts['mapper busy'])
    assert [frame.stamp_ns for frame in mapper.process.frames] == [STAMP + 2 * SECOND]
    assert (mapper.refusals.counts['mapper busy'], mapper.counts.used) == (1, 1)


def test_a_best_effort_camera_is_followed(bench):
    mapper, camera = bench(reliable=False)
    assert mapper.inputs.images[0].reliable
    connect(mapper, camera)
    assert not mapper.inputs.images[0].reliable
    camera.image(STAMP)
    assert spin_until((mapper, camera.node), lambda: mapper.process.frames)


def test_two_robots_do_not_mix(bench):
    robots = [bench(namespace=name) for name in ('/a', '/b')]
    for mapper, camera in robots:
        connect(mapper, camera)
    robots[0][1].image(STAMP)
    nodes = [n for mapper, camera in robots for n in (mapper, camera.node)]
    assert spin_until(nodes, lambda: robots[0][0].process.frames)
    assert robots[1][0].inputs.received == 0 and not robots[1][0].process.frames
    assert spin_until(nodes, lambda: robots[1][1].reports)
    assert {r.images_received for r in robots[1][1].reports} == {0}


def test_the_life_of_the_node_over_its_service(bench):
    mapper, camera = bench(start=False)
    change = camera.node.create_client(ChangeState, 'mapper_node/change_state')
    nodes = (mapper, camera.node)
    assert spin_until(nodes, change.service_is_ready)

    def transition(number):
        future = change.call_async(ChangeState.Request(transition=Transition(id=number)))
        assert spin_until(nodes, future.done)
        return future.result().success

    assert not transition(Transition.TRANSITION_ACTIVATE)     # not configured yet
    assert transition(Transition.TRANSITION_CONFIGURE)
    process = mapper.process
    assert process.calls == ['start', 'pause'] and camera.images.get_subscription_count() == 0
    assert transition(Transition.TRANSITION_ACTIVATE)
    assert process.calls[-1] == 'resume'
    connect(mapper, camera)
    assert transition(Transition.TRANSITION_DEACTIVATE)
    assert process.calls[-1] == 'pause'
    camera.image(STAMP)
    assert spin_until(nodes, lambda: camera.images.get_subscription_count() == 0)
    assert spin_until(
        nodes, lambda: camera.reports and camera.reports[-1].state == FieldStatus.PAUSED)
    assert mapper.inputs.received == 0
    assert transition(Transition.TRANSITION_CLEANUP)
    assert process.calls[-1] == 'stop' and mapper.process is None
    assert transition(Transition.TRANSITION_CONFIGURE) and mapper.process is not process


def test_a_mask_file_that_is_missing_fails_the_configuration(bench):
    mapper, _ = bench(start=False, mask_file='/none.png')
    assert not mapper.start_alone()
    assert '/none.png' in mapper.failure and mapper.process is None


def test_a_process_that_died_is_reported(bench):
    mapper, camera = bench()
    mapper.process.alive = False
    assert spin_until((mapper, camera.node),
                      lambda: camera.reports and camera.reports[-1].state == FieldStatus.FAILED)
    assert 'ended unexpectedly' in camera.reports[-1].message


def test_a_misspelt_parameter(bench):
    with pytest.raises(ConfigError, match="'image_topik'; did you mean 'image_topic'"):
        bench(image_topik='x')

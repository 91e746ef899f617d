# SPDX-License-Identifier: Apache-2.0
"""Inputs that say what is wrong with them: the complaints of other mappers' users, one by one."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

import tiny_world
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from ros_bench import Camera, FakeProcess, overrides, spin_until
from sensor_msgs.msg import CompressedImage
from test_nodes_mapper import STAMP, connect
from tf2_msgs.msg import TFMessage
from tiny_world import orbit, photograph

from lerf_ros.errors import ConfigError
from lerf_ros.frames.pose_check import T_BODY_OPTICAL
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import matrix_to_transform, to_image
from lerf_ros.nodes.common.diagnostics import InputMonitor
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.common.topics import profile
from lerf_ros.nodes.mapper import diagnosis as diagnoses
from lerf_ros.nodes.mapper.diagnosis import diagnose_topic, stale_poses
from lerf_ros.nodes.mapper_node import MapperNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
KIND = 'sensor_msgs/msg/Image'


class Clock:
    s = 100.0


def watched(reliable=True):
    clock = Clock()
    return clock, InputMonitor('images', '/camera/image', 'image_topic', KIND,
                             lambda: profile(5, reliable), lambda: clock.s)


def offer(reliable=True, kind=KIND):
    return SimpleNamespace(topic_type=kind, qos_profile=profile(5, reliable), node_name='driver',
                           node_namespace='/cam')


def test_each_fault_is_logged_once_while_it_lasts():
    warned = []
    new = diagnoses.NewFaults(warned.append)
    new.tell(['nothing on /a for 5 s'])
    new.tell(['nothing on /a for 6 s', 'nobody publishes on /b'])
    new.tell(['nothing on /a for 7.5 s', 'nobody publishes on /b'])
    assert warned == ['nothing on /a for 5 s', 'nobody publishes on /b']
    new.tell([])
    new.tell(['nothing on /a for 5 s'])
    assert warned[2:] == ['nothing on /a for 5 s']


def test_waits_forever_theme_topic_never_seen_names_the_topics_there_are():
    clock, watch = watched()
    topics_now = {'/other': [KIND], '/tf': ['tf2_msgs/msg/TFMessage']}
    assert diagnose_topic(watch, [], topics_now) == ''       # discovery takes its time
    clock.s += 10
    text = diagnose_topic(watch, [], topics_now)
    assert "nobody publishes on '/camera/image'" in text and 'set image_topic' in text
    assert text.endswith('now: /other')


def test_waits_forever_theme_another_type():
    clock, watch = watched()
    clock.s += 10
    text = diagnose_topic(watch, [offer(kind='sensor_msgs/msg/CompressedImage')], {})
    assert 'carries sensor_msgs/msg/CompressedImage and not sensor_msgs/msg/Image' in text


def test_waits_forever_theme_qos_that_does_not_match_names_side_and_policy():
    clock, watch = watched(reliable=True)
    clock.s += 10
    text = diagnose_topic(watch, [offer(reliable=False)], {})
    assert 'Best effort publisher and reliable subscription' in text
    assert 'the publisher is /cam/driver' in text


def test_waits_forever_theme_seen_but_never_heard_is_a_transport_mismatch():
    clock, watch = watched()
    assert not diagnose_topic(watch, [offer()], {})
    clock.s += 12
    text = diagnose_topic(watch, [offer()], {})
    assert '/cam/driver publishes' in text and 'nothing has arrived in 12 s' in text
    assert 'LARGE_DATA' in text and '/dev/shm' in text


def test_waits_forever_theme_a_stream_that_stops():
    clock, watch = watched()
    diagnose_topic(watch, [offer()], {})
    for _ in range(50):
        clock.s += 0.1
        watch.seen()
    assert watch.rate() == pytest.approx(10, abs=0.3)
    assert not diagnose_topic(watch, [offer()], {})
    clock.s += 8
    assert 'nothing has come' in diagnose_topic(watch, [offer()], {})
    assert 'has gone after 50 messages' in diagnose_topic(watch, [], {})


def test_what_comes_only_when_something_happens_may_be_silent():
    clock, watch = watched()
    watch.rare = True
    diagnose_topic(watch, [offer()], {})
    clock.s += 1000
    assert diagnose_topic(watch, [offer()], {}) == ''
    assert 'QoS does not match' in diagnose_topic(watch, [offer(reliable=False)], {})
    assert 'nobody publishes' in diagnose_topic(watch, [], {})


def test_stale_poses_and_clocks_that_differ():
    now = 1_700_000_000_123_456_789
    assert stale_poses(now, now - 10**9, 5.0) == '' and stale_poses(0, now, 5.0) == ''
    assert '20.0 s older' in stale_poses(now, now - 20 * 10**9, 5.0)
    assert '20.0 s ahead' in stale_poses(now, now + 20 * 10**9, 5.0)


@pytest.fixture
def bench(tmp_path, monkeypatch, nodes):
    monkeypatch.setattr(diagnoses, 'PATIENCE_S', 1.0)

    def make(**settings):
        mapper = MapperNode(FakeProcess, parameter_overrides=overrides(
            map_directory=str(tmp_path), tf_timeout=0.3, status_period=0.05, **settings))
        robot = Node('robot')
        nodes.extend((mapper, robot))
        camera = Camera(robot, reliable=settings.pop('reliable', True))
        camera.reports, camera.diagnostics = [], []
        robot.create_subscription(FieldStatus, topics.STATUS, camera.reports.append,
                                  topics.STATUS_QOS)
        robot.create_subscription(DiagnosticArray, '/diagnostics', camera.diagnostics.append, 10)
        assert mapper.start_alone(), mapper.failure
        return mapper, camera

    return make


def said(camera, words):
    return any(words in text for report in camera.reports[-5:] for text in report.diagnoses)


def test_a_live_graph_is_read(bench):
    """A wrong topic, a wrong type and a QoS that does not match, all at once on one node."""
    mapper, camera = bench(image_topic='camera/colour', depth_topic='camera/depth',
                           mask_topic='camera/masks', image_reliability='reliable')
    kept = [camera.node.create_publisher(CompressedImage, 'camera/depth2', 10),
            camera.node.create_publisher(camera.images.msg_type, 'camera/masks',
                                         profile(5, reliable=False))]
    nodes = (mapper, camera.node)
    assert spin_until(nodes, lambda: said(camera, "nobody publishes on '/camera/colour'"))
    assert spin_until(nodes, lambda: said(camera, 'Best effort publisher and reliable subs'))
    assert any('/camera/color/image_raw' in text for text in camera.reports[-1].diagnoses)
    statuses = {s.name: s for s in camera.diagnostics[-1].status}
    assert statuses['mapper_node: images'].level == DiagnosticStatus.WARN
    assert statuses['mapper_node: field'].level == DiagnosticStatus.WARN
    assert kept


def test_pose_updates_whose_qos_does_not_match_are_named(bench):
    mapper, camera = bench(pose_updates_topic='slam/path')
    path = camera.node.create_publisher(Path, 'slam/path', profile(5, reliable=False))
    nodes = (mapper, camera.node)
    connect(mapper, camera)     # without images nothing is looked at
    words = "pose updates: QoS does not match on '/slam/path'"
    assert spin_until(nodes, lambda: said(camera, words))
    (text,) = [t for t in camera.reports[-1].diagnoses if words in t]
    assert 'Best effort publisher and reliable subscription' in text
    assert 'the publisher is /robot' in text and 'image_reliability' not in text
    camera.node.destroy_publisher(path)
    path = camera.node.create_publisher(Path, 'slam/path', profile(5))
    assert spin_until(nodes, lambda: not said(camera, 'QoS does not match'))
    assert path


def body_axes(T_map_optical):
    """What a publisher of a body frame (x forward, z up) says of a true optical pose."""
    return T_map_optical @ invert_pose(T_BODY_OPTICAL)


@pytest.mark.parametrize(('mix_up', 'words'), [
    (body_axes, 'set camera_frame to the optical frame'),
    (invert_pose, 'the poses are inverted'), (lambda T: T, '')])
def test_a_wrong_optical_frame_is_named_in_the_status(bench, mix_up, words):
    """Eight keyframes with depth through the node; the pose check compares them."""
    mapper, camera = bench(depth_topic='camera/depth', keyframes__min_translation=0.01,
                           keyframes__min_rotation=1.0)
    nodes, stamp = (mapper, camera.node), STAMP
    connect(mapper, camera)
    assert spin_until(nodes, camera.depths.get_subscription_count)
    camera.info(tiny_world.CAMERA)
    for frame in (photograph(T) for T in orbit(32)[:8]):
        stamp += 10**9 // 2
        transform = TransformStamped(child_frame_id='lens', transform=matrix_to_transform(
            mix_up(frame.T_world_camera)))
        transform.header = camera.header(stamp)
        transform.header.frame_id = 'map'
        camera.tf.publish(TFMessage(transforms=[transform]))
        depth_m = np.where(frame.depth_m > 3, 0, frame.depth_m).astype(np.float32)
        camera.depths.publish(to_image(depth_m, '32FC1', camera.header(stamp)))
        camera.images.publish(to_image(frame.image, 'rgb8', camera.header(stamp)))
        assert spin_until(nodes, lambda n=mapper.counts.used: mapper.counts.used > n)
    assert spin_until(nodes, lambda: mapper.pose_check.done)
    if words:
        assert spin_until(nodes, lambda: said(camera, words))
        assert spin_until(nodes, lambda: words in {
            s.name: s.message for s in camera.diagnostics[-1].status}['mapper_node: field'])
    else:
        mapper.diagnose_inputs()
        assert not mapper.pose_check.fit.doubt(mapper.config.check)
        assert not any('poses are' in text for text in mapper.diagnosis.others)


def test_rates_refusals_and_ages_are_reported(bench):
    mapper, camera = bench()
    nodes = (mapper, camera.node)
    connect(mapper, camera)
    for i in range(5):
        camera.image(STAMP + i, encoding='hsv8' if i % 2 else 'rgb8')
    assert spin_until(nodes, lambda: camera.reports and camera.reports[-1].images_received == 5)
    assert spin_until(nodes, lambda: list(camera.reports[-1].refusal_reasons) == ['image']
                      and list(camera.reports[-1].refusal_counts) == [2])
    assert spin_until(nodes, lambda: said(camera, "'hsv8' is not supported"))
    assert spin_until(nodes, lambda: any(
        v.key == 'messages' and v.value == '5' for s in camera.diagnostics[-1].status
        if s.name == 'mapper_node: images' for v in s.values))


def test_diagnostics_come_in_every_state(bench):
    mapper, camera = bench()
    nodes = (mapper, camera.node)
    for step in (mapper.trigger_deactivate, mapper.trigger_cleanup):
        step()
        camera.diagnostics.clear()
        assert spin_until(nodes, lambda: camera.diagnostics)
        assert camera.diagnostics[-1].status[0].name == 'mapper_node: field'


def test_two_cameras_each_with_its_own_mask_and_frame(bench):
    mapper, camera = bench(extra_image_topics=['left/image'],
                           extra_camera_info_topics=['left/info'],
                           extra_camera_frames=['left_lens'])
    left = Camera(camera.node)
    left.images = camera.node.create_publisher(camera.images.msg_type, 'left/image', 10)
    left.infos = camera.node.create_publisher(camera.infos.msg_type, 'left/info', 10)
    nodes = (mapper, camera.node)
    connect(mapper, camera)
    assert spin_until(nodes, left.matched)
    left.info()
    for stamp in (STAMP - 10**9, STAMP + 10**9):
        left.pose(stamp, x=7.0, child='left_lens')
    camera.image(STAMP)
    left.image(STAMP)
    assert spin_until(nodes, lambda: len(mapper.process.frames) == 2)
    assert sorted(f.T_world_camera[0, 3] for f in mapper.process.frames) == [0.0, 7.0]


def test_lists_of_cameras_must_be_of_one_length():
    with pytest.raises(ConfigError, match='extra_depth_topics has 2 entries.*1'):
        MapperNodeConfig(extra_image_topics=('a',), extra_camera_info_topics=('b',),
                         extra_depth_topics=('c', 'd'))
    with pytest.raises(ConfigError, match='extra_camera_info_topics has 0'):
        MapperNodeConfig(extra_image_topics=('a',))


def test_a_clock_that_is_set_back_clears_what_waits(bench):
    mapper, camera = bench()
    connect(mapper, camera)
    assert spin_until((mapper, camera.node), lambda: 'lens' in mapper._poses.frames())
    mapper.clock_jumped(None)
    assert mapper._poses.frames() == []
    mapper.diagnose_inputs()
    assert any('time went back' in text for text in mapper.diagnosis.others)


def test_a_best_effort_camera_needs_no_setting(bench):
    """QoS theme: the subscription follows what the publisher offers."""
    assert partial(diagnose_topic, watched(False)[1])([offer(False)], {}) == ''

# SPDX-License-Identifier: Apache-2.0
"""Frames from messages without a network: what waits, what is refused, and in which words."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from ros_bench import CAMERA, FakeProcess
from sensor_msgs.msg import Image

from lerf_ros.camera import PinholeCamera
from lerf_ros.errors import FrameError
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.conversions import ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.frame_assembler import FrameAssembler
from lerf_ros.nodes.node_config import MapperNodeConfig
from lerf_ros.nodes.refusals import Refusals
from lerf_ros.nodes.status_message import Counts, status_message

pytestmark = pytest.mark.ros
STAMP = 5 * 10**9 + 123456789


class Bench:
    """An assembler with a clock and a pose under the test's control."""

    def __init__(self, **settings):
        self.now_s, self.pose, self.warnings = 0.0, np.eye(4), []
        self.refusals = Refusals(self.warnings.append, lambda: self.now_s)
        self.assembler = FrameAssembler(MapperNodeConfig(**settings), self.look_up, self.refusals,
                                        lambda: self.now_s)

    def look_up(self, camera_frame, stamp_ns):
        if self.pose is None:
            raise FrameError('no pose yet')
        return self.pose

    def feed(self, image=True, info=CAMERA, stamp_ns=STAMP):
        if info:
            self.assembler.add_camera_info(to_camera_info(info))
        if image:
            self.assembler.add_image(picture(stamp_ns))

    def give_up(self):
        """Lets the time-out pass; the refusals by reason."""
        assert self.assembler.resolve() == [] and not self.refusals.counts
        self.now_s += 1.5 * MapperNodeConfig().tf_timeout
        assert self.assembler.resolve() == []
        return dict(self.refusals.counts)


def picture(stamp_ns=STAMP, shape=(24, 32, 3), encoding='rgb8', dtype=np.uint8, value=100):
    msg = to_image(np.full(shape, value, dtype), encoding)
    msg.header.stamp, msg.header.frame_id = ns_to_stamp(stamp_ns), 'lens'
    return msg


def test_image_waits_for_its_pose_and_keeps_its_stamp():
    bench = Bench()
    bench.feed()
    bench.pose, pose = None, bench.pose
    assert bench.assembler.resolve() == []
    bench.pose = pose
    (frame,) = bench.assembler.resolve()
    assert frame.stamp_ns == STAMP and frame.camera.width == 32 and frame.depth_m is None
    assert bench.assembler.resolve() == [] and bench.refusals.total == 0


def test_no_pose_is_refused_after_the_time_out():
    bench = Bench()
    bench.feed()
    bench.pose = None
    assert bench.give_up() == {'no pose': 1}
    assert bench.warnings == ['no pose yet']


def test_no_camera_info():
    bench = Bench()
    bench.feed(info=None)
    assert bench.give_up() == {'no camera_info': 1}
    assert "no camera_info on 'camera/color/camera_info'" in bench.refusals.latest


def test_camera_info_of_another_size_names_both_sizes():
    bench = Bench()
    bench.feed(info=PinholeCamera(64, 48, 30.0, 30.0, 16.0, 12.0))
    assert bench.give_up() == {'camera_info': 1}
    assert 'for 64x48 pixels but images have 32x24' in bench.refusals.latest


def test_uncalibrated_camera_info():
    bench = Bench()
    msg = to_camera_info(CAMERA)
    msg.k = [0.0] * 9
    bench.assembler.add_camera_info(msg)
    bench.feed(info=None)
    assert bench.give_up() == {'camera_info': 1}
    assert 'calibrate' in bench.refusals.latest


def test_depth_of_the_nearest_stamp_within_tolerance():
    bench = Bench(depth_topic='depth', sync_tolerance=0.01)
    bench.feed()
    for offset_ms, mm in ((-50, 1000), (-4, 2000), (9, 3000)):
        bench.assembler.add_depth(picture(STAMP + offset_ms * 10**6, (24, 32), '16UC1', np.uint16,
                                          mm))
    (frame,) = bench.assembler.resolve()
    assert np.unique(frame.depth_m).tolist() == [2.0]


def test_depth_that_is_not_registered():
    bench = Bench(depth_topic='depth')
    bench.feed()
    bench.assembler.add_depth(picture(STAMP, (48, 64), '16UC1', np.uint16))
    assert bench.give_up() == {'depth': 1}
    assert 'depth of 64x48 pixels but images of 32x24' in bench.refusals.latest
    assert 'registered' in bench.refusals.latest


@pytest.mark.parametrize(('offset_ms', 'words'), [(20, 'within 0.01 s'), (None, 'at all')])
def test_depth_that_never_comes(offset_ms, words):
    bench = Bench(depth_topic='depth')
    bench.feed()
    if offset_ms is not None:
        bench.assembler.add_depth(picture(STAMP + offset_ms * 10**6, (24, 32), '16UC1', np.uint16))
    assert bench.give_up() == {'no depth': 1}
    assert words in bench.refusals.latest


def test_unsupported_encodings_are_named():
    bench = Bench(depth_topic='depth')
    image = Image(encoding='yuv422', width=1, height=1)
    image.header.stamp.sec = 1
    bench.assembler.add_image(image)
    assert bench.refusals.counts == {'image': 1} and "'yuv422'" in bench.refusals.latest
    bench.feed()
    bench.assembler.add_depth(picture())
    bench.now_s += 2 * MapperNodeConfig().tf_timeout
    bench.assembler.resolve()
    assert bench.refusals.counts == {'image': 1, 'depth': 1} and "'rgb8'" in bench.refusals.latest


def test_image_without_a_stamp():
    bench = Bench()
    bench.feed(stamp_ns=0)
    assert bench.refusals.counts == {'no stamp': 1}


def test_the_oldest_image_makes_room_and_its_refusal_says_what_it_lacks():
    bench = Bench(queue_size=2)
    bench.pose = None
    for i in range(3):
        bench.feed(stamp_ns=STAMP + i)
    assert bench.refusals.counts == {'no pose': 1}
    assert 'no pose yet. It was the oldest of 2 images that wait' in bench.refusals.latest
    bench.pose = np.eye(4)
    bench.feed(stamp_ns=STAMP + 3)      # the oldest is complete by now and is not lost
    assert [f.stamp_ns - STAMP for f in bench.assembler.resolve()] == [1, 2, 3]


def test_an_image_that_comes_twice_is_taken_once():
    bench = Bench()
    for _ in range(2):
        bench.feed()
    assert len(bench.assembler.resolve()) == 1
    assert bench.refusals.counts == {'duplicate stamp': 1}


def test_images_out_of_order_are_all_taken():
    bench = Bench()
    for offset in (0, 2, 1):
        bench.feed(stamp_ns=STAMP + offset)
    assert [f.stamp_ns - STAMP for f in bench.assembler.resolve()] == [0, 2, 1]


def test_a_bag_that_loops_starts_anew():
    """The same stamps come again after 60 s: images that waited go, new ones are taken."""
    bench = Bench(depth_topic='depth')
    far, went_back = STAMP + 60 * 10**9, []
    bench.assembler._time_went_back = lambda: went_back.append(True)
    for stamp in (STAMP, far):
        bench.assembler.add_depth(picture(stamp, (24, 32), '16UC1', np.uint16))
        bench.feed(stamp_ns=stamp)
        assert len(bench.assembler.resolve()) == 1
    bench.feed(stamp_ns=far + 10**8)           # waits for its depth
    bench.assembler.add_depth(picture(STAMP, (24, 32), '16UC1', np.uint16))
    bench.feed(stamp_ns=STAMP)
    assert [f.stamp_ns for f in bench.assembler.resolve()] == [STAMP] and went_back == [True]
    assert bench.refusals.counts == {'time went back': 1}


def test_a_new_resolution_with_its_camera_info_goes_on():
    bench = Bench()
    bench.feed()
    half = PinholeCamera(16, 12, 15.0, 15.0, 8.0, 6.0)
    bench.assembler.add_camera_info(to_camera_info(half))
    bench.assembler.add_image(picture(STAMP + 1, (12, 16, 3)))
    assert [f.camera.width for f in bench.assembler.resolve()] == [32, 16]


def test_intrinsics_that_change_are_taken_by_stamp():
    """A camera that focuses: each image has the camera_info of its own stamp, or waits for it."""
    bench = Bench()
    for i in range(3):
        info = to_camera_info(PinholeCamera(32, 24, 30.0 + i, 30.0, 16.0, 12.0))
        info.header.stamp = ns_to_stamp(STAMP + i * 10**8)
        bench.assembler.add_camera_info(info)
    for i in (2, 1):
        bench.feed(info=None, stamp_ns=STAMP + i * 10**8)
    assert [f.camera.fx for f in bench.assembler.resolve()] == [32.0, 31.0]
    bench.feed(info=None, stamp_ns=STAMP + 7 * 10**8)
    assert bench.give_up() == {'camera_info': 1}
    assert 'change from message to message' in bench.refusals.latest


@pytest.mark.parametrize('spoil', [lambda T: T.__setitem__((0, 3), np.nan),
                                   lambda T: T.__setitem__((0, 0), 3.0)])
def test_a_pose_that_is_none_is_named(spoil):
    bench = Bench()
    spoil(bench.pose)
    bench.feed()
    assert bench.give_up() == {'bad pose': 1}
    assert 'who publishes the pose' in bench.refusals.latest


def test_mask_topic_and_mask_file_both_hold(tmp_path):
    left, top = np.full((24, 32), 255, np.uint8), np.full((24, 32), 255, np.uint8)
    left[:, :16] = 0
    top[:12] = 0
    cv2.imwrite(str(tmp_path / 'mask.png'), left)
    bench = Bench(mask_topic='mask', mask_file=str(tmp_path / 'mask.png'))
    bench.feed()
    msg = to_image(top, 'mono8')
    msg.header.stamp = ns_to_stamp(STAMP)
    bench.assembler.add_mask(msg)
    (frame,) = bench.assembler.resolve()
    assert frame.valid.sum() == 12 * 16 and frame.valid[12:, 16:].all()


def test_mask_file_that_is_missing_or_of_another_size(tmp_path):
    with pytest.raises(FrameError, match='none.png.*cannot be read'):
        Bench(mask_file=str(tmp_path / 'none.png'))
    cv2.imwrite(str(tmp_path / 'mask.png'), np.full((48, 64), 255, np.uint8))
    bench = Bench(mask_file=str(tmp_path / 'mask.png'))
    bench.feed()
    assert bench.give_up() == {'mask': 1}


def test_a_reason_is_warned_of_at_once_and_then_every_five_seconds():
    now, warnings = SimpleNamespace(s=0.0), []
    refusals = Refusals(warnings.append, lambda: now.s)
    for now.s in (0.0, 1.0, 4.9, 5.1):
        refusals.refuse('blurred', 'move slower')
    assert warnings == ['move slower', 'move slower (4 images so far)']
    assert refusals.total == 4


@pytest.mark.parametrize(('state', 'alive', 'active', 'expected'), [
    ('loading', True, True, FieldStatus.WAITING), ('waiting', True, True, FieldStatus.WAITING),
    ('mapping', True, True, FieldStatus.MAPPING), ('settled', True, True, FieldStatus.SETTLED),
    ('mapping', True, False, FieldStatus.PAUSED), ('failed', True, True, FieldStatus.FAILED),
    ('mapping', False, True, FieldStatus.FAILED)])
def test_states_of_the_status(state, alive, active, expected):
    report = SimpleNamespace(**{**vars(FakeProcess(0, 0, 0, 0).report), 'state': state})
    msg = status_message(report, alive, active, Counts(3, 2, 10**9), Refusals(print),
                         MapperNodeConfig(), 3 * 10**9)
    assert msg.state == expected
    assert (msg.image_age, msg.steps, msg.newest_snapshot.sec) == (2.0, 7, 5)
    assert bool(msg.message) == (expected in (FieldStatus.FAILED, FieldStatus.PAUSED))

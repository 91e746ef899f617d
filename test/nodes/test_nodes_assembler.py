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

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common.conversions import ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.mapper.frame_assembler import FrameAssembler
from lerf_ros.nodes.mapper.refusals import Refusals
from lerf_ros.nodes.mapper.status import ImageCounts, status_message

pytestmark = pytest.mark.ros
STAMP = 5 * 10**9 + 123456789


class Bench:
    """An assembler with a clock and a pose under the test's control."""

    def __init__(self, **settings):
        self.now_s, self.pose, self.warnings = 0.0, np.eye(4), []
        self.frames = {}    # T by (frame, other frame): what TF knows
        self.refusals = Refusals(self.warnings.append, lambda: self.now_s)
        self.assembler = FrameAssembler(MapperNodeConfig(**settings), self.look_up, self.refusals,
                                        lambda: self.now_s,
                                        newest_between=lambda a, b: self.frames.get((a, b)))

    def depth(self, frame='lens', shape=(24, 32), **changes):
        self.assembler.depth.add(in_frame(
            picture(STAMP, shape, '16UC1', np.uint16, 1500), frame, **changes))

    def look_up(self, camera_frame, stamp_ns):
        if self.pose is None:
            raise FrameError('no pose yet')
        return self.pose

    def feed(self, image=True, info=CAMERA, stamp_ns=STAMP):
        if info:
            self.assembler.infos.add(to_camera_info(info))
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


def in_frame(msg, frame, **changes):
    msg.header.frame_id = frame
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def shifted(x=0.0, degrees=0.0):
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.radians([0.0, 0.0, degrees]))[0]
    T[0, 3] = x
    return T


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
    bench.assembler.infos.add(msg)
    bench.feed(info=None)
    assert bench.give_up() == {'camera_info': 1}
    assert 'calibrate' in bench.refusals.latest


def test_depth_of_the_nearest_stamp_within_tolerance():
    bench = Bench(depth_topic='depth', sync_tolerance=0.01)
    bench.feed()
    for offset_ms, mm in ((-50, 1000), (-4, 2000), (9, 3000)):
        bench.assembler.depth.add(picture(STAMP + offset_ms * 10**6, (24, 32), '16UC1', np.uint16,
                                          mm))
    (frame,) = bench.assembler.resolve()
    assert np.unique(frame.depth_m).tolist() == [2.0]


def test_depth_that_is_not_registered():
    bench = Bench(depth_topic='depth')
    bench.feed()
    bench.assembler.depth.add(picture(STAMP, (48, 48), '16UC1', np.uint16))
    assert bench.assembler.resolve() == [] and bench.refusals.counts == {'depth': 1}
    assert 'depth of 48x48 pixels but images of 32x24' in bench.refusals.latest
    assert 'registered' in bench.refusals.latest


@pytest.mark.parametrize(('offset_ms', 'words'), [(20, 'within 0.01 s'), (None, 'at all')])
def test_depth_that_never_comes(offset_ms, words):
    bench = Bench(depth_topic='depth')
    bench.feed()
    if offset_ms is not None:
        bench.assembler.depth.add(picture(STAMP + offset_ms * 10**6, (24, 32), '16UC1', np.uint16))
    assert bench.give_up() == {'no depth': 1}
    assert words in bench.refusals.latest


def test_unsupported_encodings_are_named():
    bench = Bench(depth_topic='depth')
    image = Image(encoding='yuv444', width=1, height=1)
    image.header.stamp.sec = 1
    bench.assembler.add_image(image)
    assert bench.refusals.counts == {'image': 1} and "'yuv444'" in bench.refusals.latest
    bench.feed()
    bench.assembler.depth.add(picture())
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
    bench.assembler._on_time_went_back = lambda: went_back.append(True)
    for stamp in (STAMP, far):
        bench.assembler.depth.add(picture(stamp, (24, 32), '16UC1', np.uint16))
        bench.feed(stamp_ns=stamp)
        assert len(bench.assembler.resolve()) == 1
    bench.feed(stamp_ns=far + 10**8)           # waits for its depth
    bench.assembler.depth.add(picture(STAMP, (24, 32), '16UC1', np.uint16))
    bench.feed(stamp_ns=STAMP)
    assert [f.stamp_ns for f in bench.assembler.resolve()] == [STAMP] and went_back == [True]
    assert bench.refusals.counts == {'time went back': 1}


def test_a_new_resolution_with_its_camera_info_goes_on():
    bench = Bench()
    bench.feed()
    half = PinholeCamera(16, 12, 15.0, 15.0, 8.0, 6.0)
    bench.assembler.infos.add(to_camera_info(half))
    bench.assembler.add_image(picture(STAMP + 1, (12, 16, 3)))
    assert [f.camera.width for f in bench.assembler.resolve()] == [32, 16]


def test_intrinsics_that_change_are_taken_by_stamp():
    """A camera that focuses: each image has the camera_info of its own stamp, or waits for it."""
    bench = Bench()
    for i in range(3):
        info = to_camera_info(PinholeCamera(32, 24, 30.0 + i, 30.0, 16.0, 12.0))
        info.header.stamp = ns_to_stamp(STAMP + i * 10**8)
        bench.assembler.infos.add(info)
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
    bench.assembler.masks.add(msg)
    (frame,) = bench.assembler.resolve()
    assert frame.valid.sum() == 12 * 16 and frame.valid[12:, 16:].all()


def test_mask_file_that_is_missing_or_of_another_size(tmp_path):
    with pytest.raises(FrameError, match='none.png.*cannot be read'):
        Bench(mask_file=str(tmp_path / 'none.png'))
    cv2.imwrite(str(tmp_path / 'mask.png'), np.full((48, 64), 255, np.uint8))
    bench = Bench(mask_file=str(tmp_path / 'mask.png'))
    bench.feed()
    assert bench.assembler.resolve() == [] and bench.refusals.counts == {'mask': 1}


def test_a_reason_is_warned_of_at_once_and_then_every_five_seconds():
    now, warnings = SimpleNamespace(s=0.0), []
    refusals = Refusals(warnings.append, lambda: now.s)
    for now.s in (0.0, 1.0, 4.9, 5.1):
        refusals.refuse('blurred', 'move slower')
    assert warnings == ['move slower', 'move slower (4 images so far)']
    assert refusals.total == 4


@pytest.mark.parametrize(('state', 'alive', 'active', 'expected'), [
    # Two keyframes were used: a map has begun.
    ('loading', True, True, FieldStatus.WAITING), ('waiting', True, True, FieldStatus.MAPPING),
    ('mapping', True, True, FieldStatus.MAPPING), ('settled', True, True, FieldStatus.SETTLED),
    ('mapping', True, False, FieldStatus.PAUSED), ('failed', True, True, FieldStatus.FAILED),
    ('mapping', False, True, FieldStatus.FAILED)])
def test_states_of_the_status(state, alive, active, expected):
    report = SimpleNamespace(**{**vars(FakeProcess(0, 0, 0, 0).report), 'state': state})
    msg = status_message(report, alive, active, ImageCounts(3, 2, 10**9), Refusals(print),
                         MapperNodeConfig(), 3 * 10**9)
    assert msg.state == expected
    assert (msg.image_age, msg.steps, msg.newest_snapshot.sec) == (2.0, 7, 5)
    assert bool(msg.message) == (
        expected in (FieldStatus.FAILED, FieldStatus.PAUSED) or state == 'loading')


@pytest.mark.parametrize('name', ['depth', 'mask', 'camera_info'])
def test_what_is_in_another_frame_is_refused_naming_both_and_their_topics(name):
    """At once where TF knows both frames, after the time-out where it might yet say."""
    for known in (True, False):
        bench = Bench(**{f'{name}_topic': f'other/{name}', 'image_topic': 'eye'})
        if known:
            bench.frames[('lens', 'other_lens')] = shifted(0.05, 2.0)
        bench.feed(info=None)
        info = to_camera_info(CAMERA)
        info.header.frame_id = 'other_lens' if name == 'camera_info' else '/lens'
        bench.assembler.infos.add(info)
        if name == 'depth':
            bench.depth('other_lens')
        if name == 'mask':
            msg = picture(STAMP, (24, 32), 'mono8')
            bench.assembler.masks.add(in_frame(msg, 'other_lens'))
        if known:
            assert bench.assembler.resolve() == [] and bench.refusals.counts == {name: 1}
            assert '5.0 cm and 2.0 degrees apart' in bench.refusals.latest
        else:
            assert bench.give_up() == {name: 1}
        for words in (f"{name} on 'other/{name}' is in frame 'other_lens'",
                      "images on 'eye' are in 'lens'", 'trust_frames'):
            assert words in bench.refusals.latest
    assert ('align_depth' in bench.refusals.latest) == (name == 'depth')


@pytest.mark.parametrize('T', [shifted(), shifted(0.0005, 0.05)])
def test_two_frames_at_one_place_are_no_fault(T):
    bench = Bench(depth_topic='depth')
    bench.feed()
    bench.depth('/aligned')
    assert bench.assembler.resolve() == []      # TF may come later
    bench.frames[('lens', 'aligned')] = T
    assert len(bench.assembler.resolve()) == 1 and not bench.refusals.recent(10.0)


def test_intrinsics_may_be_in_a_frame_that_is_turned_and_depth_may_not():
    bench = Bench(depth_topic='depth')
    bench.frames[('lens', 'body')] = shifted(0.0, 90.0)
    info = to_camera_info(CAMERA)
    bench.feed(info=None)
    bench.assembler.infos.add(in_frame(info, 'body'))
    bench.depth()
    assert len(bench.assembler.resolve()) == 1
    bench.feed(info=None, stamp_ns=STAMP + 1)
    bench.depth('body')
    bench.assembler.depth._messages.popleft()
    assert bench.assembler.resolve() == [] and bench.refusals.counts == {'depth': 1}


def test_frames_that_are_trusted_are_named_and_used():
    bench = Bench(depth_topic='depth', trust_frames=True)
    bench.feed()
    bench.depth('other_lens')
    (frame,) = bench.assembler.resolve()
    assert frame.depth_m is not None and not bench.refusals.counts
    (text,) = bench.refusals.recent(10.0).values()
    assert "'other_lens'" in text and 'used all the same' in text
    assert bench.warnings == [text]


def test_headers_without_a_frame_say_nothing():
    bench = Bench(depth_topic='depth')
    bench.feed()
    bench.depth('')
    assert len(bench.assembler.resolve()) == 1


def test_depth_of_half_the_size_in_the_same_frame_takes_the_nearest_pixel():
    bench = Bench(depth_topic='depth')
    bench.feed()
    small = np.arange(1, 12 * 16 + 1, dtype=np.uint16).reshape(12, 16)
    msg = to_image(small, '16UC1')
    msg.header.stamp = ns_to_stamp(STAMP)
    bench.assembler.depth.add(in_frame(msg, 'lens'))
    (frame,) = bench.assembler.resolve()
    np.testing.assert_allclose(frame.depth_m, np.kron(small, np.ones((2, 2))) / 1000)
    assert 'resized' in next(iter(bench.refusals.recent(10.0).values()))


@pytest.mark.parametrize(('frame', 'shape'), [('', (12, 16)), ('lens', (12, 12))])
def test_depth_of_another_size_without_a_frame_or_of_another_shape_is_refused(frame, shape):
    bench = Bench(depth_topic='depth')
    bench.feed()
    bench.depth(frame, shape)
    assert bench.assembler.resolve() == [] and bench.refusals.counts == {'depth': 1}


def test_each_camera_has_a_unit_of_depth():
    settings = MapperNodeConfig(
        depth_topic='a', depth_unit_m=1e-4, extra_image_topics=('x', 'y'),
        extra_camera_info_topics=('x', 'y'), extra_depth_units_m=(0.0, 0.5))
    assert [camera.depth_unit_m for camera in settings.cameras()] == [1e-4, 0.0, 0.5]
    bench = Bench(depth_topic='depth', depth_unit_m=1e-4)
    bench.feed()
    bench.depth()
    assert np.unique(bench.assembler.resolve()[0].depth_m) == pytest.approx([0.15])


def test_depth_is_decoded_once_however_long_its_image_waits(monkeypatch):
    decoded = []
    monkeypatch.setattr('lerf_ros.nodes.mapper.frame_assembler.depth_to_metres',
                        lambda msg, **_: decoded.append(msg) or np.ones((24, 32), np.float32))
    bench = Bench(depth_topic='depth', mask_topic='mask')
    bench.pose, pose = None, bench.pose
    bench.feed()
    bench.depth()
    for bench.now_s in (0.1, 0.2, 0.3):
        assert bench.assembler.resolve() == []
        bench.pose = pose       # then it lacks its mask alone
    assert not decoded
    bench.assembler.masks.add(picture(STAMP, (24, 32), 'mono8'))
    assert len(bench.assembler.resolve()) == 1 and len(decoded) == 1


@pytest.mark.parametrize(('changes', 'words'), [
    ({'binning_x': 2, 'binning_y': 2}, 'says binning 2x2, but the images are whole'),
    ({'width': 96, 'height': 72, 'binning_x': 2, 'binning_y': 2},
     'says binning 2x2 of 96x72, which does not give the size'),
    ({}, '')])
def test_a_wrong_binning_is_named_and_not_the_topic(changes, words):
    bench = Bench()
    info = to_camera_info(CAMERA)
    for name, value in changes.items():
        setattr(info, name, value)
    bench.assembler.infos.add(info)
    bench.feed(info=None)
    if not words:
        assert len(bench.assembler.resolve()) == 1
        return
    assert bench.give_up() == {'camera_info': 1}
    assert words in bench.refusals.latest and 'set camera_info_topic' not in bench.refusals.latest


def test_a_region_that_the_images_do_not_have_is_named():
    bench = Bench()
    info = to_camera_info(CAMERA)
    info.roi.width, info.roi.height = 16, 12
    bench.assembler.infos.add(info)
    bench.feed(info=None)
    assert bench.give_up() == {'camera_info': 1}
    assert 'a region of 16x12 pixels, but the images are whole' in bench.refusals.latest

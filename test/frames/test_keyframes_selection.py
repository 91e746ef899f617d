# SPDX-License-Identifier: Apache-2.0
"""Which frames become keyframes."""

import cv2
import numpy as np
import pytest

from lerf_ros.config import KeyframeConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.selection import Decision, KeyframeSelector, motion, sharpness
from lerf_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(320, 240, 300.0, 300.0, 160.0, 120.0)
SHARP = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
BLURRED = cv2.GaussianBlur(SHARP, (0, 0), 3.0)


def frame(x=0.0, degrees=0.0, image=SHARP):
    T = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    T[:2, :2] = [[c, -s], [s, c]]
    T[0, 3] = x
    return Frame(0, image, CAMERA, T)


def decisions(frames, **settings):
    config = KeyframeConfig(min_translation=0.1, min_rotation=10.0, **settings)
    selector = KeyframeSelector(config)
    return [selector.consider(f).reason or 'kept' for f in frames]


def test_the_first_frame_is_kept_even_when_blurred():
    selector = KeyframeSelector(KeyframeConfig())
    assert selector.consider(frame(image=BLURRED)) == Decision(True, '')


def test_motion_since_the_last_keyframe_not_since_the_last_frame():
    assert decisions([frame(x) for x in (0, .06, .12, .18, .24)]) == [
        'kept', 'not moved', 'kept', 'not moved', 'kept']


def test_turning_is_enough():
    assert decisions([frame(degrees=d) for d in (0, 9, 11, 20, 22)]) == [
        'kept', 'not moved', 'kept', 'not moved', 'kept']


def test_a_blurred_image_is_refused_and_the_next_sharp_one_kept():
    images = [SHARP, SHARP, SHARP, BLURRED, SHARP]
    frames = [frame(x, image=image) for x, image in zip((0, .2, .4, .6, .65), images)]
    assert decisions(frames) == ['kept', 'kept', 'kept', 'blurred', 'kept']


def test_a_scene_without_texture_is_not_blurred():
    """The measure is the recent median, not a fixed number."""
    frames = [frame(x, image=BLURRED) for x in (0, .2, .4)]
    assert decisions(frames) == ['kept'] * 3
    assert decisions([frame(0, image=np.zeros_like(SHARP)),
                      frame(1, image=np.zeros_like(SHARP))]) == ['empty'] * 2


def test_budget():
    frames = [frame(x) for x in range(6)]
    assert decisions(frames, max_count=4, when_full='refuse') == ['kept'] * 4 + ['budget'] * 2
    assert decisions(frames, max_count=4) == ['kept'] * 6      # the mapper forgets others


def test_after_time_went_back_the_next_frame_is_kept():
    selector = KeyframeSelector(KeyframeConfig())
    assert selector.consider(frame(0)).accepted and not selector.consider(frame(0)).accepted
    selector.restart()
    assert selector.consider(frame(0)).accepted


@pytest.mark.parametrize('degrees', [0.0, 30.0, 179.0])
def test_motion_by_hand(degrees):
    distance, angle = motion(frame().T_world_camera, frame(3.0, degrees).T_world_camera)
    assert distance == pytest.approx(3) and angle == pytest.approx(degrees, abs=1e-4)


def test_sharpness_does_not_depend_on_the_resolution():
    scene = cv2.resize(SHARP[:60, :80], (320, 240), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(scene, (1280, 960), interpolation=cv2.INTER_CUBIC)
    assert sharpness(large) == pytest.approx(sharpness(scene), rel=.2)
    assert sharpness(BLURRED) < sharpness(SHARP) / 10

# SPDX-License-Identifier: Apache-2.0
"""Wrong pose conventions make garbage maps: each usual mix-up is named, and right poses are not."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_world import orbit, photograph

from lerf_ros.camera import OPENGL_TO_OPENCV, PinholeCamera, invert_pose
from lerf_ros.keyframes.frame import Frame
from lerf_ros.keyframes.pose_check import T_BODY_OPTICAL, PoseCheck, judge_poses

# What a publisher that mixes things up would send for a true optical pose.
MIX_UPS = {'body': lambda T: T @ invert_pose(T_BODY_OPTICAL),
           'opengl': lambda T: T @ OPENGL_TO_OPENCV,
           'inverted': invert_pose,
           'inverted body': lambda T: invert_pose(T @ invert_pose(T_BODY_OPTICAL)),
           'inverted opengl': lambda T: invert_pose(T @ OPENGL_TO_OPENCV)}


def capture():
    """Eight views of a robot that goes a quarter around the table, where nothing is far away."""
    frames = [photograph(T, stamp_ns=i + 1) for i, T in enumerate(orbit(32)[:8])]
    for frame in frames:
        frame.depth_m[frame.depth_m > 3] = 0
    return frames


def posed(frames, mix_up):
    return [replace(frame, T_world_camera=mix_up(frame.T_world_camera)) for frame in frames]


@pytest.mark.parametrize('name', MIX_UPS)
def test_wrong_pose_convention_theme_is_named_from_depth(name):
    verdict = judge_poses(posed(capture(), MIX_UPS[name]))
    assert verdict is not None and verdict.convention == name
    assert verdict.fit > 0.8


def test_right_poses_are_not_doubted():
    assert judge_poses(capture()) is None


@pytest.mark.parametrize('seed', range(3))
def test_right_poses_with_noise_are_not_doubted(seed):
    rng, frames = np.random.default_rng(seed), capture()
    for frame in frames:
        frame.depth_m[:] *= 1 + 0.02 * rng.standard_normal(frame.depth_m.shape)
        frame.T_world_camera[:3, 3] += rng.normal(0, 0.02, 3)
    assert judge_poses(frames) is None


def test_a_camera_that_hardly_turns_tells_nothing():
    frames = [capture()[0]] * 8
    assert judge_poses(posed(frames, MIX_UPS['opengl'])) is None


def speckled(T, stamp_ns):
    """Coloured dots in space: something that features can be found on, without depth."""
    camera = PinholeCamera(320, 240, 300.0, 300.0, 160.0, 120.0)
    rng = np.random.default_rng(0)
    points = rng.uniform((-0.6, -0.6, -0.3), (0.6, 0.6, 0.3), (260, 3))
    sizes, shades = rng.integers(2, 7, (260, 2)), rng.integers(0, 255, (260, 3))
    image = np.full((240, 320, 3), 128, np.uint8)
    in_camera = points @ invert_pose(T)[:3, :3].T + invert_pose(T)[:3, 3]
    pixels = camera.project(in_camera)
    for i in np.argsort(-in_camera[:, 2]):
        if np.isfinite(pixels[i]).all() and (np.abs(pixels[i]) < 1000).all():
            x, y = pixels[i].astype(int)
            image[max(y - sizes[i, 1], 0):max(y + sizes[i, 1], 0),
                  max(x - sizes[i, 0], 0):max(x + sizes[i, 0], 0)] = shades[i]
    return Frame(stamp_ns, image, camera, T)


@pytest.fixture(scope='module')
def dots():
    return [speckled(T, i + 1) for i, T in enumerate(orbit(48)[:8])]


@pytest.mark.parametrize('name', MIX_UPS)
def test_wrong_pose_convention_theme_is_named_from_features(dots, name):
    verdict = judge_poses(posed(dots, MIX_UPS[name]))
    assert verdict is not None and verdict.convention == name


def test_right_poses_without_depth_are_not_doubted(dots):
    assert judge_poses(dots) is None


def test_the_check_looks_once_at_the_first_keyframes():
    check = PoseCheck()
    for frame in posed(capture(), MIX_UPS['body']):
        assert check.verdict is None
        check.add(frame)
    assert check.done and 'set camera_frame to the optical frame' in str(check.verdict)

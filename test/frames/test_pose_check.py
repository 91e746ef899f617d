# SPDX-License-Identifier: Apache-2.0
"""Wrong pose conventions make garbage maps: each usual mix-up is named, and right poses are not."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tiny_world import CAMERA, orbit, photograph

from lerf_ros.config import CheckConfig
from lerf_ros.errors import ContradictionError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_check import (
    T_BODY_OPTICAL,
    InputFit,
    PoseCheck,
    measure_fit,
)
from lerf_ros.geometry.camera import OPENGL_TO_OPENCV, PinholeCamera, invert_pose

CHECK = CheckConfig()

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
    verdict = measure_fit(posed(capture(), MIX_UPS[name]))
    assert verdict.explanation.name == name and verdict.explanation.fit > 0.8
    assert verdict.wrong(CHECK)


def test_right_poses_are_not_doubted():
    assert not measure_fit(capture()).doubt(CHECK)


@pytest.mark.parametrize('seed', range(3))
def test_right_poses_with_noise_are_not_doubted(seed):
    rng, frames = np.random.default_rng(seed), capture()
    for frame in frames:
        frame.depth_m[:] *= 1 + 0.02 * rng.standard_normal(frame.depth_m.shape)
        frame.T_world_camera[:3, 3] += rng.normal(0, 0.02, 3)
    assert not measure_fit(frames).doubt(CHECK)


def test_a_camera_that_hardly_turns_tells_nothing():
    frames = [capture()[0]] * 8
    assert not measure_fit(posed(frames, MIX_UPS['opengl'])).doubt(CHECK)


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
    verdict = measure_fit(posed(dots, MIX_UPS[name]))
    assert verdict.explanation.name == name and verdict.wrong(CHECK)


def test_right_poses_without_depth_are_not_doubted(dots):
    assert not measure_fit(dots).doubt(CHECK)


def test_the_check_looks_once_at_the_first_keyframes():
    check = PoseCheck()
    assert [check.add(frame) for frame in posed(capture(), MIX_UPS['body'])] == 7 * [False] + [True]
    assert not check.done and not check.fit.doubt(CHECK)
    assert 'set camera_frame to the optical frame' in check.measure().doubt(CHECK)
    assert check.done and not check.add(capture()[0])


def changed(frames, change):
    return [replace(frame, **change(frame)) for frame in frames]


@pytest.mark.parametrize('factor', [10.0, 0.1, 1000.0])
def test_depth_in_another_unit_is_named_with_its_factor(factor):
    fit = measure_fit(changed(capture(), lambda f: {'depth_m': factor * f.depth_m}))
    assert fit.wrong(CHECK) and fit.explanation.name == 'factor' and fit.explanation.fit > 0.8
    assert f'multiply it by {1 / factor:g}' in fit.doubt(CHECK)


def test_poses_of_another_scale_than_depth_are_named_with_theirs():
    def scaled(frame):
        T = frame.T_world_camera.copy()
        T[:3, 3] *= 0.4
        return {'T_world_camera': T}
    fit = measure_fit(changed(capture(), scaled))
    scale = re.search(r'--scale ([\d.]+)', fit.doubt(CHECK))
    assert fit.wrong(CHECK) and float(scale[1]) == pytest.approx(1 / 0.4, rel=0.05)


def test_depth_of_another_lens_is_named():
    """The same places seen with 0.7 times the focal length, as an image of equal size."""
    def other(frame):
        wide = replace(CAMERA, fx=0.7 * CAMERA.fx, fy=0.7 * CAMERA.fy)
        depth_m = photograph(frame.T_world_camera, camera=wide).depth_m
        return {'depth_m': np.where(depth_m > 3, 0, depth_m)}
    fit = measure_fit(changed(around(), other))
    assert fit.explanation.name == 'focal' and 'not registered' in fit.doubt(CHECK)
    assert '0.7 times' in fit.explanation.text


def around():
    frames = [photograph(T, stamp_ns=i + 1) for i, T in enumerate(orbit(16))]
    return changed(frames, lambda f: {'depth_m': np.where(f.depth_m > 3, 0, f.depth_m)})


def test_a_thin_plane_alone_is_not_doubted():
    """A floor without anything on it, seen from a line: hardly anything contradicts anything."""
    frames = [photograph(T, cubes={}) for T in orbit(48)[:8]]
    assert not measure_fit(frames).doubt(CHECK)


def test_a_low_fit_refuses_unless_it_is_trusted():
    low, fine = InputFit(0.2, 'surfaces'), InputFit(0.9, 'surfaces')
    with pytest.raises(ContradictionError, match=r'20%.*not registered.*--trust-input'):
        low.require(CHECK, trusted=False)
    low.require(CHECK, trusted=True)
    fine.require(CHECK, trusted=False)
    InputFit().require(CHECK, trusted=False)
    assert not InputFit().doubt(CHECK) and '40%' in InputFit(0.4, 'surfaces').doubt(CHECK)


@pytest.mark.parametrize('turn', [(12.0, -7.0, 4.0), (0.0, 15.0, 0.0), (-3.0, 0.0, -18.0)])
def test_a_camera_that_is_mounted_turned_is_named_with_its_turn(turn):
    """As with a wrong transform from the robot to the camera: each pose is off by the same."""
    mounted = np.eye(4)
    mounted[:3, :3] = cv2.Rodrigues(np.radians(turn))[0]
    fit = measure_fit(posed(around(), lambda T: T @ invert_pose(mounted)))
    assert fit.wrong(CHECK) and fit.explanation.name == 'turn'
    found = re.findall(r'([+-][\d.]+) about', fit.doubt(CHECK))
    assert [float(angle) for angle in found] == pytest.approx(turn, abs=2.0)

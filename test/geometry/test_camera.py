# SPDX-License-Identifier: Apache-2.0
"""The camera model: projection, distortion and its inverse, axes."""

import cv2
import numpy as np
import pytest

from lerf_ros.errors import FrameError
from lerf_ros.geometry.camera import (
    PinholeCamera,
    depth_to_points,
    invert_pose,
    nearest_to_axes,
    opengl_to_opencv,
    transform_points,
)

PLAIN = PinholeCamera(640, 480, 500.0, 510.0, 320.0, 240.0)
# A phone's lens (apple_banana), a strong rational one, one with a thin prism, a tilted sensor.
LENSES = [(), (-0.0024, -0.0213, 0.0110, 0.0096),
          (0.3, -0.1, 0.002, -0.003, 0.02, 0.35, -0.05, .01),
          (0.1, -0.05, 0.001, 0.002, 0.01, 0.0, 0.0, 0.0, 0.003, -0.001, 0.002, 0.0005),
          (0.1, -0.05, 0.001, 0.002, 0.01, 0.0, 0.0, 0.0, 0.003, 0.0, 0.002, 0.0, 0.03, -0.02)]


def with_lens(distortion):
    return PinholeCamera(640, 480, 500.0, 510.0, 320.0, 240.0, distortion)


def some_pixels():
    return np.random.default_rng(0).uniform((0, 0), (640, 480), (200, 2))


def test_projection_by_hand():
    # x = 500 * 0.2 / 2 + 320, y = 510 * -0.4 / 2 + 240
    np.testing.assert_allclose(PLAIN.project(np.array([[0.2, -0.4, 2.0]])), [[370, 138]])
    np.testing.assert_allclose(PLAIN.directions(np.array([[320, 240]])), [[0, 0, 1]])
    assert np.isnan(PLAIN.project(np.array([[0, 0, -1.0]]))).all()


@pytest.mark.parametrize('distortion', LENSES)
def test_pixel_to_ray_and_back(distortion):
    camera = with_lens(distortion)
    rays = camera.directions(some_pixels())
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    np.testing.assert_allclose(camera.project(rays * 3.0), some_pixels(), atol=1e-6)


@pytest.mark.parametrize('distortion', LENSES)
def test_the_same_as_opencv(distortion):
    points = np.random.default_rng(1).uniform((-.5, -.4, 1), (.5, .4, 2), (50, 3))
    K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K,
                                    np.array(distortion) if distortion else None)
    np.testing.assert_allclose(with_lens(distortion).project(points), expected[:, 0], atol=1e-6)


FISHEYES = [(), (-0.01, 0.003, -0.002, 0.0004), (0.1, -0.02, 0.004, -0.0003)]


def fisheye(distortion):
    return PinholeCamera(640, 480, 200.0, 205.0, 320.0, 240.0, distortion, 'fisheye')


@pytest.mark.parametrize('distortion', FISHEYES)
def test_a_fisheye_is_the_same_as_opencvs(distortion):
    points = np.random.default_rng(1).uniform((-2, -2, .5), (2, 2, 2), (50, 3))
    K = np.array([[200.0, 0, 320], [0, 205, 240], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K,
                                            np.array(distortion or (0.0,) * 4))
    np.testing.assert_allclose(fisheye(distortion).project(points), expected[:, 0], atol=1e-6)


@pytest.mark.parametrize('distortion', FISHEYES)
def test_a_fisheye_pixel_to_ray_and_back(distortion):
    camera = fisheye(distortion)
    rays = camera.directions(some_pixels())
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    np.testing.assert_allclose(camera.project(rays * 3.0), some_pixels(), atol=1e-5)


def test_an_ideal_fisheye_sees_sideways():
    """f * angle: a quarter turn is 200 * pi / 2 = 314.16 pixels off the centre."""
    camera = fisheye(())
    sideways = np.array([[1.0, 0, 0], [0, 0, 1], [-1, 0, -1]])
    np.testing.assert_allclose(camera.project(sideways)[:2], [[634.16, 240], [320, 240]], atol=.01)
    np.testing.assert_allclose(camera.directions(camera.project(sideways)),
                               sideways / np.linalg.norm(sideways, axis=1)[:, None], atol=1e-9)
    assert np.isnan(camera.project(np.array([[0, 0, -1.0]]))).all()


def test_a_fisheye_ends_where_its_radius_stops_growing():
    """Slope 1 - 3 * 0.2 * angle^2 is zero at angle = 1.29."""
    camera = fisheye((-0.2,))
    at = [np.array([[np.sin(a), 0, np.cos(a)]]) for a in (1.28, 1.31)]
    assert np.isfinite(camera.project(at[0])).all() and np.isnan(camera.project(at[1])).all()


def test_resizing_keeps_the_viewing_directions():
    camera = with_lens(LENSES[1])
    pixels = some_pixels()
    np.testing.assert_allclose(camera.resized(320, 120).directions(pixels * (.5, .25)),
                               camera.directions(pixels), atol=1e-12)


def test_pixel_centres():
    grid = PLAIN.pixel_grid()
    assert grid.shape == (480, 640, 2)
    assert grid[0, 0].tolist() == [.5, .5] and grid[479, 639].tolist() == [639.5, 479.5]


def test_back_projection_keeps_z_depth_and_leaves_out_unknown_depth():
    depth = np.array([1.0, 0.0, np.nan, 2.5])
    pixels = some_pixels()[:4]
    points, known = PLAIN.back_project(pixels, depth)
    np.testing.assert_array_equal(known, [True, False, False, True])
    np.testing.assert_allclose(points[:, 2], [1.0, 2.5])
    np.testing.assert_allclose(PLAIN.project(points), pixels[known])


def test_points_of_a_depth_image_come_from_every_stepth_valid_pixel():
    camera = PinholeCamera(6, 4, 5.0, 5.0, 3.0, 2.0)
    valid = np.ones((4, 6), bool)
    valid[1, 4] = False
    points = depth_to_points(camera, np.full((4, 6), 2.0), valid, step=3, first=1)
    np.testing.assert_allclose(points, [[2 * (1.5 - 3) / 5, 2 * (1.5 - 2) / 5, 2]])


def test_the_point_nearest_to_optical_axes_that_meet():
    ahead, sideways = np.eye(4), np.eye(4)
    sideways[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]      # looks along the world's x
    ahead[:3, 3], sideways[:3, 3] = (1, 2, 0), (0, 2, 5)
    center, condition = nearest_to_axes(np.stack([ahead, sideways]))
    np.testing.assert_allclose(center, [1, 2, 5], atol=1e-12)
    assert condition < 10
    assert nearest_to_axes(np.stack([ahead, ahead]))[1] > 1e10


def test_opengl_looks_along_minus_z():
    T = opengl_to_opencv(np.eye(4))
    forward, down = transform_points(T, np.array([[0, 0, 1.0], [0, 1.0, 0]]))
    np.testing.assert_allclose(forward, [0, 0, -1])
    np.testing.assert_allclose(down, [0, -1, 0])
    np.testing.assert_allclose(opengl_to_opencv(T), np.eye(4))


def test_inverse_pose():
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([.3, -.2, .9]))[0]
    T[:3, 3] = 1, 2, 3
    np.testing.assert_allclose(invert_pose(T) @ T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize('change, part', [
    ({'fx': 0.0}, 'uncalibrated'), ({'width': 0}, '0x480'), ({'fy': float('nan')}, 'positive'),
    ({'distortion': (0.0,) * 15}, '15 distortion coefficients'),
    ({'distortion': (0.0,) * 5, 'model': 'fisheye'}, 'at most 4'),
    ({'model': 'omni'}, "'omni'"), ({'cx': float('inf')}, 'not finite')])
def test_impossible_cameras(change, part):
    values = {'width': 640, 'height': 480, 'fx': 1.0, 'fy': 1.0, 'cx': 0.0, 'cy': 0.0, **change}
    with pytest.raises(FrameError, match=part):
        PinholeCamera(**values)

# SPDX-License-Identifier: Apache-2.0
"""What depth images show of the surface around a hit."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.grasping.seen_surface import (
    CELL_M,
    REPLACED_M,
    Surface,
    averaged,
    refined,
    seen_points,
    useful_views,
)
from lerf_ros.loaded_snapshot import frames_at
from lerf_ros.storage.keyframe_files import KeyframeFiles

CAMERA = PinholeCamera(160, 120, 150.0, 150.0, 80.0, 60.0)
BOX = np.full(3, -0.2), np.full(3, 0.2)
FAR_AWAY = np.array([5e5, 4e6, 100.0])


def looking(position, at=(0.0, 0.0, 0.0)):
    """T_world_camera (4, 4) of a camera that looks from one place to another."""
    T, z = np.eye(4), np.subtract(at, position)
    z = z / np.linalg.norm(z)
    x = np.cross(z, [0.3, 0.9, 0.1])
    x /= np.linalg.norm(x)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], 1), position
    return T


def frame_of(T, depth=None, **more):
    """A frame that sees the plane z = 0, or the depth that is given."""
    if depth is None:
        rays = CAMERA.directions(CAMERA.pixel_grid().reshape(-1, 2))
        rays = rays / rays[:, 2:]
        depth = (-T[2, 3] / (rays @ T[2, :3])).reshape(120, 160)
    return Frame(0, np.zeros((120, 160, 3), np.uint8), CAMERA, T, depth.astype(np.float32), **more)


@pytest.mark.parametrize('position', [(0.0, 0.0, 0.6), (0.3, 0.2, 0.5), (-0.4, 0.1, 0.4)])
def test_pixels_become_points_of_the_plane_with_its_normal(position):
    seen = seen_points(frame_of(looking(position)), *BOX, np.zeros(3))
    assert len(seen) > 1000
    assert np.abs(seen[:, :2]).max() <= 0.2
    np.testing.assert_allclose(seen[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(seen[:, 3:], np.tile([0, 0, 1], (len(seen), 1)), atol=1e-4)


def test_a_fisheye_shows_the_same_plane_and_nothing_beyond_its_lens():
    """Equidistant, without distortion: theta = r / f. Part of the box is beside the lens."""
    camera = PinholeCamera(160, 120, 60.0, 60.0, 80.0, 60.0, model='fisheye')
    T = looking((0.2, 0.1, 0.5))
    x, y = np.moveaxis((camera.pixel_grid() - [80, 60]) / 60.0, -1, 0)
    theta = np.hypot(x, y)
    scale = np.where(theta > 0, np.tan(theta) / np.maximum(theta, 1e-9), 1.0)
    rays = np.stack([x * scale, y * scale, np.ones_like(x)], -1)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = -T[2, 3] / (rays @ T[2, :3])
    depth = np.where((theta < 1.2) & (depth > 0) & (depth < 5), depth, 0).astype(np.float32)
    frame = Frame(0, np.zeros((120, 160, 3), np.uint8), camera, T, depth)
    seen = seen_points(frame, *BOX, np.zeros(3))
    assert len(seen) > 50
    np.testing.assert_allclose(seen[:, 2], 0, atol=1e-5)
    np.testing.assert_allclose(seen[:, 5], 1, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert not len(seen_points(frame, np.array([-9, -9, 0.0]), np.array([9, 9, 0.9]),
                                   np.zeros(3)))


def test_what_is_far_from_the_origin_of_the_world_is_as_exact():
    T = looking((0.3, 0.2, 0.5))
    moved = T.copy()
    moved[:3, 3] += FAR_AWAY
    here = seen_points(frame_of(T), *BOX, np.zeros(3))
    there = seen_points(replace(frame_of(T), T_world_camera=moved), *BOX, FAR_AWAY)
    np.testing.assert_allclose(there, here, atol=1e-6)


def test_edges_masks_and_what_is_behind_the_camera_are_left_out():
    T = looking((0.0, 0.0, 0.6))
    depth = np.full((120, 160), 0.6)
    depth[:, 80:] = 0.5             # a step of 10 cm, where a pixel is 4 mm wide
    seen = seen_points(frame_of(T, depth), *BOX, np.zeros(3))
    heights = np.unique(seen[:, 2].round(3))
    assert heights.tolist() == [0.0, 0.1]
    assert np.abs(seen[:, 3:5]).max() < 1e-4        # no wall between the two
    assert not len(seen_points(frame_of(T, valid=np.zeros((120, 160), bool)), *BOX, np.zeros(3)))
    assert not len(seen_points(frame_of(looking((0, 0, 0.6), at=(0, 0, 2)), np.ones((120, 160))),
                               *BOX, np.zeros(3)))
    unknown = seen_points(frame_of(T, np.zeros((120, 160))), *BOX, np.zeros(3))
    assert not len(unknown)


def test_cells_hold_the_mean_of_their_pixels_and_keep_sides_apart():
    low = np.array([0.001, 0.001, 0.001])
    up, down = [0, 0, 1.0], [0, 0, -1.0]
    seen = np.array([[*low, *up], [*(low + 0.002), *up],            # one cell, one side
                     [*low, *down], [*(low + 0.001), *down],        # the other side of a thin wall
                     [*(low + 2 * CELL_M), *up]])                   # a single pixel
    points, normals = averaged(seen)
    order = np.argsort(normals[:, 2])
    np.testing.assert_allclose(points[order], [low + 0.0005, low + 0.001])
    np.testing.assert_allclose(normals[order], [down, up])


def sparse(height=0.0):
    """A square of 30 x 30 cm of points 2 cm apart; those near its middle are a hit."""
    x, y = np.meshgrid(np.arange(-7, 8) * 0.02, np.arange(-7, 8) * 0.02)
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, height)], 1)
    return Surface(points, np.tile([0.0, 0, 1], (len(points), 1)),
                   np.flatnonzero((np.abs(points[:, :2]) < 0.05).all(1)),
                   np.where(points[:, 0] > 0, 0.9, 0.2))


FRAMES = [frame_of(looking(place)) for place in ((0, 0, 0.6), (0.3, 0, 0.5), (0, -0.3, 0.5))]


def test_the_hit_gets_the_finer_points_and_the_rest_stays():
    before = sparse()
    after = refined(before, np.zeros(3), FRAMES)
    inside = (np.abs(after.points[:, :2]) < 0.065).all(1)
    assert inside.sum() > 4 * (np.abs(before.points[:, :2]) < 0.065).all(1).sum()
    outside = (np.abs(before.points[:, :2]) > 0.07 + REPLACED_M).any(1)
    assert {tuple(p) for p in before.points[outside].astype(np.float32)} <= {
        tuple(p) for p in after.points}
    # A new point is part of what the nearest old one is part of, and as relevant.
    new = after.points[after.members]
    assert (np.abs(new[:, :2]) < 0.051 + 0.01).all() and len(after.members) > len(before.members)
    assert set(after.relevancy[after.members].tolist()) <= {0.2, 0.9}


def test_what_is_no_longer_where_the_map_is_does_not_count():
    """The images show the plane z = 0; the map has the surface 2 cm above, as it is now."""
    before = sparse(height=0.02)
    after = refined(before, np.zeros(3), FRAMES)
    np.testing.assert_array_equal(after.points, before.points)


def test_without_depth_everything_stays():
    before = sparse()
    frames = [replace(frame, depth_m=None) for frame in FRAMES]
    for given in (frames, []):
        assert refined(before, np.zeros(3), given) is before


def test_views_are_near_and_from_different_sides():
    poses = np.stack([looking(place) for place in (
        (0, 0, 1.0), (0, 0.1, 0.9), (0.8, 0, 0.6), (0, 5, 5), (0.75, 0.1, 0.65))]
        + [looking((0, 0, 1.0), at=(0, 0, 2.0))])       # looks away
    order = useful_views(poses, np.zeros(3))
    assert order[0] == 1                # the nearest
    assert order[1] in (2, 4)           # another side
    assert set(order) == {0, 1, 2, 3, 4}
    assert useful_views(np.zeros((0, 4, 4)), np.zeros(3)) == []


def test_frames_with_depth_are_read_from_the_map_and_damaged_ones_left_out(tmp_path):
    files = KeyframeFiles(tmp_path, True)
    places = [(0.0, 0.0, 0.6), (0.0, 0.05, 0.9), (0.5, 0.0, 0.5), (-0.6, 0.0, 0.5)]
    for k, place in enumerate(places):
        files.add(Keyframe(k, frame_of(looking(place))))
    files.add(Keyframe(4, replace(frame_of(looking((0.0, 0.0, 0.5))), depth_m=None)))
    (tmp_path / 'depth' / '000002.png').write_bytes(b'damaged')
    read = [frame.T_world_camera[:3, 3] for frame in frames_at(np.zeros(3), files)]
    assert len(read) == 3
    np.testing.assert_allclose(read[0], places[0])          # the nearest of those with depth
    np.testing.assert_allclose(read[1], places[3])          # 2 cannot be read
    assert list(frames_at(np.zeros(3), KeyframeFiles(tmp_path / 'empty', True))) == []

# SPDX-License-Identifier: Apache-2.0
"""A TSDF of a plane with two colours, and of a step: what it must give is computed in sight."""

import numpy as np
import pytest

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.evaluation.tsdf import Tsdf, fuse_tsdf, number_of, places_of
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame

CAMERA = PinholeCamera(80, 60, 80.0, 80.0, 40.0, 30.0)
VOXEL = 0.02
DEPTH = 1.013       # no multiple of a voxel's half
SCENE = SceneFrame((0.0, 0.0, 1.0), 1.0)
CONFIG = LerfConfig().override({
    'features': {'widths': [0.05, 0.2]},
    'index': {'voxel': VOXEL, 'min_keyframes': 2, 'max_points': 5000}})


def frame(depth, shift=0.0, left=(255, 0, 0), right=(0, 0, 255)):
    """A view along z from (shift, 0, 0); the world is `left` where x < 0 and `right` elsewhere."""
    T = np.eye(4)
    T[0, 3] = shift
    depth = np.full((60, 80), depth, np.float32)
    x_world = (np.arange(80) + 0.5 - CAMERA.cx) / CAMERA.fx * depth + shift
    image = np.where((x_world < 0)[..., None], left, right).astype(np.uint8)
    return Frame(0, image, CAMERA, T, depth)


def features(of):
    """Embeddings: the first axis where a frame is red, the second where it is blue."""
    ids = (of.image[..., 2] > 0).astype(np.int32)[..., None]
    weights, both = np.ones(ids.shape, np.float16), np.eye(2, dtype=np.float32)
    return KeyframeFeatures(tuple(
        EmbeddingMap(width, (0.5, 0.5), (1.0, 1.0), ids, weights, both) for width in (4.0, 16.0)),
        np.zeros((1, 1, 0), np.float16))


def test_blocks_have_numbers_that_tell_their_places():
    places = np.array([[0, 0, 0], [-1, 5, 3], [1000, -1000, 7]])
    np.testing.assert_array_equal(places_of(number_of(places)), places)


def test_the_surface_is_where_the_mean_of_two_depths_is():
    # Equal weights would meet halfway; 1 / z^2 draws the surface to the nearer depth.
    near, far = 1.0, 1.02
    frames = [frame(near), frame(far)]
    tsdf = Tsdf.allocate(frames, VOXEL)
    for one in frames:
        tsdf.integrate(one)
    z = tsdf.surface(2)[:, 2]
    # Where a voxel at z = 1.01 has the distances -0.01 and 0.01, their weights are equal but for
    # the drop behind the surface: 1 - 0.01 / 0.08.
    behind = 1 - 0.01 / (4 * VOXEL)
    voxel = 0.5 * (-0.01 * behind + 0.01) / (0.5 * (behind + 1))        # its mean distance
    assert np.median(z) == pytest.approx(1.01 + voxel, abs=2e-3)
    assert np.ptp(z) < 2e-3


def test_a_plane_of_two_colours_has_one_point_a_voxel_with_what_the_views_say():
    frames = [frame(DEPTH, shift) for shift in (-0.1, 0.0, 0.1)]
    index = fuse_tsdf(frames, [features(one) for one in frames], SCENE, CONFIG)
    points = index.points_world
    np.testing.assert_allclose(points[:, 2], DEPTH, atol=1e-4)
    # Two views or three see as much of the plane as the middle view does.
    wide, high = 80 / 80 * DEPTH, 60 / 80 * DEPTH
    expected = wide / VOXEL * (high / VOXEL)
    assert 0.9 * expected < len(points) < 1.05 * expected
    assert len(np.unique(np.floor(points[:, :2] / VOXEL), axis=0)) == len(points)
    left, right = points[:, 0] < -VOXEL, points[:, 0] > VOXEL
    assert (index.colors[left] == (255, 0, 0)).all() and (index.colors[right] == (0, 0, 255)).all()
    embeddings = index.codes_of(np.arange(len(points))) @ index.basis.T     # (N, S, D)
    np.testing.assert_allclose(embeddings[left], np.broadcast_to([1, 0], embeddings[left].shape),
                               atol=0.01)
    np.testing.assert_allclose(embeddings[right], np.broadcast_to([0, 1], embeddings[right].shape),
                               atol=0.01)
    assert set(index.keyframes) == {2, 3}
    np.testing.assert_allclose(index.normals[:, 2], -1, atol=0.01)          # towards the cameras


def test_nothing_is_made_between_the_two_sides_of_a_step():
    # The left half is 0.4 m nearer than the right one: five truncations.
    steps = [frame(1.0, shift) for shift in (0.0, 0.01)]
    for one in steps:
        one.depth_m[:, 40:] = 1.4
    tsdf = Tsdf.allocate(steps, VOXEL)
    for one in steps:
        tsdf.integrate(one)
    z = tsdf.surface(2)[:, 2]
    between = (z > 1.02) & (z < 1.38)
    assert not between.any() and (z < 1.02).any() and (z > 1.38).any()


def patch(depth, of):
    """A view of the plane in which a patch has another depth."""
    view = frame(depth)
    view.depth_m[20:30, 30:40] = of
    return view


def test_what_one_view_alone_measured_is_no_surface():
    # Where the other view knows nothing it is one; not where it looks through.
    for other, there in ((0.0, True), (DEPTH, False)):
        views = [patch(DEPTH, 0.5), patch(DEPTH, other)]
        tsdf = Tsdf.allocate(views, VOXEL)
        for view in views:
            tsdf.integrate(view)
        assert (tsdf.surface(1)[:, 2] < 0.52).any() == there
        assert not (tsdf.surface(2)[:, 2] < 0.52).any()


def test_without_depth_there_is_nothing_to_fuse():
    view = Frame(0, frame(1.0).image, CAMERA, np.eye(4))
    with pytest.raises(ValueError, match='depth'):
        fuse_tsdf([view], [features(view)], SCENE, CONFIG)

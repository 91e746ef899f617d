# SPDX-License-Identifier: Apache-2.0
"""Laws of segments, normals and boxes, on surfaces made by hand."""

import numpy as np
import pytest
from hand_made_map import CUBES, WordEncoder, cube_index
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from lerf_ros.config import IndexConfig, QueryConfig
from lerf_ros.index.planes import roughness, surface_normals
from lerf_ros.index.segments import PointCloud, behind_planes, find_segments, split
from lerf_ros.query.boxes import minimal_box, upright_box
from lerf_ros.query.text_query import TextQuery

CONFIG = IndexConfig()
STEP = 0.008
NO_PLANES = np.zeros((0, 4))


def face(axis, offset, low, high):
    """Points of a rectangle at right angles to an axis, its normal along it."""
    grids = [np.arange(a + STEP / 2, b, STEP) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*grids), -1).reshape(-1, 2)
    normals = np.zeros((len(points), 3))
    normals[:, axis] = 1
    return np.insert(points, axis, offset, axis=1), normals


def block(low, high, sides=((0, 0), (0, 1), (1, 0), (1, 1), (2, 1))):
    """The four sides and the top of a box, normals outward."""
    faces = []
    for axis, end in sides:
        others = [i for i in range(3) if i != axis]
        points, normals = face(axis, (low, high)[end][axis], [low[i] for i in others],
                               [high[i] for i in others])
        faces.append((points, normals if end else -normals))
    return tuple(np.concatenate(part) for part in zip(*faces, strict=True))


def cloud_of(*things):
    """PointCloud of (points, normals, code) and which of the things each point is on."""
    rng = np.random.default_rng(0)
    count = [len(points) for points, _, _ in things]
    kind = np.repeat(np.arange(len(things)), count)
    dense = np.eye(8)[[code for _, _, code in things]][kind]
    points = np.concatenate([points for points, _, _ in things])
    return PointCloud(points + rng.normal(0, 5e-4, points.shape),
                      np.concatenate([normals for _, normals, _ in things]),
                      np.full((len(points), 3), 0.5),
                      dense + rng.normal(0, 0.02, dense.shape)), kind


TABLE = (*face(2, 0.0, (-0.5, -0.5), (0.5, 0.5)), 0)
BOX = block((-0.1, -0.06, 0.0), (0.0, 0.06, 0.1))


def own_segment(segments, kind, thing):
    """The one segment that holds a thing's points, all but those in cells on its rim."""
    found, counts = np.unique(segments[kind == thing], return_counts=True)
    assert counts.max() > 0.75 * counts.sum()
    return int(found[counts.argmax()])


def test_the_table_under_a_box_is_another_segment():
    cloud, kind = cloud_of(TABLE, (*BOX, 1))
    segments, planes = find_segments(cloud, CONFIG)
    assert len(planes) == 1 and planes[0] == pytest.approx([0, 0, 1, 0], abs=2e-3)
    assert own_segment(segments, kind, 0) == 0          # supporting surfaces come first
    assert own_segment(segments, kind, 1) > 0
    # None of the table but the rim around the foot is taken for the box.
    assert (segments[kind == 0] == own_segment(segments, kind, 1)).mean() < 0.01


def test_a_flat_thing_on_the_table_that_looks_different_is_no_table():
    card = (*face(2, 0.004, (0.2, 0.2), (0.32, 0.3)), 2)
    cloud, kind = cloud_of(TABLE, card)
    segments, _ = find_segments(cloud, CONFIG)
    assert own_segment(segments, kind, 1) != own_segment(segments, kind, 0) == 0


@settings(deadline=None, max_examples=3)
@given(st.floats(0.005, 0.009), st.floats(-0.4, 0.2), st.floats(-0.4, 0.2))
def test_a_thing_thinner_than_a_surface_that_looks_like_it_is_no_table(height, x, y):
    # Heights are noisy by 0.0005, and a surface is 0.01 thick.
    book = (*face(2, height, (x, y), (x + 0.12, y + 0.16)), 0)
    cloud, kind = cloud_of(TABLE, book)
    covered = (kind == 0) & (cloud.points[:, :2] > (x, y)).all(1) & (
        cloud.points[:, :2] < (x + 0.12, y + 0.16)).all(1)
    seen, kind = cloud[~covered], kind[~covered]        # nobody sees the table under it
    segments, planes = find_segments(seen, CONFIG)
    assert len(planes) == 1
    assert own_segment(segments, kind, 1) != own_segment(segments, kind, 0) == 0
    assert (segments[kind == 0] == 0).mean() > 0.98


@settings(deadline=None, max_examples=4)
@given(st.integers(0, 2 ** 32 - 1), st.floats(1e-4, 4e-3), st.floats(0.0, 4e-3))
def test_a_table_alone_is_one_segment_however_rough_or_warped(seed, noise, warp):
    points, normals = face(2, 0.0, (-0.5, -0.5), (0.5, 0.5))
    rng = np.random.default_rng(seed)
    points = points + rng.normal(0, 1, points.shape) * (0, 0, noise)
    points[:, 2] += warp * np.sin(8 * points[:, 0]) * np.cos(5 * points[:, 1])
    dense = rng.normal(0, 0.02, (len(points), 8))
    segments, _ = find_segments(
        PointCloud(points, normals, np.full(points.shape, 0.5), dense), CONFIG)
    assert (segments == 0).mean() > 0.99


def test_touching_boxes_that_look_different_are_two():
    # Nobody sees the faces with which they touch.
    left = block((-0.1, -0.06, 0.0), (0.0, 0.06, 0.1), ((0, 0), (1, 0), (1, 1), (2, 1)))
    right = block((0.0, -0.06, 0.0), (0.1, 0.06, 0.1), ((0, 1), (1, 0), (1, 1), (2, 1)))
    cloud, kind = cloud_of(TABLE, (*left, 1), (*right, 2))
    segments, _ = find_segments(cloud, CONFIG)
    assert len({own_segment(segments, kind, thing) for thing in range(3)}) == 3


def test_equal_boxes_apart_are_two():
    cloud, kind = cloud_of(TABLE, (*BOX, 1), (*block((0.06, -0.06, 0.0), (0.16, 0.06, 0.1)), 1))
    segments, _ = find_segments(cloud, CONFIG)
    assert len({own_segment(segments, kind, thing) for thing in range(3)}) == 3


def test_roughness_is_the_noise_across_a_surface():
    points, _ = face(2, 0.0, (-0.5, -0.5), (0.5, 0.5))
    rng = np.random.default_rng(3)
    points = points + rng.normal(0, 1, points.shape) * (0, 0, 0.002)
    # Of 24 points a plane through three parameters explains an eighth of the variance.
    assert roughness(points) == pytest.approx(0.002 * np.sqrt(21 / 24), rel=0.1)
    assert roughness(points[:10]) == 0.0     # too few to tell


def test_a_rough_table_is_one_surface_and_no_slice_of_things_is_one():
    cloud, kind = cloud_of((*face(2, 0.0, (-0.25, -0.2), (0.15, 0.2)), 0), (*BOX, 1))
    rough = cloud.points + np.random.default_rng(4).normal(0, 0.006, cloud.points.shape)
    above = np.tile([0.0, 0.0, 2.0], (len(rough), 1))
    segments, planes = find_segments(
        PointCloud(rough, surface_normals(rough, above), cloud.colors, cloud.dense), CONFIG)
    assert len(planes) == 1 and planes[0, :3] == pytest.approx([0, 0, 1], abs=0.02)
    assert own_segment(segments, kind, 0) == 0
    assert own_segment(segments, kind, 1) > 0


def test_behind_a_surface_is_under_it_and_within_its_outline():
    table = TABLE[0]
    asked = np.array([[0.0, 0.0, 0.3], [0.0, 0.0, -0.3], [0.52, 0.0, -0.3], [0.9, 0.0, -0.3],
                      [0.0, 0.0, -0.005]])
    points = np.concatenate([table, asked])
    labels = np.repeat([0, -1], [len(table), len(asked)])
    behind = behind_planes(points, labels, np.array([[0.0, 0.0, 1.0, 0.0]]), 0.02, 0.01)
    assert behind[-5:, 0].tolist() == [False, True, True, False, False]


def test_nothing_grows_through_a_surface():
    """A box on the table, and one that looks the same and hangs below where the first stands."""
    below = block((-0.1, -0.06, -0.12), (0.0, 0.06, -0.011))
    cloud, kind = cloud_of(TABLE, (*BOX, 1), (*below, 1))
    segments, _ = find_segments(cloud, CONFIG)
    assert own_segment(segments, kind, 1) != own_segment(segments, kind, 2)


def test_nothing_is_no_segment():
    cloud, _ = cloud_of(TABLE)
    segments, planes = find_segments(cloud[np.zeros(0, int)], CONFIG)
    assert segments.shape == (0,) and planes.shape == (0, 4)


def test_normals_are_unit_and_towards_the_cameras():
    points = np.random.default_rng(1).normal(size=(2000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)      # a ball, seen from outside
    normals = surface_normals(points, 3 * points)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert ((normals * points).sum(1) > 0).all()                 # towards the cameras
    assert np.median((normals * points).sum(1)) > 0.99           # and outward
    inside = surface_normals(points, 0 * points)
    assert ((inside * points).sum(1) < 0).all()


def test_a_plane_has_its_normal_whatever_the_number_of_points():
    flat = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)) * [1.0, 1.0, 0.0]
    for count in (300, 24, 3):
        normals = surface_normals(flat[:count], np.full((count, 3), [0.0, 0.0, 2.0]))
        assert normals == pytest.approx(np.tile([0.0, 0.0, 1.0], (count, 1)), abs=1e-6)
    for count in (2, 1, 0):     # any direction across: still unit
        normals = surface_normals(flat[:count], np.zeros((count, 3)))
        assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(count))


def turned(axes, size, center, count=4000):
    corner = np.random.default_rng(2).uniform(-0.5, 0.5, (count, 3))
    return (corner * size) @ axes.T + center


def test_an_upright_box_recovers_axes_and_sizes():
    angle = np.radians(33)
    axes = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, 1]])
    size, center = np.array([0.3, 0.1, 0.2]), np.array([1.0, -2.0, 0.4])
    box = upright_box(turned(axes, size, center), NO_PLANES, 0.0, 0.0)
    assert np.abs(box.rotation.T @ axes) == pytest.approx(np.eye(3), abs=0.03)
    assert np.linalg.det(box.rotation) == pytest.approx(1)
    assert box.size == pytest.approx(size, abs=0.01)
    assert box.center == pytest.approx(center, abs=0.005)


def test_a_minimal_box_is_turned_any_way():
    axes = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    size = np.array([0.3, 0.2, 0.1])
    box = minimal_box(turned(axes, size, np.ones(3)), 0.0)
    assert np.abs(box.rotation.T @ axes) == pytest.approx(np.eye(3), abs=0.05)
    assert np.linalg.det(box.rotation) == pytest.approx(1)
    assert box.size == pytest.approx(size, abs=0.02)


def test_a_minimal_box_of_a_round_thing_holds_it():
    angle = np.linspace(0, 2 * np.pi, 400)
    can = np.concatenate([np.stack([0.1 * np.cos(angle), 0.1 * np.sin(angle),
                                    np.full(400, height)], 1) for height in (-0.15, 0.15)])
    axes = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    box = minimal_box(can @ axes.T + 5.0, 0.0)
    assert box.size == pytest.approx([0.3, 0.2, 0.2], abs=0.002)
    assert box.contains(can @ axes.T + 5.0, 1e-6).all()


@pytest.mark.parametrize('points', [np.zeros((1, 3)), np.zeros((9, 3)),
                                    np.arange(9.0)[:, None] * [1.0, 2.0, 0.0]])
def test_a_minimal_box_of_what_has_no_volume(points):
    box = minimal_box(points, 0.0)
    assert box.contains(points, 1e-6).all()


def test_a_box_goes_down_to_what_the_thing_stands_on():
    points = turned(np.eye(3), np.array([0.1, 0.1, 0.06]), np.array([0.0, 0.0, 0.05]))
    planes = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.7], [1.0, 0.0, 0.0, 0.1]])
    box = upright_box(points, planes, 0.05, 0.0)     # its lowest point is 2 cm above the table
    assert box.size[2] == pytest.approx(0.08, abs=1e-3)
    assert box.center[2] == pytest.approx(0.04, abs=1e-3)
    assert upright_box(points, planes, 0.01, 0.0).size[2] == pytest.approx(0.06, abs=1e-3)


def query_of(cubes):
    return TextQuery(cube_index(cubes), WordEncoder(), QueryConfig(), 1.0)


def test_members_lie_in_the_box_and_are_the_things_own():
    query = query_of(CUBES)
    for word, (center, edge) in CUBES.items():
        (place,) = query.places(*query.relevancy(word), 0.68, 5)
        points = query.index.points_world[place.members]
        local = (points - place.hit.position) @ place.hit.rotation
        assert (np.abs(local) <= place.hit.size / 2 + 1e-6).all()
        assert place.hit.points == len(place.members) > 180      # of 216
        assert np.abs(points - center).max() <= edge / 2 + 1e-6


def test_a_thing_is_its_whole_segment_and_spill_is_no_place():
    """A fifth of a cube fits the word, and so does a ring of the floor beside it."""
    query = query_of(CUBES)
    points, segments = query.index.points_world, query.index.segments
    values = np.full(len(points), 0.3)
    values[np.flatnonzero(segments == 1)[:50]] = 0.9
    ring = (segments == 0) & (np.linalg.norm(points[:, :2], axis=1) < 0.1)
    assert ring.any()
    values[ring] = 0.9
    (place,) = query.places(values, np.zeros(len(points), int), 0.68, 5)
    assert (segments[place.members] == 1).all() and len(place.members) > 180


def test_what_hangs_above_the_rest_of_it_is_one_thing():
    lamp = {'mug': ((0.0, 0.0, 0.02), 0.04), 'plate': ((0.0, 0.0, 0.25), 0.1)}
    query = query_of(lamp)
    segments = query.index.segments
    values = np.where(segments > 0, 0.9, 0.3)
    (place,) = query.places(values, np.zeros(len(values), int), 0.68, 5)
    assert place.hit.size[2] == pytest.approx(0.3, abs=0.01)
    assert set(segments[place.members]) == {1, 2}


def test_a_segment_that_took_a_few_points_of_its_neighbour_does_not_come_first():
    """One fits by half of its points, the other by a dozen that are the most relevant of all."""
    query = query_of(CUBES)
    segments = query.index.segments
    values = np.full(len(segments), 0.3)
    first, second = (np.flatnonzero(segments == k) for k in (1, 2))
    values[second[:len(second) // 2]] = 0.95
    values[first[:30]] = 0.88
    values[first[:12]] = 0.96
    places = query.places(values, np.zeros(len(values), int), 0.7, 5)
    assert [int(segments[place.members[0]]) for place in places] == [2, 1]
    best = np.sort(values[places[1].members])[::-1][:round(0.1 * len(places[1].members))]
    assert places[1].hit.relevancy == pytest.approx(best.mean())


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_parts_are_split_as_average_linkage_splits_them(cells, difference, seed):
    agglomerative = pytest.importorskip('sklearn.cluster').AgglomerativeClustering
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.2, (cells, 3))
    touching = rng.random((cells, cells)) < 0.3
    touching |= touching.T | np.eye(cells, k=1, dtype=bool) | np.eye(cells, k=-1, dtype=bool)
    touching = csr_matrix(touching.astype(np.float32))
    expected = agglomerative(None, connectivity=touching, linkage='average',
                             distance_threshold=difference).fit_predict(features)
    found = split(features, touching, difference)
    together = expected[:, None] == expected
    assert ((found[:, None] == found) == together).all()

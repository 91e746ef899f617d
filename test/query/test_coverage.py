# SPDX-License-Identifier: Apache-2.0
"""What counts as seen, on a wall before a camera whose depths are known."""

import numpy as np
import pytest
import torch
from hand_made_map import CAMERA, CUBES, WordEncoder, write_map

import lerf_ros.map_query
from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.geometry.scene_frame import SceneFrame, contract, uncontract
from lerf_ros.index.coverage import Coverage, measure_coverage, voxel_centers
from lerf_ros.index.surface import view_grid
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Hit, Presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.presence import decide_presence
from lerf_ros.query.request import QueryRequest

SCENE = SceneFrame((1.0, 0.0, 0.0), 2.0)   # scene z of 0.5 is a world z of 1.0
CELLS = 32                                 # an edge of 1/8 scene radius, 0.25 world units


def wall_views(count=5, wall=0.53, step=2):
    """Cameras at the scene's centre that look along +z at a wall, and their depths."""
    view = view_grid(CAMERA, np.eye(4), step, None, torch.device('cpu'))
    shape = (len(range(1, CAMERA.height, 2)), len(range(1, CAMERA.width, 2)))
    z = view.rays.directions.numpy()[:, 2]
    return [view] * count, [(wall / z).reshape(shape)] * count


def coverage_of(count=5, needed=5, **arguments):
    return measure_coverage(*wall_views(count, **arguments), SCENE, CELLS, needed)


def box(center, size):
    T = np.eye(4)
    T[:3, 3] = center
    return Region(T, np.asarray(size, float))


BEFORE = box((1, 0, 0.7), (0.3, 0.3, 0.2))
BEHIND = box((1, 0, 1.8), (0.3, 0.3, 0.2))
ON = box((1, 0, 1.12), (0.3, 0.3, 0.2))
ASIDE = box((1.9, 0, 0.2), (0.3, 0.3, 0.2))
AROUND = box((1, 0, 1.2), (0.4, 0.4, 1.0))    # half of it before the wall, half in it


def test_uncontract_is_the_reverse_of_contract():
    points = torch.tensor([[0.2, -0.5, 0.9], [3.0, 1.0, -2.0], [-40.0, 0.0, 7.0]])
    assert torch.allclose(uncontract(contract(points)), points, rtol=1e-4, atol=1e-5)


def test_each_voxel_is_before_behind_or_beside():
    c = coverage_of()
    centers = voxel_centers(CELLS).reshape(CELLS, CELLS, CELLS, 3)
    axis = (np.abs(centers[..., :2]) < 0.1).all(-1)    # along the optical axis
    z = centers[..., 2]
    assert (c.free[axis & (z > 0.3) & (z < 0.42)] == 5).all()
    assert (c.surface[axis & (np.abs(z - 0.5625) < 0.01)] == 5).all()
    assert (c.hidden[axis & (z > 0.65)] == 5).all()
    counts = np.stack([c.free, c.surface, c.hidden])
    assert counts.sum(0).max() == 5 and not counts[:, z < 0].any()


@pytest.mark.parametrize(('region', 'observed'), [(BEFORE, 1.0), (BEHIND, 0.0), (ASIDE, 0.0),
                                                  (AROUND, 1.0)])
def test_only_what_light_came_through_was_observed(region, observed):
    # The inside of the wall is no space that could hold a thing: AROUND was seen all the same.
    assert coverage_of().observed(region) == observed


@pytest.mark.parametrize(('count', 'region', 'observed'), [
    (1, BEFORE, 0.0), (2, BEFORE, 1.0),         # through empty space two must have seen
    (4, ON, 0.0), (5, ON, 1.0)])                # of what is on a surface, five
def test_few_keyframes_are_not_enough(count, region, observed):
    views, depths = wall_views()
    away = view_grid(CAMERA, np.diag([-1.0, 1, -1, 1]), 2, None, torch.device('cpu'))
    views, depths = views[:count] + [away] * (30 - count), depths[:1] * 30
    assert measure_coverage(views, depths, SCENE, CELLS, 5).observed(region) == observed


def test_where_no_depth_was_rendered_nothing_is_known():
    views, depths = wall_views()
    c = measure_coverage(views, [np.full_like(d, np.nan) for d in depths], SCENE, CELLS, 5)
    assert not (c.free.any() or c.surface.any() or c.hidden.any())
    assert c.observed() == 0


def test_the_mapped_space_is_what_lies_at_the_surfaces_of_the_map():
    free, surface = np.zeros((2, 32, 32, 32), np.uint16)
    surface[20, 8:24, 8:24] = 5                # a wall of 16 x 16 voxels, seen well
    free[19, 8:24, 8:24] = 2                   # the layer before it, seen through
    hidden = np.zeros_like(free)
    hidden[21:, :, :] = 9                      # behind it
    c = Coverage(free, surface, hidden, np.array([0, 0, 0, 1.0]), np.array([5, 5], np.int32))
    # Of the layers 18 to 22, 20 x 20 voxels each, two are behind the wall.
    assert c.observed() == pytest.approx(2 * 16 * 16 / (3 * 20 * 20))


def test_a_turned_region_is_turned():
    T = np.eye(4)
    T[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]     # its first axis along the world's -z
    T[:3, 3] = (1, 0, 0.75)
    assert coverage_of().observed(Region(T, np.array([0.4, 0.1, 0.1]))) == 1.0
    assert coverage_of().observed(box((1, 0, 0.75), (4.0, 0.1, 0.1))) < 0.5


def hit(relevancy, keyframes):
    return Hit(np.zeros(3), np.eye(3), np.ones(3), relevancy, 0.1, 50, keyframes)


def test_three_answers():
    c = coverage_of()

    def judge(hits, candidate, coverage, region):
        place = MappedPlace.of(coverage, None, region, QueryConfig())
        return decide_presence(hits, candidate, place)
    assert judge((hit(0.9, 9),), hit(0.9, 9), c, ASIDE) == Presence.PRESENT
    assert judge((), None, c, BEFORE) == Presence.ABSENT
    assert judge((), None, c, ASIDE) == Presence.NOT_OBSERVED
    assert judge((), hit(0.6, 9), c, BEFORE) == Presence.ABSENT
    assert judge((), hit(0.6, 3), c, BEFORE) == Presence.NOT_OBSERVED   # 5 would be wished for
    assert judge((), hit(0.4, 3), c, BEFORE) == Presence.ABSENT         # loses to a negative
    assert judge((), None, None, ASIDE) == Presence.ABSENT


def test_a_map_answers_by_its_coverage(tmp_path, monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    free, surface, hidden = np.zeros((3, 32, 32, 32), np.uint16)
    free[16:] = 9                                     # the half with x > 0
    c = Coverage(free, surface, hidden, np.array([0, 0, 0, 1.0]), np.array([5, 5], np.int32))
    query = MapQuery(write_map(tmp_path, coverage=c.arrays()))
    query.refresh()
    region = {x: box((x, 0, 0.5), (0.4, 0.4, 0.4)) for x in (-0.5, 0.5)}
    assert query.ask(QueryRequest('ball', region=region[0.5])).presence == Presence.ABSENT
    unseen = query.ask(QueryRequest('ball', region=region[-0.5]))
    assert unseen.presence == Presence.NOT_OBSERVED and unseen.observed == 0
    present = query.ask(QueryRequest('plate', region=box(CUBES['plate'][0], (0.3, 0.3, 0.3))))
    assert present.presence == Presence.PRESENT and present.observed == 1

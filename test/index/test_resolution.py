# SPDX-License-Identifier: Apache-2.0
"""How finely the map resolves what was looked at, on a floor of points whose spacing is known."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import WordEncoder, plain_index, write_map

import lerf_ros.map_query
from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.resolution import (
    Resolution,
    measure_resolution,
    nearer_half,
)
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Presence
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.presence import decide_presence
from lerf_ros.show.words import summary

ORIGIN = np.array([100.0, 50.0, 0.0])
QUERY = QueryConfig(thing_size=0.1, min_points=20)      # 0.1 / sqrt(20) = 22 mm between points


def floor(x: tuple[float, float], spacing: float) -> np.ndarray:
    """Points (N, 3) of the floor for y from 0 to 1."""
    grid = np.meshgrid(np.arange(*x, spacing), np.arange(0, 1, spacing), [0.0])
    return np.stack(grid, -1).reshape(-1, 3)


def half_coarse() -> Resolution:
    """Points 1 cm apart for x from 0 to 1, 6 cm apart from 1 to 2; all of it was looked at."""
    points = np.concatenate([floor((0, 1), 0.01), floor((1, 2), 0.06)])
    return measured(floor((0, 2), 0.02), points)


def measured(looked_at: np.ndarray, points: np.ndarray) -> Resolution:
    """Both (N, 3) from ORIGIN."""
    index = plain_index(points, np.zeros((1, len(points), 9)), np.zeros(len(points)), np.ones(1))
    return measure_resolution([looked_at + ORIGIN], 1, replace(index, origin=ORIGIN), radius=1.2)


def test_what_few_keyframes_looked_at_does_not_count():
    """As the floor beside a table, which one image of fifty showed from close by."""
    everywhere, here = floor((0, 4), 0.05) + ORIGIN, floor((0, 1), 0.05) + ORIGIN
    index = replace(plain_index(floor((0, 1), 0.01), np.zeros((1, 10000, 9)), np.zeros(10000),
                                np.ones(1)), origin=ORIGIN)
    shares = [measure_resolution([here, everywhere, here], least, index, 1.2).share(0.1, 20)
              for least in (1, 2, 3, 4)]
    assert shares[0] < 0.4 and shares[1:] == [1.0, 1.0, 1.0]


def at(x: float, width: float = 0.6) -> Region:
    T = np.eye(4)
    T[:3, 3] = ORIGIN + [x, 0.5, 0.0]
    return Region(T, np.array([width, 0.6, 0.2]))


def test_spacing_is_how_far_apart_the_points_are():
    found = half_coarse()
    fine, coarse = (found.spacing[(found.points[:, 0] > low) & (found.points[:, 0] < low + 0.6)]
                    for low in (0.2, 1.2))
    assert np.median(fine) == pytest.approx(0.01, rel=0.15)
    assert np.median(coarse) == pytest.approx(0.06, rel=0.15)


def test_a_place_without_points_is_not_resolved_at_all():
    found = measured(floor((0, 6), 0.05), floor((0, 1), 0.01))
    assert np.isinf(found.spacing[found.points[:, 0] > 3]).all()
    assert not measured(floor((0, 1), 0.1), np.zeros((0, 3))).share(9.0, 1)


@pytest.mark.parametrize(('size', 'region', 'share'), [
    (0.1, None, 0.5), (0.1, at(0.5), 1.0), (0.1, at(1.5), 0.0), (0.4, None, 1.0),
    (0.1, at(9.0), 1.0)])       # nobody looked there: coverage tells that
def test_what_is_resolved_depends_on_the_size_of_the_thing(size, region, share):
    assert half_coarse().share(size, 20, region) == pytest.approx(share, abs=0.06)


def test_the_coarsest_place_is_named_in_the_world():
    where = half_coarse().coarsest()
    assert where is not None and 101 < where[0] < 102


def test_nothing_is_absent_from_what_is_mapped_too_coarsely():
    seen = np.full((8, 8, 8), 9, np.uint16)
    coverage = Coverage(seen, seen, 0 * seen, np.array([*ORIGIN, 1.2]), np.array([5, 5], np.int32))
    for region, presence in ((None, Presence.NOT_OBSERVED), (at(0.5), Presence.ABSENT),
                             (at(1.5), Presence.NOT_OBSERVED)):
        place = MappedPlace.of(coverage, half_coarse(), region, QUERY)
        assert decide_presence((), None, place) == presence
        assert bool(place.too_coarse) == (presence == Presence.NOT_OBSERVED)
    assert place.too_coarse.startswith(
        '100% of what the camera looked at is mapped too coarsely to tell whether a thing of 0.1 m')


def test_a_map_of_before_says_nothing_about_it():
    place = MappedPlace.of(None, None, None, QUERY)
    assert decide_presence((), None, place) == Presence.ABSENT and not place.too_coarse


def test_what_was_looked_at_is_the_nearer_half_and_all_of_it_is_stored():
    points = np.arange(12.0).reshape(4, 3)
    assert np.array_equal(nearer_half(points, np.array([4.0, 1, 2, 3])), points[[1, 2]])
    assert Resolution.from_arrays(half_coarse().arrays()).share(0.4, 20) == 1.0


def test_a_map_answers_by_its_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
    query = MapQuery(write_map(tmp_path, resolution=half_coarse().arrays()))
    query.refresh()
    missing, found = query.answer('things'), query.answer('mug')
    assert missing.presence == Presence.NOT_OBSERVED
    assert '% of what the camera looked at is mapped too coarsely' in summary(missing)
    assert found.presence == Presence.PRESENT and 'coarsely' not in summary(found)
    query.change({'query.thing_size': 0.4})             # as large as a chair: that would show
    assert query.answer('things').presence == Presence.ABSENT

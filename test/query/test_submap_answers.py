# SPDX-License-Identifier: Apache-2.0
"""Which submap speaks for which points: the one that has them nearest to its middle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.query.submap_answers import spoken_for
from lerf_ros.storage.submaps import SubmapPlace, SubmapSet


def turned_cubes(rng, count):
    """Cubes of two lattices, each somewhat moved and turned, as after loop closures."""
    places = []
    for _ in range(count):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix()
        T[:3, 3] = rng.normal(0, 0.5, 3)
        cell = tuple(int(i) for i in rng.integers(-2, 3, 3))
        lattice = SubmapLattice((0.1, 0.0, 0.0), 1.6, 0.1) if rng.random() < 0.3 else None
        places.append(SubmapPlace(cell, T, lattice))
    return SubmapSet(SubmapLattice((0.0, 0.0, 0.0), 1.0, 0.2), tuple(places))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.5, 4.0))
def test_a_submap_speaks_for_what_is_nearest_to_its_middle(seed, count, spread):
    rng = np.random.default_rng(seed)
    cubes, numbers = turned_cubes(rng, count), sorted(rng.permutation(count)[:max(count - 2, 1)])
    points = rng.normal(0, spread, (200, 3)) + cubes.middle(numbers[0])
    nearest = np.argmin([cubes.depth(number, points) for number in numbers], axis=0)
    for position, number in enumerate(numbers):
        assert np.array_equal(spoken_for(cubes, number, numbers, points), nearest == position)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(1.0, 2.0))
def test_cubes_that_share_a_point_overlap(seed, depth):
    rng = np.random.default_rng(seed)
    cubes = turned_cubes(rng, 6)
    points = rng.normal(0, 2, (300, 3))
    inside = np.array([cubes.depth(k, points) <= depth for k in range(6)])
    for one in range(6):
        found = cubes.overlapping(one, depth)
        assert one in found
        assert set(np.flatnonzero((inside & inside[one]).any(1)).tolist()) <= set(found)

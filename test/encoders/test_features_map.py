# SPDX-License-Identifier: Apache-2.0
"""EmbeddingMap: sampling a 2x2 map, worked out by hand."""

import numpy as np
import pytest

from lerf_ros.encoders.embedding_map import EmbeddingMap

E1, E2, E3 = np.eye(3, dtype=np.float32)


@pytest.fixture
def quad():
    """Cells at (10, 20), (30, 20), (10, 60), (30, 60): e1, e2, e3 and e1 + e2 in halves."""
    ids = np.array([[[0, 1], [1, 0]], [[2, 0], [0, 1]]], np.int32)
    weights = np.array([[[1, 0], [1, 0]], [[1, 0], [.5, .5]]], np.float16)
    return EmbeddingMap(40.0, (10.0, 20.0), (20.0, 40.0), ids, weights, np.eye(3, dtype=np.float32))


def test_at_a_cell_its_own_unit_embedding(quad):
    found = quad.sample(np.array([[10, 20], [30, 20], [10, 60], [30, 60]]))
    np.testing.assert_allclose(found, [E1, E2, E3, (E1 + E2) / np.sqrt(2)], atol=1e-6)


def test_between_cells_bilinear_and_not_renormalised(quad):
    found = quad.sample(np.array([[15, 20], [20, 40]]))
    np.testing.assert_allclose(found[0], .75 * E1 + .25 * E2, atol=1e-6)
    assert np.linalg.norm(found[0]) < 0.8   # sqrt(.75**2 + .25**2) = .79
    np.testing.assert_allclose(found[1], (E1 + E2 + E3 + (E1 + E2) / np.sqrt(2)) / 4, atol=1e-6)


def test_beyond_the_border_the_nearest_cell(quad):
    found = quad.sample(np.array([[-50, -50], [1000, 20], [10, 1e6]]))
    np.testing.assert_allclose(found, [E1, E2, E3], atol=1e-6)


def test_cell_centers_are_where_sampling_gives_the_cell(quad):
    np.testing.assert_allclose(quad.cell_centers(), [[[10, 20], [30, 20]], [[10, 60], [30, 60]]])
    np.testing.assert_allclose(quad.sample(quad.cell_centers().reshape(-1, 2)),
                               quad.cell_embeddings(np.arange(4)), atol=1e-6)


def test_no_pixels_and_a_single_cell(quad):
    assert quad.sample(np.empty((0, 2))).shape == (0, 3)
    one = EmbeddingMap(8.0, (4.0, 4.0), (8.0, 8.0), np.zeros((1, 1, 1), np.int32),
                       np.ones((1, 1, 1), np.float16), np.array([[0, 3, 4]], np.float32))
    np.testing.assert_allclose(one.sample(np.array([[7.0, 1.0]])), [[0, .6, .8]])


def test_ids_and_weights_must_match():
    with pytest.raises(ValueError, match=r'ids \(1, 1, 2\)'):
        EmbeddingMap(1.0, (0, 0), (1, 1), np.zeros((1, 1, 2), np.int32),
                     np.ones((1, 1, 1), np.float16), np.eye(3, dtype=np.float32))

# SPDX-License-Identifier: Apache-2.0
"""Sums of embeddings at points: as if each view of a point was interpolated by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.mapping import embedding_sums
from lerf_ros.mapping.embedding_sums import EmbeddingSums


def level_of(width_px, rng, rows=4, columns=5):
    """A map of random embeddings (6 of them, in 3 dimensions)."""
    return EmbeddingMap(width_px, (5.0, 4.0), (10.0, 9.0),
                        rng.integers(0, 6, (rows, columns, 2)).astype(np.int32),
                        rng.uniform(0.1, 1, (rows, columns, 2)).astype(np.float16),
                        rng.standard_normal((6, 3)).astype(np.float32))


def plainly(levels, pixels, widths_px):
    """Embeddings (N, D) at pixels for widths (N,), interpolated between the levels around each."""
    out = np.zeros((len(pixels), 3))
    for n, (pixel, width) in enumerate(zip(pixels, widths_px, strict=True)):
        for below, above in zip(levels[:-1], levels[1:], strict=True):
            if below.width_px <= width <= above.width_px:
                part = np.log(width / below.width_px) / np.log(above.width_px / below.width_px)
                out[n] = ((1 - part) * below.sample(pixel[None]) + part * above.sample(pixel[None]))
                break
        else:
            end = levels[0] if width < levels[0].width_px else levels[-1]
            out[n] = end.sample(pixel[None])
    return out


@given(st.integers(0, 1000), st.sampled_from([1, 30, 10 ** 6]))
@settings(max_examples=30, deadline=None)
def test_sums_are_those_of_each_view_by_itself(seed, most):
    rng, widths = np.random.default_rng(seed), (0.1, 0.3)
    sums, expected = EmbeddingSums(12, widths, 3), np.zeros((12, 2, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_sums, 'MOST_ENTRIES', most)
        for _ in range(4):
            levels = [level_of(width, rng) for width in (20.0, 40.0, 90.0)]
            index = rng.permutation(12)[:7]
            pixels, scale = rng.uniform(-5, 60, (7, 2)), rng.uniform(80, 900, 7)
            weight = rng.uniform(0, 2, 7)
            sums.add(levels, index, pixels, scale, weight)
            for s, width in enumerate(widths):
                expected[index, s] += weight[:, None] * plainly(levels, pixels, width * scale)
        np.testing.assert_allclose(sums.total(), expected, atol=1e-5)


def test_points_that_nothing_shows_have_no_embedding():
    assert not EmbeddingSums(3, (0.1,), 4).total().any()
    sums = EmbeddingSums(3, (0.1,), 3)
    sums.add([level_of(20.0, np.random.default_rng(0))], np.zeros(0, int), np.zeros((0, 2)),
             np.zeros(0), np.zeros(0))
    assert not sums.total().any()

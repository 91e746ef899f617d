# SPDX-License-Identifier: Apache-2.0
"""The crop pyramid: LERF's geometry and what lies in a crop."""

import numpy as np
import pytest

from lerf_ros.features.clip_pyramid import crop_grid, crops, encode_level, tile_grid


def test_paper_geometry():
    """Crops of LERF's seven levels on its 994 x 738 images, 1169 in all."""
    counts = [g.rows * g.cols for g in (tile_grid(994, 738, f) for f in np.linspace(.05, .5, 7))]
    assert counts == [588, 234, 154, 80, 48, 35, 30]


@pytest.mark.parametrize('side, stride', [(36, 36), (37, 36), (369, 184), (74, 55)])
def test_small_crops_overlap_less(side, stride):
    # 74 / 738 is 10 %: halfway from a whole crop at 5 % to half a crop at 15 %, 74 * .7486 = 55.
    assert crop_grid(994, 738, side).stride == stride


@pytest.mark.parametrize('side, origin', [(100, 0.0), (101, 0.5)])
def test_first_crop_is_centred_on_the_corner(side, origin):
    assert crop_grid(640, 480, side).origin_px == (origin, origin)


def test_crops_cover_the_image_and_are_black_outside():
    image = np.full((60, 80, 3), 200, np.uint8)
    grid = crop_grid(80, 60, 20)
    pieces = crops(image, grid)
    assert len(pieces) == grid.rows * grid.cols
    assert all(piece.shape == (20, 20, 3) for piece in pieces)
    first = pieces[0][..., 0]   # three quarters of it lie outside of the image
    assert (first[10:, 10:] == 200).all() and first.sum() == 10 * 10 * 200


class MeanColour:
    """A stand-in encoder: the mean colour of a crop, made unit."""

    name, dimension = 'mean colour', 3

    def encode_images(self, images):
        rows = np.stack([image.reshape(-1, 3).mean(0) for image in images])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_level_speaks_of_the_place_that_the_crop_showed():
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 0] = 255   # left half red, right half blue
    image[:, 48:, 2] = 255
    level = encode_level(MeanColour(), image, side=16, batch=7)
    assert level.width_px == 16
    left, right, border = level.sample(np.array([[20, 30], [80, 30], [48, 32]]))
    np.testing.assert_allclose(left, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(right, [0, 0, 1], atol=1e-6)
    assert border[0] == pytest.approx(border[2], abs=.02)   # both halves alike

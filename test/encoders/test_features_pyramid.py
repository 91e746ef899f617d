# SPDX-License-Identifier: Apache-2.0
"""The crop pyramid: LERF's geometry and what lies in a crop."""

import numpy as np
import pytest

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.pyramid import crop_grid, crops, encode_level, tile_grid

REFERENCE = (0.5, 0.0)   # overlaps of large and of small crops in LERF's released code
PAPER = (0.5, 0.5)


def paper_grids(overlaps):
    return [tile_grid(994, 738, part, *overlaps) for part in np.linspace(.05, .5, 7)]


def test_released_geometry():
    """Crops of LERF's seven levels on its 994 x 738 images, 1169 in all."""
    grids = paper_grids(REFERENCE)
    assert [g.rows * g.cols for g in grids] == [588, 234, 154, 80, 48, 35, 30]
    assert [g.side for g in grids] == [36, 92, 147, 202, 258, 313, 369]
    assert [g.stride for g in grids] == [36, 57, 73, 101, 129, 156, 184]
    assert (grids[0].rows, grids[0].cols, grids[1].rows, grids[1].cols) == (21, 28, 13, 18)


def test_the_settings_default_to_it():
    config = FeatureConfig()
    assert (config.overlap, config.overlap_small) == REFERENCE
    assert config.fractions == pytest.approx(tuple(np.linspace(.05, .5, 7)))


def test_half_of_every_crop_overlaps_in_the_paper():
    grids = paper_grids(PAPER)
    assert [g.stride for g in grids] == [g.side // 2 for g in grids]
    # 36 at stride 18: floor(994 / 18) + 1 = 56 columns, floor(738 / 18) + 1 = 42 rows.
    assert (grids[0].rows, grids[0].cols) == (42, 56)


@pytest.mark.parametrize('side, stride', [(36, 36), (37, 36), (369, 184), (74, 55)])
def test_small_crops_overlap_less(side, stride):
    # 74 / 738 is 10 %: halfway from a whole crop at 5 % to half a crop at 15 %, 74 * .7486 = 55.
    assert crop_grid(994, 738, side, *REFERENCE).stride == stride


@pytest.mark.parametrize('side, origin', [(100, 0.0), (101, 0.5)])
def test_first_crop_is_centred_on_the_corner(side, origin):
    """(k - 1) / 2 - k // 2 + 0.5: the released code's place with pixel centres at + 0.5."""
    grid = crop_grid(640, 480, side, *REFERENCE)
    assert grid.origin_px == (origin, origin) == ((side - 1) / 2 - side // 2 + .5,) * 2


def test_a_crop_needs_a_pixel():
    with pytest.raises(ValueError, match='at least 1'):
        tile_grid(40, 30, 0.01, *REFERENCE)


def test_crops_cover_the_image_and_are_black_outside():
    image = np.full((60, 80, 3), 200, np.uint8)
    grid = crop_grid(80, 60, 20, *REFERENCE)
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
    level = encode_level(MeanColour(), image, crop_grid(96, 64, 16, *REFERENCE), batch=7)
    assert level.width_px == 16
    left, right, border = level.sample(np.array([[20, 30], [80, 30], [48, 32]]))
    np.testing.assert_allclose(left, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(right, [0, 0, 1], atol=1e-6)
    assert border[0] == pytest.approx(border[2], abs=.02)   # both halves alike


class Squares(MeanColour):
    """Takes crops of one size together, and counts how many."""

    def __init__(self):
        self.shapes = []

    def encode_squares(self, squares):
        self.shapes.append(squares.shape)
        return self.encode_images(squares)


def test_crops_of_a_level_go_to_the_encoder_together():
    image = np.random.default_rng(0).integers(1, 255, (40, 40, 3), np.uint8)
    grid = crop_grid(40, 40, 20, *REFERENCE)   # 5 x 5 crops at stride 10
    together, encoder = Squares(), MeanColour()
    level = encode_level(together, image, grid, batch=16)
    assert together.shapes == [(16, 20, 20, 3), (9, 20, 20, 3)]
    np.testing.assert_array_equal(level.vocabulary,
                                  encode_level(encoder, image, grid, batch=3).vocabulary)


def test_embeddings_are_half_precision_values():
    image = np.random.default_rng(0).integers(1, 255, (40, 40, 3), np.uint8)
    found = encode_level(MeanColour(), image, crop_grid(40, 40, 20, *REFERENCE), 8).vocabulary
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.astype(np.float16))

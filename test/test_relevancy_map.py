# SPDX-License-Identifier: Apache-2.0
"""Relevancy maps: laws of the scale search and of the colours, and a map of the tiny world."""

import numpy as np
import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import CAMERA, CUBES, ColorEncoder, orbit, photograph

from lerf_ros.evaluation.full_search import least_softmax
from lerf_ros.evaluation.relevancy_map import (
    Phrases,
    best_scale,
    relevancy_overlay,
    render_relevancy,
)
from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.mapper import Mapper
from lerf_ros.show.colors import turbo
from lerf_ros.storage.map_directory import MapDirectory

CONFIG = SMALL.override({'features.widths': [0.1, 0.2]})
VIEW = orbit(1, start=0.2)[0]
LAST_COLOR = turbo(np.array([1.0]))[0]


@pytest.fixture(scope='module')
def mapper(tmp_path_factory):
    mapper = Mapper(CONFIG, MapDirectory(tmp_path_factory.mktemp('map'), True), ColorEncoder(),
                    'map', True)
    for T in orbit(18):
        mapper.add_frame(photograph(T))
    for _ in range(250):
        mapper.trainer.step()
    return mapper


def rendered(mapper, words, camera=CAMERA, per_pixel=False):
    trainer, encode = mapper.trainer, ColorEncoder().encode_texts
    low, high = trainer.trained_scales()
    phrases = Phrases(encode(words), encode(CONFIG.query.negatives), 10.0)
    return render_relevancy(trainer.radiance, trainer.language, trainer.scene, camera, VIEW,
                            phrases, np.geomspace(low, high, 3), per_pixel)


def silhouette(name, margin=2.0):
    """Smallest and largest pixel (x, y) of a cube's corners."""
    low, high = CUBES[name]
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
    pixels = CAMERA.project(transform_points(invert_pose(VIEW), corners))
    return pixels.min(0) - margin, pixels.max(0) + margin


@pytest.mark.parametrize('per_pixel', [False, True])
def test_each_word_peaks_inside_its_cube(mapper, per_pixel):
    view = rendered(mapper, list(CUBES), per_pixel=per_pixel)
    for name, relevancy in zip(CUBES, view.relevancy, strict=True):
        row, column = np.unravel_index(relevancy.argmax(), relevancy.shape)
        low, high = silhouette(name)
        pixel = np.array([column, row]) + 0.5
        assert relevancy.max() > 0.9
        assert (pixel >= low).all() and (pixel <= high).all(), name


def test_the_picture_is_what_the_camera_sees(mapper):
    view = rendered(mapper, ['red'])
    error = view.rgb.astype(float) - photograph(VIEW).image
    assert 10 * np.log10(255 ** 2 / np.square(error).mean()) > 16   # a grey image: about 14
    assert view.accumulation.shape == (CAMERA.height, CAMERA.width)
    assert view.accumulation.max() <= 1.001 and np.median(view.accumulation) > 0.9


def test_phrases_do_not_depend_on_each_other(mapper):
    both = rendered(mapper, ['green', 'blue'])
    for row, word in enumerate(['green', 'blue']):
        alone = rendered(mapper, [word])
        np.testing.assert_allclose(both.relevancy[row], alone.relevancy[0], atol=1e-5)
        assert both.scale[row] == alone.scale[0]


def test_any_camera_will_do(mapper):
    """Half as many pixels, through a lens, of the same place; a pixel's best is never less."""
    small = PinholeCamera(31, 23, 30.0, 29.0, 15.0, 12.0, (0.05, -0.01, 0.001, 0.0))
    one, each = (rendered(mapper, ['red'], small, per_pixel) for per_pixel in (False, True))
    assert one.relevancy.shape == each.relevancy.shape == (1, 23, 31)
    assert (one.scale.shape, each.scale.shape) == ((1,), (1, 23, 31))
    assert (each.relevancy >= one.relevancy - 1e-6).all()
    assert each.relevancy.max() == pytest.approx(one.relevancy.max(), abs=1e-6)


def test_one_scale_a_view_is_the_one_with_the_largest_maximum():
    values = torch.tensor([[[0.1, 0.8, 0.7], [0.2, 0.3, 0.2]],
                           [[0.9, 0.2, 0.1], [0.1, 0.1, 0.2]]])   # 2 scales, 2 phrases, 3 pixels
    relevancy, scale = best_scale(values, per_pixel=False)
    assert scale.tolist() == [1, 0]
    torch.testing.assert_close(relevancy, torch.tensor([[0.9, 0.2, 0.1], [0.2, 0.3, 0.2]]))
    relevancy, scale = best_scale(values, per_pixel=True)
    assert scale[0].tolist() == [1, 0, 0]
    torch.testing.assert_close(relevancy, torch.tensor([[0.9, 0.8, 0.7], [0.2, 0.3, 0.2]]))


def test_the_strongest_negative_decides():
    positive, negatives = torch.tensor([0.3]), torch.tensor([[0.1, 0.2]])
    # exp(3) / (exp(3) + exp(2)); against the weaker one it were exp(3) / (exp(3) + exp(1)).
    assert float(least_softmax(positive, negatives, 10.0)) == pytest.approx(0.731059, abs=1e-6)


RELEVANCY = np.array([[0.2, 0.49, 0.5], [0.55, 0.7, 0.6]])
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)


def test_colours_run_from_a_half_to_the_maximum():
    painted = relevancy_overlay(IMAGE, RELEVANCY)
    np.testing.assert_array_equal(painted[0, :2], IMAGE[0, :2])            # below 0.5
    np.testing.assert_array_equal(painted[1, 1], LAST_COLOR)               # the maximum
    np.testing.assert_array_equal(painted[0, 2], turbo(np.array([0.0]))[0])
    np.testing.assert_array_equal(painted[1, 2], turbo(np.array([0.5]))[0])   # 0.6: half way


def test_what_is_not_relevant_may_be_darkened():
    painted = relevancy_overlay(IMAGE, RELEVANCY, darken=True)
    np.testing.assert_array_equal(painted[0, :2], np.round(IMAGE[0, :2] * 0.4))
    np.testing.assert_array_equal(painted[1, 1], LAST_COLOR)


def test_where_nothing_is_relevant_the_image_stays():
    np.testing.assert_array_equal(relevancy_overlay(IMAGE, RELEVANCY * 0.7), IMAGE)


def test_each_phrase_has_its_own_mask():
    """The released code shows the image wherever the first phrase is below 0.5."""
    first, second = RELEVANCY, RELEVANCY[::-1]
    assert (relevancy_overlay(IMAGE, second)[0, 1] == LAST_COLOR).all()
    assert first[0, 1] < 0.5


def test_sizes_must_agree():
    with pytest.raises(ValueError, match='different sizes'):
        relevancy_overlay(IMAGE, RELEVANCY[:1])

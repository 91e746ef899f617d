# SPDX-License-Identifier: Apache-2.0
"""What scale a crop of an image has in the world, and which scales are searched for."""

import math

import numpy as np
import pytest
import torch

from lerf_ros.config import IndexConfig, LerfConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.scales import index_scales, search_limits, search_scales
from lerf_ros.training.language_targets import HIGH, LOW, ScaleHistogram
from lerf_ros.training.learners import LanguageLearner, LanguageSamples
from lerf_ros.training.ray_batches import KeyframeStore

CPU = torch.device('cpu')
RADIUS = 2.0   # world units
# Two cameras on one robot: of different sizes, and with pixels that are not square.
NARROW = PinholeCamera(100, 80, 200.0, 160.0, 50.0, 40.0)
WIDE = PinholeCamera(60, 40, 30.0, 20.0, 30.0, 20.0)
FRACTIONS = (0.1, 0.2, 0.4, 0.6)


def learner_of(rule, **features):
    config = LerfConfig().override({'language.scale_rule': rule, 'features': {
        'pyramid': 'fractions', 'fractions': FRACTIONS, **features}})
    return LanguageLearner(config, CPU, torch.Generator().manual_seed(0))


def store_of(*cameras):
    """A store with a black image of each camera, all at the origin."""
    store = KeyframeStore(SceneFrame((0.0, 0.0, 0.0), RADIUS), CPU)
    for index, camera in enumerate(cameras):
        image = np.zeros((camera.height, camera.width, 3), np.uint8)
        store.add(Keyframe(index, Frame(0, image, camera, np.eye(4), None)))
    return store


def middle_pixels(rows, distances):
    """A ray through the middle of the keyframe of each row, with samples at distances, radii."""
    store = store_of(NARROW, WIDE)
    at = torch.tensor([[50, 40] if row == 0 else [30, 20] for row in rows])
    distances = torch.tensor(distances)
    return LanguageSamples(store.gather(torch.tensor(rows), at), torch.ones_like(distances),
                           distances)


def scales_of(rule, rows, widths_px, distances):
    learner = learner_of(rule)
    return learner.scale(middle_pixels(rows, distances), torch.tensor(widths_px)), learner


def test_width_is_how_wide_the_crop_is_at_its_distance():
    scale, _ = scales_of('width', [0], [50.0], [[0.4, 0.8]])
    # 50 pixels at fx = 200 are a quarter of the distance: 0.1 and 0.2 radii.
    assert scale[0].tolist() == pytest.approx([0.1, 0.2])
    # The same in metres: at 1.6 m (0.8 radii of 2 m) a quarter is 0.4 m.
    assert float(scale[0, 1]) * RADIUS == pytest.approx(0.25 * 1.6)


def test_every_image_keeps_its_own_intrinsics_in_one_batch():
    """The released code takes those of the first camera for all."""
    rows, widths_px, distances = [0, 1], [16.0, 16.0], [[1.0], [1.0]]
    width, _ = scales_of('width', rows, widths_px, distances)
    assert width[:, 0].tolist() == pytest.approx([16 / 200, 16 / 30])
    reference, _ = scales_of('reference', rows, widths_px, distances)
    # Crops of 16 of 80 pixels are 0.2 of the height, 16 of 40 are 0.4; fractions from 0.1 to 0.6.
    # s H / f_y is then 0.2 * 80 / 160 and 0.6 * 40 / 20.
    assert reference[:, 0].tolist() == pytest.approx([0.1, 1.2])


def test_reference_goes_from_nothing_at_the_smallest_crop_to_the_height_at_the_largest():
    scale, _ = scales_of('reference', [0, 0, 0], [8.0, 28.0, 48.0], [[0.5], [0.5], [0.5]])
    # At 0.5 radii the image is H / f_y = 80 / 160 of that high: 0.25 radii. 28 is half way.
    assert scale[:, 0].tolist() == pytest.approx([0, 0.125, 0.25])


@pytest.mark.parametrize('height', [37, 72, 101, 738])
def test_reference_reaches_its_ends_at_any_height(height):
    """Crops are whole pixels: int(fraction * height), not the fraction itself."""
    fractions = (0.05, 0.29, 0.45)
    camera = PinholeCamera(height, height, 100.0, 100.0, height / 2, height / 2)
    batch = store_of(camera).gather(torch.zeros(2, dtype=torch.long), torch.zeros(2, 2).long())
    one = torch.ones(2, 1)
    crops = [float(int(part * height)) for part in (fractions[0], fractions[-1])]
    scale = learner_of('reference', fractions=fractions).scale(
        LanguageSamples(batch, one, one), torch.tensor(crops))
    assert scale[:, 0].tolist() == pytest.approx([0, height / 100])


def test_none_is_one_scale_for_all():
    scale, learner = scales_of('none', [0, 1], [8.0, 20.0], [[0.3, 0.6], [2.0, 9.0]])
    assert (scale == 1).all()
    low, high = learner.scales.limits()
    assert 0.94 < low < 1.001 and 0.999 < high < 1.07      # a bin is 6 % wide


@pytest.mark.parametrize('widths, trained, searched', [
    ((0.1, 0.5), [0.05] * 50 + [0.9] * 50, (0.1, 0.5)),     # beyond both ends: what was asked for
    ((0.1, 0.5), [0.2] * 50 + [0.9] * 50, (0.2, 0.5)),      # never trained below 0.2
    ((0.1, 0.5), [0.7] * 50 + [0.9] * 50, (0.7, 0.9)),      # nothing asked for was trained
])
def test_only_widths_that_were_asked_for_are_searched(widths, trained, searched):
    learner = learner_of('width', pyramid='widths', widths=widths)
    learner.scales.add(torch.tensor(trained))
    assert learner.trained_scales() == pytest.approx(searched, rel=0.07)   # a bin is 6 % wide


def test_a_pyramid_of_parts_of_the_image_is_searched_where_it_was_trained():
    learner = learner_of('width', widths=(0.1, 0.5))
    learner.scales.add(torch.tensor([0.05] * 50 + [0.9] * 50))
    assert learner.trained_scales() == learner.scales.limits()


def test_the_width_between_two_levels_is_linear_in_the_pyramid_by_fractions():
    learner = learner_of('width')
    learner.put(0, KeyframeFeatures(tuple(
        EmbeddingMap(side, (40.0, 40.0), (8.0, 8.0), np.zeros((1, 1, 1), np.int32),
                     np.ones((1, 1, 1), np.float16), np.eye(2, dtype=np.float32)[None, row])
        for row, side in enumerate((10.0, 30.0))), np.zeros((1, 1, 0), np.float16)))
    count = 2000
    target, width_px = learner.targets.embeddings(
        torch.zeros(count, dtype=torch.long), torch.full((count, 2), 40.0), learner.generator)
    # As far from 10 to 30 as from the first embedding to the second.
    torch.testing.assert_close(width_px, 10 + 20 * target[:, 1])
    assert abs(float(width_px.mean()) - 20) < 0.5      # 6 / sqrt(2000) = 0.13 is its deviation


def test_trained_scales_are_remembered_between_their_quantiles():
    scales = ScaleHistogram(CPU)
    assert scales.limits() == (LOW, HIGH)
    scales.add(torch.tensor([0.0]))                    # the smallest crop of `reference`
    assert scales.limits() == (LOW, HIGH)
    scales.add(torch.tensor([0.12] * 80 + [0.5] * 20))
    low, high = scales.limits()
    # A bin is a factor wide: (HIGH / LOW) ** (1 / 280) = 10 ** (7 / 280) = 1.06.
    assert low <= 0.12 <= low * 1.06
    assert high / 1.06 <= 0.5 <= high


TRAINED = (0.1, 0.8)   # scene radii


@pytest.mark.parametrize('unit, low, high, expected', [
    ('scene', 0.0, 1.5, (0.1, 0.8)),       # both ends were not trained
    ('scene', 0.2, 0.5, (0.2, 0.5)),       # all of it was
    ('world', 0.3, 1.0, (0.15, 0.5)),      # metres by a radius of 2 m
    ('world', 0.0, 2.0, (0.1, 0.8)),       # 2 m are 1 radius: beyond what was trained
    ('world', 0.0, 1.2, (0.1, 0.6)),
    ('world', 3.0, 4.0, (0.8, 0.8)),       # nothing of it was: the nearest alone
])
def test_a_search_keeps_to_what_was_trained(unit, low, high, expected):
    config = IndexConfig(search_low=low, search_high=high, search_unit=unit)
    assert search_limits(config, RADIUS, TRAINED) == pytest.approx(expected)


def test_a_full_search_is_even_and_the_index_even_in_the_logarithm():
    config = IndexConfig(search_low=0.2, search_high=1.6, search_steps=3, scales=4)
    assert search_scales(config, RADIUS, TRAINED) == pytest.approx((0.1, 0.45, 0.8))
    assert index_scales(config, RADIUS, TRAINED) == pytest.approx((0.1, 0.2, 0.4, 0.8))
    one = IndexConfig(search_low=0.2, search_high=1.6, scales=1)
    assert index_scales(one, RADIUS, TRAINED) == pytest.approx((math.sqrt(0.08),))


def test_the_released_search_range_does_not_depend_on_the_size_of_the_world():
    reference = IndexConfig(search_high=1.5, search_unit='scene')
    paper = IndexConfig(search_high=2.0, search_unit='world')
    wide = (0.01, 10.0)
    assert search_limits(reference, 0.5, wide) == search_limits(reference, 50.0, wide)
    assert search_limits(paper, 0.5, wide)[1] == pytest.approx(4.0)    # 2 m are 4 radii
    assert search_limits(paper, 50.0, wide)[1] == pytest.approx(0.04)

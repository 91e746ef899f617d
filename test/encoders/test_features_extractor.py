# SPDX-License-Identifier: Apache-2.0
"""Which sizes an image is encoded at, and what the robot's own gripper does to it: nothing."""

import numpy as np
import pytest

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.extractor import FeatureExtractor, fill_masked
from lerf_ros.encoders.pyramid import crop_sides, resize_factors
from lerf_ros.errors import ConfigError
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(640, 480, 600.0, 600.0, 320.0, 240.0)


class DenseFake:
    """Keeps what it was asked; a cell speaks of 180 pixels of the resized image."""

    name, dimension, receptive_px = 'fake', 3, 180.0

    def __init__(self):
        self.seen = []

    def identity(self):
        return {'name': self.name}

    def encode_texts(self, texts):
        return np.tile(np.eye(3, dtype=np.float32)[0], (len(texts), 1))

    encode_images = encode_texts

    def dense(self, image, factor):
        self.seen.append((image, factor))
        return EmbeddingMap(self.receptive_px / factor, (0, 0), (32 / factor, 32 / factor),
                            np.zeros((2, 2, 1), np.int32), np.ones((2, 2, 1), np.float16),
                            np.eye(3, dtype=np.float32))


class DenseFakeWithFeatures(DenseFake):

    def dense_with_features(self, image, factor):
        return self.dense(image, factor), np.full((1, 1, 1), factor, np.float16)


class CropFake:
    name, dimension = 'crops', 3

    def identity(self):
        return {'name': self.name}

    def encode_texts(self, texts):
        return np.ones((len(texts), 3), np.float32)

    encode_images = encode_texts


def frame(image=None, valid=None):
    image = np.zeros((480, 640, 3), np.uint8) if image is None else image
    return Frame(0, image, CAMERA, np.eye(4), valid=valid)


def test_a_width_in_the_world_becomes_the_receptive_field():
    """0.3 m at 1 m with fx 600 are 180 pixels, the field at factor 1; half of it needs 2."""
    found = FeatureExtractor(DenseFake(), FeatureConfig()).extract(frame(), (0.15, 0.3), 1.0)
    assert [level.width_px for level in found.levels] == pytest.approx([90, 180])


def test_a_width_that_cannot_be_had_is_told_once(caplog):
    """0.05 m at 1 m are 30 pixels: factor 6, but 1280 of 640 pixels are 2, which is 0.15 m."""
    extractor = FeatureExtractor(DenseFake(), FeatureConfig())
    for _ in range(2):
        extractor.extract(frame(), (0.05, 0.3), 1.0)
    (told,) = [record.getMessage() for record in caplog.records]
    assert '0.15 world units instead of 0.05' in told
    assert 'features.max_side is 1280: raise it to 3840' in told
    extractor.extract(frame(), (0.05, 0.3), 2.0)        # from farther away it is worse
    assert '0.3 world units instead of 0.05' in caplog.records[-1].getMessage()
    FeatureExtractor(CropFake(), FeatureConfig()).extract(frame(), (0.02,), 1.0)
    assert 'crops are at least 5% of the height' in caplog.records[-1].getMessage()


def test_what_can_be_had_is_not_told(caplog):
    FeatureExtractor(DenseFake(), FeatureConfig()).extract(frame(), (0.15, 0.3), 1.0)
    assert caplog.records == []


def test_twice_as_far_is_half_the_width():
    near = resize_factors([100.0], 180.0, 640, 4000)
    far = resize_factors([50.0], 180.0, 640, 4000)
    assert far[0] == pytest.approx(2 * near[0])


def test_factors_are_clamped_and_merged():
    # 180 / 10 = 18 is cut to 1280 / 640 = 2; 180 / 2000 = .09 is raised to .25; 1 and 1.1 are one.
    assert resize_factors([10, 180, 180 / 1.1, 2000], 180, 640, 1280) == pytest.approx([.25, 1, 2])


def test_a_huge_image_is_never_larger_than_allowed():
    assert resize_factors([100], 180, 8000, 1280) == pytest.approx([.16])


def test_crops_between_a_twentieth_and_all_of_the_height():
    assert crop_sides([1, 100, 105, 5000], height=480, width=640) == [24, 100, 480]


def test_crops_for_an_encoder_that_is_not_dense():
    found = FeatureExtractor(CropFake(), FeatureConfig()).extract(frame(), (0.2, 0.1), 1.0)
    assert [level.width_px for level in found.levels] == [60, 120]
    assert found.dense.shape[2] == 0


FRACTIONS = FeatureConfig(pyramid='fractions', fractions=(0.5, 0.05, 0.1))


def test_crops_at_parts_of_the_image_height():
    """Widest last, and none merged: the level is the scale. 480 * .05 = 24."""
    found = FeatureExtractor(CropFake(), FRACTIONS).extract(frame())
    assert [level.width_px for level in found.levels] == [24, 48, 240]
    # Crops of 5 % do not overlap: 640 / 24 + 1 columns, 480 / 24 + 1 rows.
    assert found.levels[0].shape == (21, 27)
    close = FeatureConfig(pyramid='fractions', fractions=(0.1, 0.11, 0.12))
    assert len(FeatureExtractor(CropFake(), close).extract(frame()).levels) == 3


def test_overlap_is_a_setting():
    config = FeatureConfig(pyramid='fractions', fractions=(0.05, 0.5), overlap=0.75,
                           overlap_small=0.5)
    small, large = FeatureExtractor(CropFake(), config).extract(frame()).levels
    assert small.stride_px == (12, 12) and large.stride_px == (60, 60)


def test_a_dense_encoder_is_resized_to_parts_of_the_image_height():
    """A cell speaks of 180 pixels of the resized image: 240 and 120 of 480 are the factors .75
    and 1.5."""
    encoder = DenseFake()
    config = FeatureConfig(pyramid='fractions', fractions=(0.25, 0.5))
    found = FeatureExtractor(encoder, config).extract(frame())
    assert [factor for _, factor in encoder.seen] == pytest.approx([.75, 1.5])
    assert [level.width_px for level in found.levels] == pytest.approx([120, 240])


def test_a_pyramid_without_levels_is_refused():
    with pytest.raises(ConfigError, match='fractions'):
        FeatureExtractor(CropFake(), FeatureConfig(pyramid='fractions', fractions=()))


def test_border_features_come_from_the_run_nearest_to_full_size():
    found = FeatureExtractor(DenseFakeWithFeatures(), FeatureConfig()).extract(
        frame(), (0.15, 0.3 / 0.9, 0.6), 1.0)   # factors 2, .9, .5
    assert found.dense.item() == pytest.approx(.9, abs=1e-3)


def test_masked_pixels_take_the_mean_colour_of_the_rest():
    image = np.full((480, 640, 3), 100, np.uint8)
    image[:, 320:] = 200
    valid = np.ones((480, 640), bool)
    image[400:] = 0   # the gripper
    valid[400:] = False
    encoder = DenseFake()
    FeatureExtractor(encoder, FeatureConfig()).extract(frame(image, valid), (0.3,), 1.0)
    seen = encoder.seen[0][0]
    assert (seen[400:] == 150).all()
    assert (seen[:400] == image[:400]).all() and (image[400:] == 0).all()


def test_a_mask_that_hides_everything_or_nothing_changes_nothing():
    image = np.full((4, 4, 3), 7, np.uint8)
    assert fill_masked(image, np.zeros((4, 4), bool)) is image
    assert fill_masked(image, None) is image


@pytest.mark.parametrize('widths, depth', [((), 1.0), ((0.0,), 1.0), ((0.1,), 0.0),
                                           ((0.1,), float('nan'))])
def test_widths_and_depth_must_be_positive(widths, depth):
    with pytest.raises(ValueError, match='must be'):
        FeatureExtractor(DenseFake(), FeatureConfig()).extract(frame(), widths, depth)


def test_an_image_that_several_submaps_see_is_encoded_once_at_each_size():
    encoder, picture = DenseFakeWithFeatures(), np.ones((480, 640, 3), np.uint8)
    extractor = FeatureExtractor(encoder, FeatureConfig())
    first = extractor.extract(frame(picture), [0.5], 1.0)
    again = extractor.extract(frame(picture.copy()), [0.5], 1.0)
    assert len(encoder.seen) == 1 and again.levels == first.levels
    extractor.extract(frame(picture), [0.5, 1.0], 1.0)          # one more size
    extractor.extract(frame(2 * picture), [0.5], 1.0)           # another image
    extractor.extract(frame(picture), [0.5], 1.0)               # which is forgotten by now
    assert [image.max() for image, _ in encoder.seen] == [1, 1, 2, 1]

# SPDX-License-Identifier: Apache-2.0
"""An encoder that does not fit into memory gets less at once, says so, and gives the same."""

import numpy as np
import pytest
import torch
from test_features_extractor import CropFake, DenseFake, frame

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.errors import TrainingFailedError

# 480 * .5 = 240: one level of crops, more than a dozen of them.
CONFIG = FeatureConfig(pyramid='fractions', fractions=(0.5,), batch=16)
# 180 pixels for 24 of the image: a factor of 7.5, which max_side cuts to 1280 / 640 = 2.
DENSE = FeatureConfig(pyramid='fractions', fractions=(0.05,))


class Narrow(CropFake):
    """Fails for more than `fits` crops at once; an embedding tells the crop's mean colour."""

    def __init__(self, fits):
        self.fits, self.sizes = fits, []

    def encode_images(self, images):
        if len(images) > self.fits:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nmore')
        self.sizes.append(len(images))
        return np.array([image.mean((0, 1)) for image in images], np.float32) / 255


class Large(DenseFake):
    """Fails for images whose longer side is above `fits` pixels."""

    fits = 400

    def dense(self, image, factor):
        if factor * 640 > self.fits:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return super().dense(image, factor)


def noise():
    return frame(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))


def test_out_of_memory_halves_the_batch_and_says_so():
    narrow = Narrow(5)
    extractor = FeatureExtractor(narrow, CONFIG)
    (level,) = extractor.extract(noise()).levels
    assert extractor.limits.batch == 4 and max(narrow.sizes) == 4       # 16, 8, 4
    assert '4 crops are encoded at once from now on (features.batch is 16)' in \
        extractor.limits.message
    (same,) = FeatureExtractor(Narrow(10**6), CONFIG).extract(noise()).levels
    np.testing.assert_array_equal(level.vocabulary, same.vocabulary)
    narrow.fits = 10**6
    extractor.extract(noise())
    assert max(narrow.sizes) == 4       # it stays with what fits


def test_a_dense_encoder_sees_smaller_images():
    encoder = Large()
    extractor = FeatureExtractor(encoder, DENSE)
    (level,) = extractor.extract(frame()).levels
    assert [factor for _, factor in encoder.seen] == [320 / 640]        # 1280, 640, 320
    assert level.width_px == pytest.approx(180 / 0.5)
    assert 'with 320 pixels at most from now on (features.max_side is 1280)' in \
        extractor.limits.message


@pytest.mark.parametrize(('encoder', 'config', 'words'), [
    (Narrow(0), CONFIG, 'a single crop does not fit'),
    (type('Never', (Large,), {'fits': 0})(), DENSE, 'an image of 160 pixels does not fit')])
def test_memory_for_nothing_ends_with_a_name(encoder, config, words):
    with pytest.raises(TrainingFailedError, match=words):
        FeatureExtractor(encoder, config).extract(frame())


def test_enough_memory_changes_nothing():
    extractor = FeatureExtractor(Narrow(16), CONFIG)
    extractor.extract(noise())
    assert (extractor.limits.batch, extractor.limits.message) == (16, '')

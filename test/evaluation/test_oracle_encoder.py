# SPDX-License-Identifier: Apache-2.0
"""The oracle encoder on masks so small that areas are counted by hand."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'bench'))

from oracle_encoder import OracleEncoder, OracleExtractor, between, running_sums

NAMES = ('wall', 'mug', 'table')
# Two columns of wall, then a mug above the table.
LABELS = np.array([[0, 0, 1, 1],
                   [0, 0, 1, 1],
                   [0, 0, 2, 2],
                   [0, 0, 2, 2]], np.int32)


class AxisSentences:
    """Every phrase is an axis of its own, in the order in which phrases are heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.heard += [text for text in texts if text not in self.heard]
        return np.eye(8, dtype=np.float32)[[self.heard.index(text) for text in texts]]

    def version(self) -> str:
        return 'axes 1'


@pytest.fixture
def encoder() -> OracleEncoder:
    return OracleEncoder(AxisSentences())


def test_sums_between_positions_within_pixels():
    sums = running_sums(np.array([[1, 10, 100]]))
    np.testing.assert_array_equal(sums, [[0, 1, 11, 111]])
    # Three quarters of 1 and of 10; then what lies before the first and after the last is nothing.
    np.testing.assert_allclose(
        between(sums, np.array([0.25, -0.5, 2.5]), np.array([1.75, 1.0, 9.0])), [[8.25, 1, 50]])


def test_weights_are_the_areas_in_the_crop(encoder):
    (level,) = encoder.keyframe_features(LABELS, NAMES, [2.0], stride_px=2).levels
    assert level.shape == (2, 2) and level.origin_px == (1.0, 1.0) and level.stride_px == (2, 2)
    # The crops are the quarters of the image: wall, mug, wall, table.
    np.testing.assert_array_equal(level.ids[..., 0], [[0, 1], [0, 2]])
    np.testing.assert_array_equal(level.weights[..., 0], 1)
    np.testing.assert_array_equal(level.weights[..., 1:], 0)


def test_what_sticks_out_over_the_border_does_not_count(encoder):
    (level,) = encoder.keyframe_features(LABELS, NAMES, [4.0], stride_px=2).levels
    # The crop about (3, 1) spans x 1 to 5 and y -1 to 3, inside: one column of wall (3 pixels),
    # two columns of which 4 pixels are mug and 2 table.
    pairs = zip(level.ids[0, 1].tolist(), level.weights[0, 1].tolist(), strict=True)
    shares = {label: share for label, share in pairs if share}
    assert shares == pytest.approx({0: 3 / 9, 1: 4 / 9, 2: 2 / 9}, abs=1e-3)
    expected = (3 * encoder.vocabulary(NAMES)[0] + 4 * encoder.vocabulary(NAMES)[1]
                + 2 * encoder.vocabulary(NAMES)[2]) / np.sqrt(9 + 16 + 4)
    np.testing.assert_allclose(level.cell_embeddings(np.array([1]))[0], expected, atol=1e-3)


def test_the_five_largest_labels_are_kept(encoder):
    names = ('a', 'b', 'c', 'd', 'e', 'f')
    labels = np.array([[5, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 1, 1, 0]], np.int32)
    (level,) = encoder.keyframe_features(labels, names, [99.0], stride_px=99).levels
    np.testing.assert_array_equal(level.ids, [[[5, 4, 3, 2, 1]]])
    np.testing.assert_allclose(level.weights[0, 0], np.array([6, 5, 4, 3, 2]) / 21, atol=1e-3)


def test_levels_share_one_vocabulary_and_come_narrowest_first(encoder):
    features = encoder.keyframe_features(LABELS, NAMES, [4.0, 2.0])
    again = encoder.keyframe_features(LABELS, NAMES, [3.0])
    assert [level.width_px for level in features.levels] == [2.0, 4.0]
    assert features.levels[0].vocabulary is again.levels[0].vocabulary
    np.testing.assert_array_equal(encoder.vocabulary(NAMES)[1], encoder.encode_texts(['mug'])[0])


def test_dense_features_are_the_same_within_a_label_and_at_right_angles_across(encoder):
    features = encoder.keyframe_features(np.kron(LABELS, np.ones((8, 8), np.int32)), NAMES, [8.0])
    dense = features.dense.astype(float)
    assert dense.shape == (4, 4, 3) and features.dense.dtype == np.float16
    cosines = np.einsum('abc,dec->abde', dense, dense)
    same = LABELS[:, :, None, None] == LABELS
    np.testing.assert_allclose(cosines, same, atol=2e-3)


def test_a_dense_cell_on_a_border_lies_between_both(encoder):
    labels = np.zeros((8, 8), np.int32)
    labels[:, 4:] = 1
    both = encoder.keyframe_features(labels, NAMES, [8.0]).dense[0, 0].astype(float)
    wall, mug = (encoder.keyframe_features(np.full((8, 8), k, np.int32), NAMES, [8.0])
                 .dense[0, 0].astype(float) for k in (0, 1))
    assert both @ wall == pytest.approx(0.5 ** 0.5, abs=2e-3) == both @ mug


def test_pixels_without_a_label_and_images_are_refused(encoder):
    with pytest.raises(ValueError, match='every pixel'):
        encoder.keyframe_features(LABELS - 1, NAMES, [2.0])
    with pytest.raises(ValueError, match='every pixel'):
        encoder.keyframe_features(LABELS, NAMES[:2], [2.0])
    with pytest.raises(TypeError, match='label masks'):
        encoder.encode_images([np.zeros((4, 4, 3), np.uint8)])


def test_identity_names_the_oracle_and_the_weights_of_its_texts(encoder):
    assert encoder.identity()['name'] == 'oracle'
    assert encoder.identity()['weights'] == 'axes 1'


def test_the_extractor_turns_widths_in_the_world_into_pixels(encoder):
    labels = np.kron(LABELS, np.ones((20, 20), np.int32))   # 80 x 80
    frame = Frame(7, np.zeros((80, 80, 3), np.uint8), PinholeCamera(80, 80, 100, 100, 40, 40),
                  np.eye(4))
    features = OracleExtractor(encoder, {7: labels}, NAMES).extract(frame, (0.2, 0.4), 2.0)
    # 0.2 m at 2 m is 10 of 100 px focal length.
    assert [level.width_px for level in features.levels] == [10, 20]

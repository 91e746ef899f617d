# SPDX-License-Identifier: Apache-2.0
"""What every encoder must hold: a new one is added to `tiny_models.BUILDERS` and passes this."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

import tiny_models  # noqa: E402

from lerf_ros.encoders import image_text, radio_checkpoint  # noqa: E402
from lerf_ros.encoders.card import ModelCard  # noqa: E402
from lerf_ros.encoders.image_text import DenseEncoder, SquareEncoder, load_encoder  # noqa: E402

TEXTS = ['red mug', 'a plant', 'object']
# Encoders whose head gives one cell what it gives a flat image. The others compare patches with
# text that were trained to stand for the whole only together with trained weights.
ALIKE = {'siglip2', 'mobileclip2'}


@pytest.fixture(scope='module', params=list(image_text.ENCODERS))
def config(request, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setitem(radio_checkpoint.NETWORKS, (128, 3),
                  ('naflexvit_base_patch16_radio_v3', tiny_models.RADIO_SIZES))
    yield tiny_models.BUILDERS[request.param](tmp_path_factory.mktemp('model') / request.param)
    patch.undo()


@pytest.fixture(scope='module')
def encoder(config):
    return load_encoder(config)


def photo(height=96, width=128):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def assert_unit(rows, dimension):
    assert rows.dtype == np.float32 and rows.shape[1] == dimension
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-3)


def test_texts_and_crops_are_unit_rows_of_the_dimension(encoder):
    assert_unit(encoder.encode_texts(TEXTS), encoder.dimension)
    rows = encoder.encode_images([photo(40, 60), photo(64, 64), photo(33, 17)])
    assert_unit(rows, encoder.dimension)
    assert np.abs(rows[0] - rows[1]).max() > 1e-5   # different images


def test_texts_do_not_depend_on_what_is_encoded_with_them(encoder):
    together = encoder.encode_texts(TEXTS)
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_crops_together_are_crops_one_by_one(encoder):
    if not isinstance(encoder, SquareEncoder):
        pytest.skip('it takes images only')
    squares = np.stack([photo(48, 48), photo(48, 48)[::-1]])
    together = encoder.encode_squares(squares)
    assert_unit(together, encoder.dimension)
    assert ((together * encoder.encode_images(list(squares))).sum(1) > 0.999).all()


@pytest.mark.parametrize('factor', [0.75, 2.0])
def test_a_dense_map_covers_the_image_evenly(encoder, factor):
    assert isinstance(encoder, DenseEncoder)
    image = photo(112, 160)
    found = encoder.dense(image, factor)
    assert_unit(found.cell_embeddings(np.arange(found.shape[0] * found.shape[1])),
                encoder.dimension)
    rows, cols = found.shape
    for axis, (extent, count) in enumerate([(160, cols), (112, rows)]):
        assert count * found.stride_px[axis] == pytest.approx(extent)
        assert 0 < found.origin_px[axis] < found.stride_px[axis]
    assert found.width_px == pytest.approx(encoder.receptive_px / factor, rel=0.15)


def test_a_flat_image_is_the_same_everywhere_and_as_a_crop(encoder, config):
    """Away from the border, which convolutions see."""
    flat = np.full((320, 320, 3), 90, np.uint8)
    found = encoder.dense(flat, 1.0)
    rows, cols = found.shape
    cells = found.cell_embeddings(np.arange(rows * cols)).reshape(rows, cols, -1)
    middle = cells[rows // 2 - 1:rows // 2 + 1, cols // 2 - 1:cols // 2 + 1].reshape(4, -1)
    # conse sees so wide that even the middle notices the border.
    assert (middle @ middle[0]).min() > (0.95 if config.encoder == 'conse' else 0.999)
    crop = encoder.encode_images([flat])[0]
    if config.encoder in ALIKE:
        assert (middle @ crop).min() > 0.9


def test_without_images_phrases_and_identity_stay(encoder, config):
    light = load_encoder(config, text_only=True)
    np.testing.assert_allclose(light.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-6)
    assert light.identity() == encoder.identity()
    assert light.dimension == encoder.dimension and light.margin == encoder.margin
    with pytest.raises(RuntimeError, match='text_only'):
        light.encode_images([photo()])


def test_the_identity_names_encoder_model_and_weights(encoder, config):
    found = encoder.identity()
    assert found['name'] == config.encoder == encoder.name
    assert set(found) == {'name', 'model', 'weights'} and all(found.values())


def test_its_card_tells_licence_and_size(encoder, config, caplog):
    assert isinstance(encoder.card, ModelCard)
    assert encoder.card.licence and encoder.card.parameters > 1000
    caplog.set_level('INFO')
    load_encoder(config)
    assert f'encoder {config.encoder}: ' in caplog.text and 'licence' in caplog.text


def test_it_moves_to_a_gpu(config, encoder):
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    there = load_encoder(config, 'cuda')
    cosines = (there.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(1)
    assert cosines.min() > 0.99
    found, expected = (e.dense(photo(), 1.0).cell_embeddings(np.arange(4))
                       for e in (there, encoder))
    assert (found * expected).sum(1).min() > 0.98

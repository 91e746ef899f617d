# SPDX-License-Identifier: Apache-2.0
"""Choosing an encoder, and the open_clip path with a small checkpoint on disk."""

import socket

import numpy as np
import pytest
from openclip_checkpoint import SHARED, openclip_checkpoint

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders import dino as dense_features
from lerf_ros.encoders import hub
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.encoders.hub import require
from lerf_ros.encoders.image_text import DenseEncoder, SquareEncoder, load_encoder
from lerf_ros.errors import EncoderUnavailableError

PHOTO = SHARED / 'data' / 'apple_banana' / 'images' / 'IMG_3690.jpg'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return openclip_checkpoint(tmp_path_factory.mktemp('openclip'))


@pytest.fixture(scope='module')
def encoder(checkpoint):
    return load_encoder(FeatureConfig(encoder='openclip', openclip_model=checkpoint))


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub whose name is known but where nobody answers, and an empty cache."""
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(hub, 'hub_reachable', lambda endpoint: False)
    return tmp_path


def test_unknown_encoder_names_the_nearest_and_all_known():
    with pytest.raises(EncoderUnavailableError) as raised:
        load_encoder(FeatureConfig(encoder='open_clip'))
    assert "did you mean 'openclip'" in str(raised.value)
    assert 'conse, openclip' in str(raised.value)
    assert raised.value.code == 'ENCODER_UNAVAILABLE'


def test_missing_package_says_how_to_install_it():
    with pytest.raises(EncoderUnavailableError, match=r"pip install '\.\[offline\]'"):
        require('a_module_that_nobody_wrote', 'offline')


def test_no_hub_names_model_cache_and_offline_encoder(no_hub):
    pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    with pytest.raises(EncoderUnavailableError) as raised:
        load_encoder(FeatureConfig(encoder='openclip'))
    for part in ('ViT-B-16', 'laion2b_s34b_b88k', str(no_hub), "'conse'"):
        assert part in str(raised.value)


def test_no_hub_leaves_dense_features_off_with_a_warning(no_hub, caplog):
    pytest.importorskip('timm', reason='extra `openclip` is not installed')
    assert dense_features.load_dense_features(FeatureConfig()) is None
    assert 'vit_small_patch8_224.dino' in caplog.text and 'hub' in caplog.text


def test_the_hub_client_is_left_as_it_was(no_hub):
    from huggingface_hub import constants
    before = constants.HF_HUB_OFFLINE
    with hub.hub_or_cache():
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_a_host_that_answers_is_reachable_and_a_closed_port_is_not(monkeypatch):
    monkeypatch.setattr('urllib.request.getproxies', dict)
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'http://127.0.0.1:{server.getsockname()[1]}'
        assert hub.hub_reachable(url)
    assert not hub.hub_reachable(url)


@pytest.mark.parametrize('settings, part', [
    ({'openclip_model': 'ViT-B-17'}, 'no model'),
    ({'openclip_pretrained': 'laion'}, 'choose one of'),
    ({'openclip_model': 'local-dir:/nowhere'}, 'open_clip_config.json'),
])
def test_a_model_that_does_not_exist(settings, part):
    pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    with pytest.raises(EncoderUnavailableError, match=part):
        load_encoder(FeatureConfig(encoder='openclip', **settings))


def test_banana_and_apple_apart(encoder):
    import cv2
    photo = cv2.imread(str(PHOTO))[..., ::-1]
    rows = encoder.encode_images([photo[350:550, 150:400], photo[150:350, 250:480]])
    cosines = rows @ encoder.encode_texts(['a photo of a banana', 'a photo of a apple']).T
    assert cosines[0].argmax() == 0 and cosines[1].argmax() == 1
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows.shape[1] == encoder.dimension == 384 and not isinstance(encoder, DenseEncoder)


def test_identity_follows_the_weights(encoder):
    import torch
    first = encoder.identity()
    assert first['name'] == 'openclip' and first == encoder.identity()
    with torch.no_grad():
        weight = next(encoder._model.parameters())
        kept = weight.clone()
        weight.add_(1)
        assert encoder.identity()['weights'] != first['weights']
        weight.copy_(kept)
    assert encoder.identity() == first


def test_crops_of_an_image_without_dino(encoder, checkpoint):
    import cv2

    from lerf_ros.frames.frame import Frame
    from lerf_ros.geometry.camera import PinholeCamera

    photo = np.ascontiguousarray(cv2.imread(str(PHOTO))[150:550, 100:500, ::-1])
    frame = Frame(0, photo, PinholeCamera(400, 400, 600., 600., 200., 200.), np.eye(4))
    config = FeatureConfig(encoder='openclip', openclip_model=checkpoint, dense_model='')
    found = FeatureExtractor(encoder, config).extract(frame, (0.7, 1.2), 2.0)
    assert [level.width_px for level in found.levels] == [210, 360]
    assert found.dense.shape[2] == 0
    banana, apple = encoder.encode_texts(['a photo of a banana', 'a photo of a apple'])
    at_banana = found.levels[0].sample(np.array([[170, 290]]))[0]
    assert at_banana @ banana > at_banana @ apple


def test_crops_together_say_what_they_say_one_by_one(encoder):
    """Resized on the device or by PIL: measured 0.99987 for crops of 40 pixels, more for larger."""
    import cv2
    photo = cv2.imread(str(PHOTO))[..., ::-1]
    assert isinstance(encoder, SquareEncoder)
    for side in (40, 161, 403):
        crops = np.stack([photo[y:y + side, x:x + side] for y in (150, 350) for x in (80, 200)])
        cosines = (encoder.encode_squares(crops) * encoder.encode_images(list(crops))).sum(1)
        assert cosines.min() > 0.999


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('side', [7, 32, 50])
def test_pixels_are_those_of_pil(side, interpolation):
    """At most two grey levels apart, when growing, shrinking and staying."""
    pytest.importorskip('torch')
    import torch
    from PIL import Image

    from lerf_ros.encoders.openclip import SquarePixels

    squares = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), np.uint8)
    pixels = SquarePixels({'size': 32, 'mean': (.5, .5, .5), 'std': (.25, .25, .25),
                           'interpolation': interpolation}, 'cpu', torch.float32)
    kind = Image.Resampling.BICUBIC if interpolation == 'bicubic' else Image.Resampling.BILINEAR
    expected = np.stack([Image.fromarray(s).resize((32, 32), kind) for s in squares])
    found = pixels(squares).permute(0, 2, 3, 1).numpy() * .25 + .5
    np.testing.assert_allclose(found * 255, expected.astype(np.float32), atol=2.01)
    assert pixels.square and not SquarePixels(
        {'size': (32, 48), 'mean': (0,), 'std': (1,)}, 'cpu', torch.float32).square


def test_text_only_lets_the_image_tower_go(encoder, checkpoint):
    config = FeatureConfig(encoder='openclip', openclip_model=checkpoint)
    light = load_encoder(config, text_only=True)
    texts = ['a photo of a banana', 'mug']
    np.testing.assert_array_equal(light.encode_texts(texts), encoder.encode_texts(texts))
    assert light.identity() == encoder.identity()
    left, all_of_it = (sum(p.numel() for p in e._model.parameters()) for e in (light, encoder))
    assert left < all_of_it - 5e6   # the image tower has six million weights and its head
    for encode in (light.encode_images, light.encode_squares):
        with pytest.raises(RuntimeError, match='text_only'):
            encode(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(('weights', 'quick'), [('openai', True), ('laion2b_s34b_b88k', False)])
def test_weights_of_openai_get_the_activation_that_they_were_trained_with(monkeypatch, weights,
                                                                          quick):
    """Random weights stand in for the real ones; the towers are those that would hold them."""
    open_clip = pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    create = open_clip.create_model_and_transforms
    monkeypatch.setattr(open_clip, 'create_model_and_transforms',
                        lambda model, **given: create(model, **{**given, 'pretrained': None}))
    encoder = load_encoder(FeatureConfig(encoder='openclip', openclip_model='ViT-B-16',
                                         openclip_pretrained=weights), text_only=True)
    activations = {type(module).__name__ for module in encoder._model.modules()
                   if type(module).__name__ in ('GELU', 'QuickGELU')}
    assert activations == {'QuickGELU' if quick else 'GELU'}

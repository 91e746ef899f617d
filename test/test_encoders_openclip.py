# SPDX-License-Identifier: Apache-2.0
"""Choosing an encoder, and the open_clip path with a small checkpoint on disk."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest

from lerf_ros.config import FeatureConfig
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.features import dense_features, hub
from lerf_ros.features.encoders import DenseEncoder, load_encoder, require
from lerf_ros.features.extractor import FeatureExtractor

SHARED = Path(__file__).resolve().parents[2] / 'shared'
CHECKPOINT = SHARED / 'models' / 'openclip_conse'
PHOTO = SHARED / 'data' / 'apple_banana' / 'images' / 'IMG_3690.jpg'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """The checkpoint with the placeholder of its text tower's folder filled in."""
    pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    if not CHECKPOINT.exists():
        pytest.skip(f'{CHECKPOINT} is not there')
    folder = tmp_path_factory.mktemp('openclip')
    for path in CHECKPOINT.iterdir():
        if path.name != 'open_clip_config.json':
            (folder / path.name).symlink_to(path)
    config = json.loads((CHECKPOINT / 'open_clip_config.json').read_text())
    for key in ('hf_model_name', 'hf_tokenizer_name'):
        config['model_cfg']['text_cfg'][key] = str(folder / 'minilm')
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    return f'local-dir:{folder}'


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
    with pytest.raises(EncoderUnavailableError, match=r'pip install "lerf_ros\[offline\]"'):
        require('a_module_that_nobody_wrote', 'offline')


def test_no_hub_names_model_cache_and_offline_encoder(no_hub):
    pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    with pytest.raises(EncoderUnavailableError) as raised:
        load_encoder(FeatureConfig(encoder='openclip'))
    for part in ('ViT-B-16', 'laion2b_s34b_b88k', str(no_hub), "'conse'"):
        assert part in str(raised.value)


def test_no_hub_leaves_dense_features_off_with_a_warning(no_hub, caplog):
    pytest.importorskip('timm', reason='extra `openclip` is not installed')
    assert dense_features.load_dense_features('vit_small_patch8_224.dino') is None
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

    from lerf_ros.camera import PinholeCamera
    from lerf_ros.keyframes.frame import Frame

    photo = np.ascontiguousarray(cv2.imread(str(PHOTO))[150:550, 100:500, ::-1])
    frame = Frame(0, photo, PinholeCamera(400, 400, 600., 600., 200., 200.), np.eye(4))
    config = FeatureConfig(encoder='openclip', openclip_model=checkpoint, dense_model='')
    found = FeatureExtractor(encoder, config).extract(frame, (0.7, 1.2), 2.0)
    assert [level.width_px for level in found.levels] == [210, 360]
    assert found.dense.shape[2] == 0
    banana, apple = encoder.encode_texts(['a photo of a banana', 'a photo of a apple'])
    at_banana = found.levels[0].sample(np.array([[170, 290]]))[0]
    assert at_banana @ banana > at_banana @ apple


def test_dino_gives_a_unit_key_for_every_patch():
    pytest.importorskip('timm', reason='extra `openclip` is not installed')
    dino = dense_features.DinoFeatures('vit_small_patch8_224.dino', pretrained=False)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    keys = dino.features(image, short_side=100)   # 100 x 133 pixels: 12 x 16 patches of 8
    assert keys.shape == (12, 16, 384) and keys.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(keys.astype(np.float32), axis=2), 1, atol=5e-3)

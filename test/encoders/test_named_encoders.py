# SPDX-License-Identifier: Apache-2.0
"""Encoders by name: members of families, TIPSv2 by hand, thresholds, half precision of DINO."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip('torch')

import tiny_models  # noqa: E402

from lerf_ros.config import FeatureConfig  # noqa: E402
from lerf_ros.encoders import openclip  # noqa: E402
from lerf_ros.encoders.card import margin_of_scale, relevancy_threshold  # noqa: E402
from lerf_ros.encoders.conse import ConseEncoder  # noqa: E402
from lerf_ros.encoders.extractor import FeatureExtractor  # noqa: E402
from lerf_ros.encoders.image_text import DenseEncoder, load_encoder  # noqa: E402
from lerf_ros.encoders.one_pass import working_precision  # noqa: E402
from lerf_ros.errors import ConfigError, EncoderUnavailableError  # noqa: E402


@pytest.mark.parametrize('encoder, model, words', [
    ('siglip2', 'ViT-B-16-SigLIP', "none of siglip2; did you mean 'ViT-B-16-SigLIP2'"),
    ('pe', 'PE-Core-B16', "did you mean 'PE-Core-B-16'"),
    ('mobileclip2', 'ViT-B-16', 'MobileCLIP2-S0')])
def test_a_model_of_another_family_names_the_members(encoder, model, words):
    pytest.importorskip('open_clip', reason='extra `openclip` is missing')
    with pytest.raises(EncoderUnavailableError, match=words):
        load_encoder(FeatureConfig(encoder=encoder, model=model))


@pytest.mark.parametrize('build', ['siglip2', 'tipsv2', 'radio'])
def test_crops_instead_of_one_pass(build, tmp_path, monkeypatch):
    from dataclasses import replace

    from lerf_ros.encoders import radio_checkpoint
    monkeypatch.setitem(radio_checkpoint.NETWORKS, (128, 3),
                        ('naflexvit_base_patch16_radio_v3', tiny_models.RADIO_SIZES))
    config = tiny_models.BUILDERS[build](tmp_path / build)
    crops = load_encoder(replace(config, patches='crops'))
    assert not isinstance(crops, DenseEncoder)
    dense = load_encoder(config)
    assert isinstance(dense, DenseEncoder) and dense.identity() == crops.identity()


def test_research_weights_warn(caplog):
    card = openclip.openclip_card('MobileCLIP2-S2', 'dfndr2b', 99_000_000)
    assert 'research only' in card.line('mobileclip2') and '99 million' in card.line('mobileclip2')
    assert openclip.openclip_card('PE-Core-B-16', 'meta', 0).limits == ''
    assert 'see its model card' in openclip.openclip_card('any', '', 0).line('openclip')


def test_radio_brings_its_own_dense_features_and_others_need_dino(tmp_path, monkeypatch):
    from lerf_ros.encoders import extractor, radio_checkpoint
    monkeypatch.setitem(radio_checkpoint.NETWORKS, (128, 3),
                        ('naflexvit_base_patch16_radio_v3', tiny_models.RADIO_SIZES))
    asked = []
    monkeypatch.setattr(extractor, 'load_dense_features', lambda *args: asked.append(args))
    radio = tiny_models.radio(tmp_path / 'radio')
    encoder = load_encoder(radio)
    FeatureExtractor(encoder, radio)
    assert not asked
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    cells, features = encoder.dense_with_features(photo, 1.0)
    assert features.shape == (*cells.shape, 128) and features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(features.astype(float), axis=-1), 1, atol=2e-3)
    tips = tiny_models.tipsv2(tmp_path / 'tips')
    FeatureExtractor(load_encoder(tips), tips)
    assert len(asked) == 1


def test_tipsv2_by_hand(tmp_path):
    """Patches, positions, layers, norm; the plain map and that with each token alone."""
    from dataclasses import replace

    from written_out import attention, gelu, linear, norm, patches_of, resampled
    config = tiny_models.tipsv2(tmp_path)
    encoder = load_encoder(config)
    vision = encoder._model.vision_model
    with torch.inference_mode():
        table = vision.embeddings.position_embeddings
        table.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        weights = vision.state_dict()
        pixels = torch.rand(1, 3, 3 * 14, 5 * 14, generator=torch.Generator().manual_seed(2))
        start = patches_of(pixels, weights, 'embeddings.patch_embeddings.projection', 14)
        start = start + resampled(table[0, 1:], 8, 3, 5, 'bilinear')
        start = torch.cat([weights['embeddings.cls_token'][0] + table[0, :1],
                           weights['embeddings.register_tokens'][0], start])
        for alone in (False, True):
            x = start
            for k in range(2):
                name = f'encoder.layer.{k}'
                inputs = norm(x, weights, f'{name}.norm1', 1e-6)
                parts = [linear(inputs, weights, f'{name}.attention.{p}_proj') for p in 'qkv']
                mixed = attention(*parts, 2, own_only=alone and k == 1)
                x = x + linear(mixed, weights, f'{name}.attention.o_proj') * weights[
                    f'{name}.layer_scale1.lambda1']
                inner = gelu(linear(norm(x, weights, f'{name}.norm2', 1e-6), weights,
                                    f'{name}.mlp.fc1'))
                x = x + linear(inner, weights, f'{name}.mlp.fc2') * weights[
                    f'{name}.layer_scale2.lambda1']
            expected = norm(x, weights, 'layernorm', 1e-6)[2:]
            encoder._tower._alone = alone
            found = encoder._tower(pixels).flatten(0, 1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert load_encoder(replace(config, patches='maskclip'))._tower._alone
    with pytest.raises(ConfigError, match='tipsv2 has auto, plain, maskclip, crops'):
        load_encoder(replace(config, patches='radseg'))


def test_the_rule_of_thresholds():
    """At odds of 19 to 1 by the model's own factor: ln 19 = 2.944."""
    assert margin_of_scale(100.0) == pytest.approx(0.02944, abs=1e-5)
    assert margin_of_scale(117.3) == pytest.approx(0.02510, abs=1e-5)     # a SigLIP
    assert margin_of_scale(14.3) == margin_of_scale(10.0) == margin_of_scale(100.0)   # untrained
    half = SimpleNamespace(margin=margin_of_scale(100.0))
    assert relevancy_threshold(half, 10.0) == pytest.approx(1 / (1 + math.exp(-0.2944)), abs=1e-4)
    # A bias of a model that was trained with a sigmoid changes neither the odds nor the rule.
    margin, bias, scale = margin_of_scale(112.0), -16.5, 112.0
    odds = math.exp(scale * (0.11 + margin) + bias) / math.exp(scale * 0.11 + bias)
    assert odds == pytest.approx(19)


def test_thresholds_of_conse_stay_what_was_measured():
    assert relevancy_threshold(ConseEncoder, 10.0) == pytest.approx(0.68)
    assert relevancy_threshold(ConseEncoder, 1.0) == pytest.approx(0.519, abs=1e-3)


def test_a_model_of_open_clip_knows_its_factor(tmp_path):
    config = tiny_models.openclip(tmp_path)
    assert load_encoder(config).margin == margin_of_scale(100.0)     # that of its start, 14.3
    from safetensors.torch import load_file, save_file
    file = tmp_path / 'open_clip_model.safetensors'
    state = load_file(file)
    save_file({**state, 'logit_scale': torch.tensor(math.log(80.0))}, file)
    assert load_encoder(config).margin == pytest.approx(math.log(19) / 80)


def test_dino_runs_in_half_precision_on_a_gpu_only():
    assert working_precision('cuda:1') == torch.float16
    assert working_precision('cpu') == torch.float32


def test_half_precision_changes_dino_little(monkeypatch):
    """The type that a GPU gets, on a CPU: features are stored in half precision anyway."""
    timm = pytest.importorskip('timm', reason='extra `openclip` is missing')
    from lerf_ros.encoders import dino
    assert timm.is_model('vit_small_patch8_224')
    config = FeatureConfig(dense_model='vit_tiny_patch16_224', dense_short_side=64)
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = {}
    for name, dtype in (('half', torch.float16), ('single', torch.float32)):
        monkeypatch.setattr(dino, 'working_precision', lambda device, dtype=dtype: dtype)
        torch.manual_seed(0)
        features = dino.DinoFeatures(config, pretrained=False)
        assert next(features._model.parameters()).dtype == dtype
        found[name] = features.features(photo).astype(np.float64)
    assert (found['half'] * found['single']).sum(-1).min() > 0.999

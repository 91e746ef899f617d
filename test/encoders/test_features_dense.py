# SPDX-License-Identifier: Apache-2.0
"""DINO, DINOv2 and DINOv3 with random weights: shapes, facets, layers, overlapping patches."""

import numpy as np
import pytest
import torch

pytest.importorskip('timm', reason='extra `openclip` is not installed')

import timm

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.dino import DinoFeatures, load_dense_features
from lerf_ros.errors import ConfigError

DINO = 'vit_small_patch8_224.dino'
DINO_V2 = 'vit_small_patch14_dinov2.lvd142m'
DINO_V2_REGISTERS = 'vit_small_patch14_reg4_dinov2.lvd142m'
DINO_V3 = 'vit_small_patch16_dinov3.lvd1689m'
DINO_V3_BIAS = 'vit_small_patch16_dinov3_qkvb.lvd1689m'
ROTARY = 'vit_small_patch16_rope_224'   # its positions count in patches


def dino(model=DINO, **settings):
    if not timm.is_model(model):
        pytest.skip(f'timm {timm.__version__} has no {model}')
    torch.manual_seed(0)
    return DinoFeatures(FeatureConfig(dense_model=model, **settings), pretrained=False)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def image_of(found):
    return found.astype(np.float32)


def test_the_paper_s_grid():
    """994 x 738 resized to 673 x 500: 62 rows and 84 columns of 8 pixels (one block is quick)."""
    found = dino(dense_layer=0).features(noise(738, 994))
    assert found.shape == (62, 84, 384) and found.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(image_of(found), axis=2), 1, atol=5e-3)


@pytest.mark.parametrize('model, patch', [
    (DINO, 8), (DINO_V2, 14), (DINO_V2_REGISTERS, 14), (DINO_V3, 16), (DINO_V3_BIAS, 16)])
@pytest.mark.parametrize('facet', ['key', 'token'])
def test_models(model, patch, facet):
    found = dino(model, dense_short_side=100, dense_facet=facet).features(noise(60, 80))
    assert found.shape == (100 // patch, 133 // patch, 384)   # 80 * 100 / 60 = 133
    assert np.isfinite(found).all() and image_of(found).std(0).max() > 0


@pytest.mark.parametrize('model', [DINO, DINO_V3_BIAS])
def test_facets_are_the_parts_of_the_attention(model):
    """Against the projections of the last block, worked out from its input."""
    made = {facet: dino(model, dense_short_side=64, dense_facet=facet, dense_unit=False)
            for facet in ('query', 'key', 'value')}
    picture = noise(64, 64)
    reference = made['key']
    inputs = []
    attention = reference._model.blocks[-1].attn
    attention.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    found = {facet: image_of(features.features(picture)) for facet, features in made.items()}
    weight = attention.qkv.weight.detach().double().numpy()
    tokens = inputs[0][0, reference._model.num_prefix_tokens:].double().numpy()
    biases = ([attention.q_bias, attention.k_bias, attention.v_bias]
              if attention.qkv.bias is None else attention.qkv.bias.chunk(3))
    for i, facet in enumerate(('query', 'key', 'value')):
        expected = tokens @ weight[384 * i:384 * (i + 1)].T + biases[i].detach().double().numpy()
        np.testing.assert_allclose(found[facet].reshape(-1, 384), expected, atol=2e-2, rtol=2e-3)


def test_facets_of_separate_projections():
    """A block that keeps query, key and value apart gives the same as one that does not."""
    from timm.models.eva import EvaAttention

    from lerf_ros.encoders.dino import projection

    apart = EvaAttention(8, num_heads=2, qkv_fused=False, qkv_bias=True, scale_norm=False)
    tokens = torch.arange(24.).reshape(1, 3, 8)
    for part, layer in enumerate((apart.q_proj, apart.k_proj, apart.v_proj)):
        torch.testing.assert_close(projection(apart, tokens, part), layer(tokens))


def test_tokens_of_a_layer_are_what_the_next_block_sees():
    settings = {'dense_short_side': 64, 'dense_unit': False}
    found = image_of(dino(dense_layer=4, dense_facet='token', **settings).features(noise(64, 64)))
    whole = dino(**settings)
    seen = []
    whole._model.blocks[5].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    whole.features(noise(64, 64))
    np.testing.assert_allclose(found.reshape(-1, 384), seen[0][0, 1:].numpy(), atol=1e-2)


def test_the_last_layer_is_minus_one_and_eleven():
    picture = noise(64, 64)
    last, eleventh, first = (dino(dense_layer=layer, dense_short_side=64).features(picture)
                             for layer in (-1, 11, 0))
    np.testing.assert_array_equal(last, eleventh)
    assert np.abs(image_of(last) - image_of(first)).max() > 0.01


def test_features_keep_their_length_where_asked_to():
    picture = noise(64, 64)
    free, unit = (image_of(dino(dense_short_side=64, dense_unit=on).features(picture))
                  for on in (False, True))
    length = np.linalg.norm(free, axis=2, keepdims=True)
    assert np.abs(length - 1).max() > 0.01
    np.testing.assert_allclose(free / length, unit, atol=5e-3)


@pytest.mark.parametrize('model, patch, stride', [
    (DINO, 8, 4), (DINO, 8, 3), (DINO_V2, 14, 7), (DINO_V3, 16, 8)])
def test_overlapping_patches(model, patch, stride):
    """(side - patch) // stride + 1 patches, as many as whole ones fit."""
    found = dino(model, dense_short_side=96, dense_stride=stride).features(noise(96, 128))
    assert found.shape[:2] == ((96 - patch) // stride + 1, (128 - patch) // stride + 1)


@pytest.mark.parametrize('model', [DINO, DINO_V3])
def test_the_stride_of_the_patch_size_changes_nothing(model):
    picture = noise(96, 128)
    plain = dino(model, dense_short_side=96)
    given = dino(model, dense_short_side=96, dense_stride=plain._patch)
    np.testing.assert_array_equal(plain.features(picture), given.features(picture))


@pytest.mark.parametrize('stride', [0, 4])
def test_patches_stand_evenly_over_the_image(stride):
    """Values of the first layer's tokens show a ramp: their brightness is that of their place."""
    features = dino(dense_short_side=96, dense_stride=stride, dense_unit=False)
    ramp = np.linspace(40, 215, 96).round().astype(np.uint8)
    picture = np.repeat(np.repeat(ramp[None, :, None], 96, 0), 3, 2)
    pixels, rows, cols = features._pixels(picture)
    patch, step = features._patch, features._stride
    means = [pixels[0, 0, :, j * step:j * step + patch].mean().item() for j in range(cols)]
    levels = (np.array(means) * .229 + .485) * 255   # ImageNet's mean and deviation of red
    expected = np.interp((np.arange(cols) + .5) / cols * 96 - .5, np.arange(96), ramp)
    np.testing.assert_allclose(levels[1:-1], expected[1:-1], atol=1.5)
    assert rows == cols


def test_positions_are_those_of_the_place():
    """A position table that holds the place itself: overlapping patches get places in between."""
    features = dino(dense_short_side=96, dense_stride=4)
    model = features._model
    places = torch.linspace(0, 1, 57)[1::2]   # middles of DINO's 28 columns
    with torch.no_grad():
        model.patch_embed.proj.weight.zero_()   # an image without content
        model.patch_embed.proj.bias.zero_()
        model.pos_embed.zero_()
        model.pos_embed[0, 1:, 0] = places.repeat(28)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    features.features(noise(96, 96))   # 23 patches a row at stride 4
    found = seen[0][0, 1:, 0].reshape(23, 23)
    expected = (torch.arange(23) + .5) / 23
    torch.testing.assert_close(found[5, 2:-2], expected[2:-2], atol=6e-3, rtol=0)


def test_rotary_positions_are_those_of_the_place():
    """DINOv3's angles at the middle of every third of 3 n columns are those of n columns."""
    rope = dino(DINO_V3)._model.rope
    coarse, fine = (rope.get_embed(shape=(n, n)).reshape(n, n, -1) for n in (5, 15))
    torch.testing.assert_close(fine[1::3, 1::3], coarse)


@pytest.mark.parametrize('settings, part', [
    ({'dense_layer': 12}, '0 to 11'),
    ({'dense_layer': -13}, '12 blocks'),
    ({'dense_stride': 9}, 'between 1 and the patch size of the model, 8'),
    ({'model': ROTARY, 'dense_stride': 7}, 'cannot be interpolated'),
    ({'model': 'convnext_tiny'}, 'not a vision transformer'),
])
def test_settings_that_a_model_cannot_follow(settings, part):
    with pytest.raises(ConfigError, match=part):
        dino(**settings)


def test_a_model_that_does_not_exist_is_no_missing_hub():
    with pytest.raises(ConfigError, match='no such model'):
        load_dense_features(FeatureConfig(dense_model='vit_small_patch8_dino'))
    assert load_dense_features(FeatureConfig(dense_model='')) is None


def test_identity_follows_settings_and_weights():
    first = dino().identity()
    assert first == dino().identity() == dino(dense_stride=8).identity()
    others = [dino(dense_layer=9), dino(dense_facet='value'), dino(dense_stride=4),
              dino(dense_short_side=400), dino(dense_unit=False)]
    torch.manual_seed(1)
    others.append(DinoFeatures(FeatureConfig(), pretrained=False))
    assert all(other.identity() != first for other in others)

# SPDX-License-Identifier: Apache-2.0
"""Dense maps of towers that timm builds: each cell through the tower's own head.

All towers come from their real configurations with random weights.
"""

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('open_clip', reason='extra `openclip` is missing')

from timm_builders import random_pixels, real_tower, short_tower, vision_config  # noqa: E402
from torch.nn.functional import layer_norm  # noqa: E402
from written_out import (  # noqa: E402
    block,
    linear,
    norm,
    patches_of,
    resampled,
    rotation_of,
    value_path,
)

from lerf_ros.encoders.openclip_patches import make_tower  # noqa: E402
from lerf_ros.encoders.timm_towers import AloneTokens, ConvMap, PooledTokens  # noqa: E402
from lerf_ros.errors import ConfigError  # noqa: E402


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope='module')
def convnext():
    return real_tower('convnext_tiny')


@pytest.fixture(scope='module')
def mobile():
    return real_tower('MobileCLIP2-S0')


@pytest.mark.parametrize('name', ['convnext', 'mobile'])
def test_the_cell_of_an_image_of_one_cell_is_its_embedding(name, request):
    """Without the norm of ConvNeXt's head the cosine was 0.92; MobileCLIP had 1024 numbers."""
    visual = request.getfixturevalue(name)
    tower = make_tower(visual, 'auto')
    assert isinstance(tower, ConvMap) and tower.stride == 32
    cell = random_pixels(32, 32)
    torch.testing.assert_close(tower(cell)[0, 0], visual(cell)[0], atol=1e-5, rtol=1e-5)


def test_convnext_by_hand(convnext):
    """Layer norm over the channels of each cell, then the projection."""
    pixels = random_pixels(64, 96)
    cells = convnext.trunk.forward_features(pixels)[0].permute(1, 2, 0)
    head = convnext.trunk.head.norm
    expected = layer_norm(cells, cells.shape[-1:], head.weight, head.bias, 1e-6) @ (
        convnext.head.proj.weight.T)
    found = make_tower(convnext, 'conv')(pixels)
    assert found.shape == (2, 3, vision_config('convnext_tiny')[1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_mobileclip_has_a_linear_head_so_cells_average_to_the_embedding(mobile):
    pixels = random_pixels(96, 160)
    found = make_tower(mobile, 'conv')(pixels)
    assert found.shape == (3, 5, 512)
    torch.testing.assert_close(found.mean((0, 1)), mobile(pixels)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('rows, cols', [(14, 14), (3, 5)])
def test_siglip2_by_hand(rows, cols):
    """Patches, positions, blocks, norm, and the value path of the pooling, from the weights."""
    visual = short_tower('ViT-B-16-SigLIP2')
    pixels, weights = random_pixels(rows * 16, cols * 16), visual.trunk.state_dict()
    x = patches_of(pixels, weights, 'patch_embed.proj', 16)
    x = x + resampled(weights['pos_embed'][0], 14, rows, cols)
    for k in range(2):
        x = block(x, weights, f'blocks.{k}', heads=12, eps=1e-6)
    expected = value_path(norm(x, weights, 'norm', 1e-6), weights, 'attn_pool', 1e-6)
    found = make_tower(visual, 'auto')(pixels)
    assert found.shape == (rows, cols, 768)
    scale = expected.abs().max()
    torch.testing.assert_close(found.flatten(0, 1) / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize('rows, cols', [(24, 24), (3, 5)])
def test_perception_encoder_by_hand(rows, cols):
    """As SigLIP 2, with a class token, rotary positions, and a projection after the pooling."""
    visual = short_tower('PE-Core-T-16-384')
    pixels, weights = random_pixels(rows * 16, cols * 16), visual.trunk.state_dict()
    x = patches_of(pixels, weights, 'patch_embed.proj', 16)
    table = weights['pos_embed'][0]
    x = torch.cat([weights['cls_token'][0] + table[:1],
                   x + resampled(table[1:], 24, rows, cols)])
    x = norm(x, weights, 'norm_pre', 1e-5)
    rotation = rotation_of(rows, cols, own=24, size=64, prefix=1)
    for k in range(2):
        x = block(x, weights, f'blocks.{k}', heads=3, eps=1e-5, rotation=rotation)
    pooled = value_path(norm(x, weights, 'norm', 1e-5)[1:], weights, 'attn_pool', 1e-5)
    expected = linear(pooled, weights, 'head')
    found = make_tower(visual, 'auto')(pixels)
    assert found.shape == (rows, cols, 512)
    scale = expected.abs().max()
    torch.testing.assert_close(found.flatten(0, 1) / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize('rows, cols', [(16, 16), (3, 5)])
def test_a_token_pooled_transformer_by_hand(rows, cols):
    """MobileCLIP2-L: the last block masked to each token itself, ln_post, projection."""
    visual = short_tower('MobileCLIP2-L-14')
    pixels, weights = random_pixels(rows * 14, cols * 14), visual.trunk.state_dict()
    x = patches_of(pixels, weights, 'patch_embed.proj', 14)
    table = weights['pos_embed'][0]
    x = torch.cat([weights['cls_token'][0] + table[:1],
                   x + resampled(table[1:], 16, rows, cols)])
    x = norm(x, weights, 'norm_pre', 1e-6)
    x = block(x, weights, 'blocks.0', heads=16, eps=1e-6)
    x = block(x, weights, 'blocks.1', heads=16, eps=1e-6, own_only=True)
    expected = linear(norm(x[1:], weights, 'norm', 1e-6), weights, 'head')
    tower = make_tower(visual, 'auto')
    found = tower(pixels)
    assert isinstance(tower, AloneTokens) and found.shape == (rows, cols, 768)
    scale = expected.abs().max()
    torch.testing.assert_close(found.flatten(0, 1) / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ['ViT-B-16-SigLIP2', 'PE-Core-T-16-384', 'MobileCLIP2-B'])
def test_crops_are_encoded_as_before_a_dense_map(name):
    """Positions of another grid and the masked block do not stay."""
    visual = short_tower(name)
    side = visual.image_size[0]
    pixels = random_pixels(side, side)
    before = visual.trunk(pixels)
    tower = make_tower(visual, 'auto')
    found = tower(random_pixels(5 * tower.stride, 7 * tower.stride))
    assert found.shape == (5, 7, vision_config(name)[1])
    torch.testing.assert_close(visual.trunk(pixels), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', ['ViT-B-16-SigLIP2', 'PE-Core-T-16-384'])
def test_a_flat_image_looks_everywhere_as_it_does_as_a_whole(name):
    """Without positions all tokens of one colour are equal, and their pooling is one of them."""
    visual = short_tower(name)
    trunk = visual.trunk
    trunk.pos_embed.zero_()
    if trunk.num_prefix_tokens:
        trunk.attn_pool.kv.weight[:trunk.embed_dim].zero_()    # then the class token weighs 1 / L
        trunk.cls_token.zero_()
    side = visual.image_size[0]
    flat = torch.full((1, 3, side, side), 0.3)
    cells = make_tower(visual, 'auto')(flat).flatten(0, 1)
    cosines = torch.nn.functional.cosine_similarity(cells, trunk(flat))
    assert cosines.min() > (0.95 if trunk.num_prefix_tokens else 0.99999)


@pytest.mark.parametrize('mode, name, words', [
    ('conv', 'ViT-B-16-SigLIP2', "no convolutional network that timm knows; choose 'auto'"),
    ('maskclip', 'ViT-B-16-SigLIP2', 'does not pool its class token'),
    ('naclip', 'ViT-B-16-SigLIP2', 'by naclip'),
    ('value', 'MobileCLIP2-L-14', 'does not pool by attention')])
def test_a_mode_that_does_not_fit_says_so(mode, name, words):
    with pytest.raises(ConfigError, match=words):
        make_tower(short_tower(name, depth=1), mode)


@pytest.mark.parametrize('name', [
    'PE-Core-bigG-14-448', 'PE-Core-L-14-336', 'ViT-gopt-16-SigLIP2-384', 'ViT-SO400M-14-SigLIP2',
    'MobileCLIP2-S4', 'MobileCLIP2-B', 'convnext_xxlarge'])
def test_shapes_of_the_large_ones(name):
    """Every layer runs, without memory for weights."""
    with torch.device('meta'):
        visual = real_tower(name)
        tower = make_tower(visual, 'auto')
        found = tower(torch.zeros(1, 3, 2 * tower.stride, 3 * tower.stride))
    assert found.shape == (2, 3, vision_config(name)[1])
    assert isinstance(tower, PooledTokens) == ('PE' in name or 'SigLIP' in name)

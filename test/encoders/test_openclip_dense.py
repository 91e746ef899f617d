# SPDX-License-Identifier: Apache-2.0
"""Embeddings of all patches from one run: laws on small transformers with random weights."""

import numpy as np
import pytest

from lerf_ros.config import FeatureConfig
from lerf_ros.errors import ConfigError

torch = pytest.importorskip('torch')
transformer = pytest.importorskip('open_clip.transformer', reason='extra `openclip` is missing')

PATCH, SIDE, DIMENSION = 4, 16, 6


def tower(seed=0, **changes):
    torch.manual_seed(seed)
    made = transformer.VisionTransformer(**{
        'image_size': SIDE, 'patch_size': PATCH, 'width': 16, 'layers': 3, 'heads': 2,
        'mlp_ratio': 2.0, 'output_dim': DIMENSION, **changes}).eval()
    with torch.no_grad():   # attention that is not all but even
        for block in made.transformer.resblocks:
            block.attn.in_proj_weight.mul_(3)
            block.attn.in_proj_bias.normal_()
    return made


def image(rows, cols, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, rows * PATCH, cols * PATCH, generator=generator)


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


pytestmark = pytest.mark.usefixtures('no_gradients')


def dense(visual, mode, pixels):
    from lerf_ros.encoders.openclip_patches import VitTokens
    return VitTokens(visual, mode)(pixels)


@pytest.mark.parametrize('mode', ['maskclip', 'naclip'])
def test_a_cell_for_every_patch_of_any_image(mode):
    for rows, cols in ((4, 4), (3, 7), (1, 1)):
        assert dense(tower(), mode, image(rows, cols)).shape == (rows, cols, DIMENSION)


def test_maskclip_is_the_model_whose_last_block_sees_each_token_alone():
    """The model's own layers, with a mask that forbids all of the last attention but itself."""
    visual, pixels = tower(), image(4, 4)
    tokens = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    alone = torch.full((17, 17), float('-inf')).fill_diagonal_(0)
    tokens = visual.transformer.resblocks[-1](tokens, attn_mask=alone)
    expected = (visual.ln_post(tokens[:, 1:]) @ visual.proj).reshape(4, 4, DIMENSION)
    torch.testing.assert_close(dense(visual, 'maskclip', pixels), expected, atol=1e-5, rtol=1e-4)


def test_the_class_token_of_an_image_is_what_the_unchanged_model_says():
    """The same tokens go in: with the last block unchanged, the pooled token is the embedding."""
    from lerf_ros.encoders import openclip_patches as vit_tokens
    visual, pixels = tower(), image(4, 4)
    tokens = visual.ln_pre(torch.cat([visual.class_embedding.expand(1, 1, -1), visual.conv1(
        pixels).flatten(2).transpose(1, 2)], 1) + vit_tokens.positions(visual, 4, 4))
    for block in visual.transformer.resblocks:
        tokens = block(tokens)
    torch.testing.assert_close(visual.ln_post(tokens[:, 0]) @ visual.proj, visual(pixels))


def test_naclip_by_hand():
    """Softmax of key times key over the root of the head's width, plus the nearness, head by head.
    """
    from lerf_ros.encoders.openclip_patches import neighbour_attention, neighbourhood
    block, tokens = tower().transformer.resblocks[-1], torch.randn(1, 7, 16)
    rows = block.ln_1(tokens)[0] @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    key, value = rows[:, 16:32].reshape(7, 2, 8), rows[:, 32:].reshape(7, 2, 8)
    places = [(y, x) for y in range(2) for x in range(3)]
    out = torch.zeros(6, 16)
    for i, (y, x) in enumerate(places):
        for head in range(2):
            logits = [key[i + 1, head] @ key[0, head] / 8 ** 0.5] + [
                key[i + 1, head] @ key[j + 1, head] / 8 ** 0.5
                + np.exp(-((y - v) ** 2 + (x - u) ** 2) / 50) for j, (v, u) in enumerate(places)]
            weights = torch.softmax(torch.stack(logits), 0)
            out[i, head * 8:head * 8 + 8] = weights @ value[:, head]
    expected = out @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    found = neighbour_attention(block, tokens, neighbourhood(2, 3, tokens))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_one_patch_is_its_own_neighbour():
    from lerf_ros.encoders.openclip_patches import neighbourhood
    assert neighbourhood(1, 1, torch.zeros(1)).tolist() == [[1.0]]
    row = neighbourhood(2, 2, torch.zeros(1))[0]
    expected = np.exp([0, -1 / 50, -1 / 50, -2 / 50])
    np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize('mode', ['maskclip', 'naclip'])
def test_an_image_moved_by_one_patch_moves_the_map_by_one_cell(mode, monkeypatch):
    """Without position embeddings. The image goes round, so that the same patches are seen.

    NACLIP's neighbours are those of a plane, not of a ring: with a narrow Gaussian only cells near
    the seam notice.
    """
    from lerf_ros.encoders import openclip_patches as vit_tokens
    monkeypatch.setattr(vit_tokens.neighbourhood, '__defaults__', (0.5,))
    visual, pixels = tower(), image(4, 12)
    visual.positional_embedding.zero_()
    found = dense(visual, mode, pixels)
    moved = dense(visual, mode, pixels.roll(PATCH, dims=3))
    inside = slice(4, 9)
    torch.testing.assert_close(moved.roll(-1, dims=1)[:, inside], found[:, inside], atol=1e-5,
                               rtol=1e-4)
    assert (moved - found).abs().max() > 0.1


def test_positions_are_the_models_own_at_its_size_and_follow_the_image_at_others():
    from lerf_ros.encoders.openclip_patches import positions
    visual = tower()
    assert positions(visual, 4, 4) is visual.positional_embedding
    # A ramp across stays a ramp: between the middles of the first and the last patch.
    visual.positional_embedding[1:] = torch.arange(4.).repeat(4)[:, None]
    found = positions(visual, 4, 8)[1:].reshape(4, 8, -1)[..., 0]
    np.testing.assert_allclose(found[:, 2:6], [[0.75, 1.25, 1.75, 2.25]] * 4, atol=0.05)
    assert torch.equal(positions(visual, 4, 8)[0], visual.positional_embedding[0])


@pytest.mark.parametrize('visual, part', [
    (lambda: torch.nn.Linear(3, 3), 'Linear has no patch tokens'),
    (lambda: tower(attentional_pool=True, attn_pooler_heads=2), 'pools by attention'),
    (lambda: transformer.VisionTransformer(SIDE, PATCH, 16, 1, 2, 2.0, qk_norm=True,
                                           block_type='custom'), 'cannot be changed'),
])
def test_a_tower_without_patches_to_take_says_why(visual, part):
    from lerf_ros.encoders.openclip_patches import VitTokens
    with pytest.raises(ConfigError, match=part) as raised:
        VitTokens(visual(), 'maskclip')
    assert 'features.openclip_dense' in str(raised.value) and "'none'" in str(raised.value)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A small vision transformer with random weights, in open_clip's own format."""
    import json

    import open_clip
    from safetensors.torch import save_file
    folder = tmp_path_factory.mktemp('vit')
    model = {'embed_dim': DIMENSION,
             'vision_cfg': {'image_size': 32, 'patch_size': 8, 'width': 64, 'layers': 2},
             'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 64, 'heads': 1,
                          'layers': 1}}
    pixels = {'mean': [.5] * 3, 'std': [.5] * 3, 'interpolation': 'bicubic'}
    (folder / 'open_clip_config.json').write_text(json.dumps(
        {'model_cfg': model, 'preprocess_cfg': pixels}))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**model).state_dict(), folder / 'open_clip_model.safetensors')
    return f'local-dir:{folder}'


def load(checkpoint, mode, **settings):
    from lerf_ros.encoders.image_text import load_encoder
    return load_encoder(FeatureConfig(encoder='openclip', openclip_model=checkpoint,
                                      openclip_dense=mode, **settings))


def test_cells_lie_where_their_patches_are(checkpoint):
    """8 pixels a patch at half the size: 16 of the photograph; the model was made for 32."""
    from lerf_ros.encoders.image_text import DenseEncoder
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    encoder = load(checkpoint, 'maskclip')
    assert isinstance(encoder, DenseEncoder)
    found = encoder.dense(photo, 0.5)
    assert found.shape == (3, 4) and found.stride_px == (16, 16)
    assert found.origin_px == (8, 8) and found.width_px == 32
    np.testing.assert_allclose(np.linalg.norm(found.vocabulary, axis=1), 1, atol=2e-3)
    assert load(checkpoint, 'maskclip', openclip_receptive_px=10.0).dense(photo, 0.5).width_px == 20


def test_crops_and_both_kinds_of_dense_features_do_not_share_a_cache(checkpoint, tmp_path):
    from lerf_ros.encoders.cache import FeatureCache
    from lerf_ros.encoders.extractor import FeatureExtractor
    from lerf_ros.frames.frame import Frame
    from lerf_ros.geometry.camera import PinholeCamera
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    frame = Frame(0, photo, PinholeCamera(64, 48, 60., 60., 32., 24.), np.eye(4))
    found = {}
    for mode in ('none', 'maskclip', 'naclip'):
        config = FeatureConfig(encoder='openclip', openclip_model=checkpoint, dense_model='',
                               openclip_dense=mode)
        encoder = load(checkpoint, mode)
        found[mode] = FeatureExtractor(encoder, config, FeatureCache(tmp_path, 10)).extract(
            frame, (0.3, 0.6), 1.0)
        # What is asked of a map is the same for all three.
        assert encoder.identity() == load(checkpoint, 'none').identity()
    assert [level.width_px for level in found['none'].levels] == [18, 36]
    for mode in ('maskclip', 'naclip'):   # a cell speaks of 16 pixels: 16/18 and 16/36 of the size
        assert [level.shape for level in found[mode].levels] == [(5, 7), (3, 4)]
    one, other = (found[mode].levels[0].vocabulary for mode in ('maskclip', 'naclip'))
    assert np.abs(one - other).max() > 0.01


def test_the_shared_tower_is_a_convolution(tmp_path):
    """Of an image that is one cell large, the cell is what the model says of the image."""
    from openclip_checkpoint import openclip_checkpoint

    from lerf_ros.encoders.openclip_patches import ConvMap
    name = openclip_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match='EfficientNet of timm is not changed that way'):
        load(name, 'naclip')
    encoder = load(name, 'conv')
    assert encoder.receptive_px == pytest.approx(180)
    cell = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    visual = encoder._model.visual
    torch.testing.assert_close(ConvMap(visual)(cell)[0, 0], visual(cell)[0])
    photo = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    found = encoder.dense(photo, 2.0)
    assert found.shape == (6, 8) and found.stride_px == (16, 16) and found.origin_px == (12, 12)


def test_a_transformer_is_no_convolution(checkpoint):
    with pytest.raises(ConfigError, match='VisionTransformer is no convolutional network'):
        load(checkpoint, 'conv')

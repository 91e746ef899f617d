# SPDX-License-Identifier: Apache-2.0
"""C-RADIO: what a checkpoint gives, held against versions written out by hand."""

import argparse

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('timm', reason='extra `openclip` is missing')

import tiny_models  # noqa: E402
from timm_builders import lively, random_pixels  # noqa: E402
from torch.nn.functional import interpolate, normalize  # noqa: E402
from written_out import attention, block, gelu, linear, norm, patches_of  # noqa: E402

from lerf_ros.config import FeatureConfig  # noqa: E402
from lerf_ros.encoders import radio_checkpoint  # noqa: E402
from lerf_ros.encoders.image_text import load_encoder  # noqa: E402
from lerf_ros.encoders.radio import RadioPatches, canonical  # noqa: E402
from lerf_ros.encoders.radio_checkpoint import (  # noqa: E402
    AdaptorHead,
    RadioParts,
    build_backbone,
    load_radio,
)
from lerf_ros.errors import ConfigError, EncoderUnavailableError  # noqa: E402


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(radio_checkpoint.NETWORKS, (128, 3),
                        ('naflexvit_base_patch16_radio_v3', tiny_models.RADIO_SIZES))
    with torch.inference_mode():
        yield


@pytest.fixture
def parts():
    backbone = tiny_models.radio_backbone()
    backbone.embeds.pos_embed.normal_(0, 0.3, generator=torch.Generator().manual_seed(5))
    return RadioParts(backbone, lively(AdaptorHead((128, 96, 32), 1)).eval(), 1)


def tokens_by_hand(backbone, pixels, blocks):
    """Class and register tokens, then patches: (3 + P, 128), after that many plain blocks.

    The table of 128 x 128 positions is resized to a square of the larger side of the grid, corner
    to corner as C-RADIO v3 was released, and cut.
    """
    weights = backbone.state_dict()
    rows, cols = (side // 16 for side in pixels.shape[-2:])
    filters = tiny_models.channels_first(weights['embeds.proj.weight'])
    x = patches_of(pixels, {'p.weight': filters}, 'p', 16)
    table = weights['embeds.pos_embed'].permute(0, 3, 1, 2)
    side = max(rows, cols)
    table = interpolate(table, (side, side), mode='bilinear', align_corners=True)
    x = x + table[0, :, :rows, :cols].flatten(1).T
    x = torch.cat([weights['embeds.cls_token'][0], weights['embeds.reg_token'][0], x])
    for k in range(blocks):
        x = block(x, weights, f'blocks.{k}', heads=2, eps=1e-6)
    return x


def head_by_hand(x, weights):
    x = linear(x, weights, 'fc1')
    x = x + linear(gelu(norm(x, weights, 'blocks.0.0', 1e-5)), weights, 'blocks.0.2')
    return linear(gelu(norm(x, weights, 'final.0', 1e-5)), weights, 'final.2')


def radseg_block(x, weights, name, heads):
    """The last block with RADSeg's attention, written with full matrices."""
    query, key, value = linear(norm(x, weights, f'{name}.norm1', 1e-6), weights,
                               f'{name}.attn.qkv').chunk(3, -1)
    output = linear(attention(query, key, value, heads), weights, f'{name}.attn.proj')
    size = x.shape[1] // heads
    mixed = torch.zeros_like(output)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        unit = normalize(output[:, part], dim=-1)
        cosines = unit @ unit.T
        weighted = torch.where(cosines >= 0, (10 * cosines).exp(), 0.0)
        mixed[:, part] = weighted / weighted.sum(1, keepdim=True) @ value[:, part]
    x = x + (linear(mixed, weights, f'{name}.attn.proj') * weights.get(f'{name}.ls1.gamma', 1))
    inner = gelu(linear(norm(x, weights, f'{name}.norm2', 1e-6), weights, f'{name}.mlp.fc1'))
    return x + linear(inner, weights, f'{name}.mlp.fc2') * weights.get(f'{name}.ls2.gamma', 1)


@pytest.mark.parametrize('rows, cols', [(4, 4), (3, 5)])
@pytest.mark.parametrize('corrected', [True, False])
def test_dense_maps_by_hand(parts, rows, cols, corrected):
    pixels = random_pixels(rows * 16, cols * 16)
    weights = parts.backbone.state_dict()
    x = tokens_by_hand(parts.backbone, pixels, 1)
    x = radseg_block(x, weights, 'blocks.1', 2) if corrected else \
        block(x, weights, 'blocks.1', heads=2, eps=1e-6)
    expected = head_by_hand(x[3:], parts.head.state_dict())
    tower = RadioPatches(parts, corrected)
    found = tower(pixels).flatten(0, 1)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(tower.features.flatten(0, 1), x[3:], atol=1e-4, rtol=1e-4)


def test_a_crop_is_the_teachers_class_token_through_its_head(tmp_path):
    encoder = load_encoder(tiny_models.radio(tmp_path))
    crop = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    mean, std = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    pixels = (torch.from_numpy(crop).permute(2, 0, 1)[None] / 255
              - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    loaded = load_radio(str(tmp_path / 'small.pth.tar'))
    x = tokens_by_hand(loaded.backbone, pixels, 2)
    expected = head_by_hand(x[1], loaded.head.state_dict())      # SigLIP 2 is the second teacher
    assert encoder.encode_squares(crop[None])[0] @ normalize(expected, dim=0).numpy() > 0.99999


@pytest.mark.parametrize('width, prefix, name, blocks', [
    (768, 8, 'v3-B', 12), (1024, 8, 'v3-L', 24), (1280, 8, 'v3-H', 32), (1536, 8, 'v3-g', 40),
    (1152, 10, 'v4-SO400M', 27), (1280, 10, 'v4-H', 32)])
def test_checkpoints_of_all_sizes_fit_timms_networks(width, prefix, name, blocks):
    """Names and shapes of RADIO's own code; no memory is taken for weights."""
    ratio = 4304 / 1152 if width == 1152 else 4
    wide = int(width * ratio)
    shapes = {'patch_generator.embedder.weight': (width, 768),
              'patch_generator.pos_embed': (1, 128 * 128, width),
              'patch_generator.cls_token.token': (prefix, width)}
    for k in range(blocks):
        shapes |= {f'blocks.{k}.{part}': shape for part, shape in {
            'norm1.weight': (width,), 'norm1.bias': (width,), 'norm2.weight': (width,),
            'norm2.bias': (width,), 'attn.qkv.weight': (3 * width, width),
            'attn.qkv.bias': (3 * width,), 'attn.proj.weight': (width, width),
            'attn.proj.bias': (width,), 'mlp.fc1.weight': (wide, width),
            'mlp.fc1.bias': (wide,), 'mlp.fc2.weight': (width, wide),
            'mlp.fc2.bias': (width,)}.items()}
        if width <= 1024:     # these two have layer scales
            shapes |= {f'blocks.{k}.ls{n}.gamma': (width,) for n in (1, 2)}
    with torch.device('meta'):
        state = {f'base_model.{key}': torch.empty(shape) for key, shape in shapes.items()}
        backbone = build_backbone(state)
        head = AdaptorHead((width, 1520, 1536), 1)
        found = RadioPatches(RadioParts(backbone, head, 0), True)(torch.empty(1, 3, 32, 48))
    assert found.shape == (2, 3, 1536) and len(backbone.blocks) == blocks


def save(path, state, teachers):
    torch.save({'state_dict': state, 'args': argparse.Namespace(teachers=teachers)}, path)
    return str(path)


class Unknown:
    """A class that no checkpoint may bring along."""


@pytest.mark.parametrize('make, words', [
    (lambda path: 'c-radio_v5-b', "'c-radio_v5-b' is no C-RADIO; did you mean"),
    (lambda path: str(path / 'none.pth.tar'), 'FileNotFoundError'),
    (lambda path: save(path / 'a.pth.tar', {}, [{'name': 'clip'}]), 'its teachers are clip'),
    (lambda path: save(path / 'b.pth.tar', {'x': torch.zeros(1)}, [{'name': 'siglip2-g'}]),
     'no head for siglip2-g'),
    (lambda path: save(path / 'c.pth.tar', {}, [Unknown()]), 'without running code from it')])
def test_what_is_no_checkpoint_of_c_radio_says_so(tmp_path, make, words):
    with pytest.raises(EncoderUnavailableError, match=words):
        load_radio(make(tmp_path))


def test_a_text_tower_of_another_size_is_refused(tmp_path):
    config = tiny_models.radio(tmp_path)
    head = AdaptorHead((128, 96, 20), 0).state_dict()
    stored = torch.load(config.model, weights_only=False)
    kept = {name: value for name, value in stored['state_dict'].items()
            if not name.startswith('_heads.1')}
    save(tmp_path / 'small.pth.tar', kept | {f'_heads.siglip2-g.{n}': v for n, v in head.items()},
         stored['args'].teachers)
    with pytest.raises(EncoderUnavailableError, match='20 numbers and the text tower .* of 32'):
        load_encoder(config)


def test_patches_that_radio_does_not_have(tmp_path):
    with pytest.raises(ConfigError, match='radio has auto, radseg, plain, crops'):
        load_encoder(FeatureConfig(encoder='radio', patches='naclip'))


def test_phrases_lose_capitals_and_punctuation():
    assert canonical(' A red_mug,  please! ') == 'a red mug please'

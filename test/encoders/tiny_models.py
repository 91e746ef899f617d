# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints with random weights on disk, as their publishers lay them out.

The classes are those of the real models; widths and depths are smaller where there is no small one.
Position tables are zero, so that a flat image looks the same at every cell.
"""

import argparse
import json

import pytest
import torch
from timm_builders import lively

from lerf_ros.config import FeatureConfig

SHORT_TEXT = {'context_length': 64, 'vocab_size': 49408, 'width': 64, 'heads': 1, 'layers': 1}
PIXELS = {'mean': [.5] * 3, 'std': [.5] * 3, 'interpolation': 'bicubic'}
LETTERS = ['<pad>', '<unk>', '▁', *'abcdefghijklmnopqrstuvwxyz']
WORDS = ['mug', 'red', 'object', 'things', 'stuff', 'texture', 'a', 'plant']


def flat_positions(model):
    """The model with tables of positions that are zero."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if 'pos' in name and 'embed' in name and 'text' not in name:
                value.zero_()
    return model


def openclip_folder(folder, vision, dimension, **text):
    """A checkpoint in open_clip's own format; vision: its description of the image tower."""
    open_clip = pytest.importorskip('open_clip', reason='extra `openclip` is missing')
    from safetensors.torch import save_file
    model = {'embed_dim': dimension, 'vision_cfg': vision, 'text_cfg': {**SHORT_TEXT, **text}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'open_clip_config.json').write_text(json.dumps(
        {'model_cfg': {**model, 'custom_text': True}, 'preprocess_cfg': PIXELS}))
    torch.manual_seed(0)
    made = open_clip.CustomTextCLIP(**model)
    flat_positions(made.visual)
    save_file(made.state_dict(), folder / 'open_clip_model.safetensors')
    return f'local-dir:{folder}'


def word_tokenizer(folder):
    """A tokenizer of a few words, in the format of transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(['<pad>', '<unk>', *WORDS])
                                        }, unk_token='<unk>'))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token='<pad>', unk_token='<unk>',
                            eos_token='<pad>').save_pretrained(folder)
    return str(folder)


def conse(folder):
    pytest.importorskip('efficientnet_lite_pytorch', reason='extra `offline` is missing')
    return FeatureConfig(encoder='conse')


def openclip(folder):
    vision = {'image_size': 32, 'patch_size': 8, 'width': 64, 'layers': 2}
    name = openclip_folder(folder, vision, 24)
    return FeatureConfig(encoder='openclip', openclip_model=name, openclip_dense='auto')


def siglip2(folder):
    """timm's smallest transformer that pools by attention; a tokenizer from a local folder."""
    name = openclip_folder(
        folder, {'timm_model_name': 'test_vit3', 'timm_pool': 'map', 'timm_proj': 'none',
                 'image_size': 160}, 96, vocab_size=len(WORDS) + 2, no_causal_mask=True,
        hf_tokenizer_name=word_tokenizer(folder), tokenizer_kwargs={'clean': 'canonicalize'})
    return FeatureConfig(encoder='siglip2', model=name)


def pe(folder):
    """The real image tower of PE-Core T."""
    name = openclip_folder(
        folder, {'timm_model_name': 'vit_pe_core_tiny_patch16_384', 'timm_pool': 'map',
                 'timm_proj': None, 'image_size': 384}, 512, context_length=32)
    return FeatureConfig(encoder='pe', model=name)


def mobileclip2(folder):
    """The real image tower of MobileCLIP2 S0."""
    name = openclip_folder(
        folder, {'timm_model_name': 'fastvit_mci0', 'timm_pool': 'avg', 'timm_proj': None,
                 'image_size': 256}, 512)
    return FeatureConfig(encoder='mobileclip2', model=name)


def tipsv2(folder):
    transformers = pytest.importorskip('transformers', reason='extra `openclip` is missing')
    if not hasattr(transformers, 'Tipsv2Model'):
        pytest.skip(f'transformers {transformers.__version__} has no TIPSv2')
    sizes = {'hidden_size': 64, 'num_hidden_layers': 2, 'num_attention_heads': 2}
    config = transformers.Tipsv2Config(
        text_config={**sizes, 'intermediate_size': 128, 'vocab_size': len(LETTERS)},
        vision_config={**sizes, 'image_size': 112})
    torch.manual_seed(0)
    model = transformers.Tipsv2Model(config).eval()
    lively(model.vision_model)
    flat_positions(model).save_pretrained(folder)
    transformers.Tipsv2Tokenizer(vocab={letter: k for k, letter in enumerate(LETTERS)},
                                 merges=[]).save_pretrained(folder)
    return FeatureConfig(encoder='tipsv2', model=str(folder), dense_model='')


def radio(folder):
    """A checkpoint as NVIDIA lays it out: backbone, a head for each teacher, and its arguments."""
    pytest.importorskip('timm', reason='extra `openclip` is missing')
    folder.mkdir(parents=True, exist_ok=True)
    backbone = radio_backbone()
    state = {f'base_model.{name}': value for name, value in radio_names(backbone).items()}
    from lerf_ros.encoders.radio_checkpoint import AdaptorHead
    for teacher, size in enumerate((20, 32)):
        head = lively(AdaptorHead((128, 96, size), 1), seed=teacher)
        state |= {f'_heads.{teacher}.{name}': value for name, value in head.state_dict().items()}
    teachers = [{'name': 'dino_v2', 'type': 'dino_v2'},
                {'name': 'siglip2-g', 'type': 'siglip2', 'model': 'siglip2-g-384'}]
    torch.save({'state_dict': {name: value.half() for name, value in state.items()},
                'args': argparse.Namespace(teachers=teachers, mlp_version='v2')},
               folder / 'small.pth.tar')
    return FeatureConfig(encoder='radio', model=str(folder / 'small.pth.tar'),
                         text_model=siglip_text_tower(folder / 'text'))


RADIO_SIZES = {'embed_dim': 128, 'depth': 2, 'num_heads': 2, 'reg_tokens': 2}


def radio_backbone():
    import timm
    torch.manual_seed(0)
    made = lively(timm.create_model('naflexvit_base_patch16_radio_v3', num_classes=0,
                                    **RADIO_SIZES))
    with torch.no_grad():
        made.embeds.pos_embed.zero_()
        made.embeds.proj.bias.zero_()    # C-RADIO has none
    return made.eval()


def radio_names(backbone):
    """The weights of timm's network by the names of RADIO's own code."""
    out = {}
    for name, value in backbone.state_dict().items():
        if name == 'embeds.proj.weight':
            out['patch_generator.embedder.weight'] = channels_first(value)
        elif name == 'embeds.pos_embed':
            out['patch_generator.pos_embed'] = value.flatten(1, 2)
        elif name == 'embeds.cls_token':
            tokens = [value[0], backbone.state_dict()['embeds.reg_token'][0]]
            out['patch_generator.cls_token.token'] = torch.cat(tokens)
        elif name.startswith('blocks.'):
            out[name] = value
    return out


def channels_first(filters):
    """Filters (C, 16 * 16 * 3), which timm keeps with the channel last, as (C, 3 * 16 * 16)."""
    return filters.reshape(len(filters), 16, 16, 3).permute(0, 3, 1, 2).flatten(1)


def siglip_text_tower(folder):
    transformers = pytest.importorskip('transformers', reason='extra `openclip` is missing')
    config = transformers.SiglipTextConfig(
        vocab_size=len(WORDS) + 2, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, projection_size=32)
    torch.manual_seed(0)
    transformers.SiglipTextModel(config).save_pretrained(folder)
    return word_tokenizer(folder)


BUILDERS = {made.__name__: made for made in (conse, openclip, siglip2, pe, mobileclip2, tipsv2,
                                             radio)}

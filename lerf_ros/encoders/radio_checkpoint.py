# SPDX-License-Identifier: Apache-2.0
"""C-RADIO's weights: which file, which network of timm, and the adaptor towards SigLIP 2.

A checkpoint of RADIO holds the backbone (`base_model.`) and, for each teacher, a small network that
maps the backbone's tokens to the teacher's (`_heads.`). timm has the backbone; no library has the
heads, which are built here from the sizes of their tensors. The publisher's own code is not run:
the file is read with `weights_only`, which restores tensors and plain values alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lerf_ros.encoders.hub import hub_or_cache, require
from lerf_ros.encoders.openclip import unavailable
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.settings import nearest

DEFAULT = 'c-radio_v3-b'
# Name: repository of the hub and file in it.
FILES = {
    'c-radio_v3-b': ('nvidia/C-RADIOv3-B', 'c-radio_v3-b_half.pth.tar'),
    'c-radio_v3-l': ('nvidia/C-RADIOv3-L', 'c-radio-v3_l_half.pth.tar'),
    'c-radio_v3-h': ('nvidia/C-RADIOv3-H', 'c-radio_v3-h_half.pth.tar'),
    'c-radio_v3-g': ('nvidia/C-RADIOv3-g', 'c-radio_v3-g_half.pth.tar'),
    'c-radio_v4-so400m': ('nvidia/C-RADIOv4-SO400M', 'c-radio_v4-so400m_half.pth.tar'),
    'c-radio_v4-h': ('nvidia/C-RADIOv4-H', 'c-radio_v4-h_half.pth.tar')}
# Width of the tokens and number of class and register tokens: the network of timm, and settings
# other than its own.
NETWORKS: dict[tuple[int, int], tuple[str, dict[str, int]]] = {
    (768, 8): ('naflexvit_base_patch16_radio_v3', {}),
    (1024, 8): ('naflexvit_large_patch16_radio_v3', {}),
    (1280, 8): ('naflexvit_huge_patch16_radio_v3', {}),
    (1536, 8): ('naflexvit_giant_patch16_radio_v3', {}),
    (1152, 10): ('naflexvit_so400m_patch16_radio_v4', {}),
    (1280, 10): ('naflexvit_huge_patch16_radio_v4', {})}
TEACHER = 'siglip2'
# The text tower of each teacher, as transformers names it.
TEXT_TOWERS = {'siglip2-g-384': 'google/siglip2-giant-opt-patch16-384',
               'siglip2-so400m': 'google/siglip2-so400m-patch16-naflex'}
BACKBONE, TIMM_PREFIX = 'base_model.', 'radio_model.model.'


class AdaptorHead(nn.Module):
    """A residual network that maps tokens of the backbone to those of a teacher.

    Its parts have the names that they have in RADIO's checkpoints.
    """

    def __init__(self, sizes: tuple[int, int, int], inner: int) -> None:
        """sizes: of input, hidden layers and output. inner: residual blocks."""
        super().__init__()
        given, hidden, out = sizes
        self.fc1 = nn.Linear(given, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden))
            for _ in range(inner))
        self.final = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (..., C) to the teacher's embeddings (..., D)."""
        x = self.fc1(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.final(x)


@dataclass(frozen=True)
class RadioParts:
    """The backbone, the head of the teacher SigLIP 2, and the class token that the head reads."""

    backbone: nn.Module
    head: AdaptorHead
    slot: int


def load_radio(model: str) -> RadioParts:
    """Loads a model by its name, or from a checkpoint file.

    Raises EncoderUnavailableError for an unknown name, and for weights that cannot be had or are
    not those of a C-RADIO with a SigLIP 2 head.
    """
    file = checkpoint_file(model)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            stored = torch.load(file, map_location='cpu', weights_only=True)
        state = stored.get('state_dict_ema') or stored['state_dict']
        teachers = stored['args'].teachers
    except Exception as error:   # whatever the unpickler raises at a damaged or foreign file
        raise EncoderUnavailableError(
            f'{file} is no checkpoint of C-RADIO that can be read without running code from it '
            f'({type(error).__name__}: {str(error).splitlines()[0]})') from error
    state = {name.removeprefix('module.'): value.float() for name, value in state.items()
             if torch.is_tensor(value)}
    try:
        head, slot = adaptor_head(state, teachers)
        return RadioParts(build_backbone(state), head, slot)
    except (KeyError, RuntimeError) as error:
        raise EncoderUnavailableError(f'{file} has other parts than a C-RADIO with a head towards '
                                      f'SigLIP 2: {error}') from error


def checkpoint_file(model: str) -> Path:
    """Returns the checkpoint of a model, a file or downloaded; raises EncoderUnavailableError."""
    if Path(model).suffix:
        return Path(model).expanduser()
    if model not in FILES:
        raise EncoderUnavailableError(
            f'features.model = {model!r} is no C-RADIO{nearest(model, list(FILES))}; models are '
            f'{", ".join(FILES)}, or give a file .pth.tar')
    hub = require('huggingface_hub', 'openclip')
    repository, name = FILES[model]
    try:
        with hub_or_cache():
            return Path(hub.hf_hub_download(repository, name))
    except Exception as error:   # the hub's client raises the errors of its transport
        raise EncoderUnavailableError(unavailable(repository, name, error)) from error


def build_backbone(state: Mapping[str, Tensor]) -> nn.Module:
    """Builds timm's network for the backbone in a checkpoint, with its weights.

    Raises EncoderUnavailableError for sizes that are none of C-RADIO's, or a timm without them.
    """
    timm, naflex = require('timm', 'openclip'), require('timm.models.naflexvit', 'openclip')
    own = {TIMM_PREFIX + name.removeprefix(BACKBONE): value for name, value in state.items()
           if name.startswith(BACKBONE)}
    prefix, width = own[f'{TIMM_PREFIX}patch_generator.cls_token.token'].shape
    if (width, prefix) not in NETWORKS:
        raise EncoderUnavailableError(f'a RADIO with tokens of {width} numbers and {prefix} class '
                                      'and register tokens is none of C-RADIO v3 or v4')
    name, changes = NETWORKS[width, prefix]
    if not timm.is_model(name):
        raise EncoderUnavailableError(f'timm {timm.__version__} has no {name}: pip install -U timm')
    backbone: nn.Module = timm.create_model(name, num_classes=0, **changes)
    backbone.load_state_dict(naflex.checkpoint_filter_fn(own, backbone))
    return backbone


def adaptor_head(state: Mapping[str, Tensor],
                 teachers: Sequence[Mapping[str, object]]) -> tuple[AdaptorHead, int]:
    """Returns the head towards SigLIP 2 and the class token that it reads.

    Raises KeyError where the checkpoint has none.
    """
    names = [str(teacher['name']) for teacher in teachers]
    index = next((k for k, name in enumerate(names) if name.startswith(TEACHER)), None)
    if index is None:
        raise KeyError(f'its teachers are {", ".join(names)}')
    for prefix in (f'_heads.{index}.', f'_heads.{names[index]}.'):
        own = {name.removeprefix(prefix): value for name, value in state.items()
               if name.startswith(prefix)}
        if own:
            return built_head(own), int(str(teachers[index].get('token_slot', index)))
    raise KeyError(f'no head for {names[index]}')


def built_head(state: Mapping[str, Tensor]) -> AdaptorHead:
    """Returns a head with these weights; its sizes are theirs."""
    hidden, given = state['fc1.weight'].shape
    inner = len({name.split('.')[1] for name in state if name.startswith('blocks.')})
    head = AdaptorHead((given, hidden, len(state['final.2.weight'])), inner)
    head.load_state_dict(dict(state))
    return head

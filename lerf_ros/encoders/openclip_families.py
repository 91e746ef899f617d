# SPDX-License-Identifier: Apache-2.0
"""The encoders `siglip2`, `pe` and `mobileclip2`: families of open_clip models by their own names.

Each is a short name for one publisher's models, the weights that belong to them, and the dense
maps that suit their pooling:

- `siglip2` (Tschannen et al., 2025, arXiv 2502.14786): trained with a sigmoid, pools by attention,
  reads many languages; its phrases have 64 tokens and lose capitals and punctuation.
- `pe` (Perception Encoder, Bolya et al., 2025, arXiv 2504.13181): pools by attention.
- `mobileclip2` (Faghri et al., 2025, arXiv 2508.20691): for small computers; its weights are for
  research only. S0 to S4 are convolutional, B and L pool a class token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.hub import require
from lerf_ros.encoders.openclip import OpenClipEncoder
from lerf_ros.encoders.openclip_patches import load as load_openclip
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.settings import nearest


@dataclass(frozen=True)
class Family:
    """Models of one publisher in open_clip.

    default: the model that is taken unless one is named. part: what its models have in their
    names. weights: the tag of their weights.
    """

    default: str
    part: str
    weights: str


FAMILIES = {'siglip2': Family('ViT-B-16-SigLIP2-256', 'SigLIP2', 'webli'),
            'pe': Family('PE-Core-B-16', 'PE-Core', 'meta'),
            'mobileclip2': Family('MobileCLIP2-S2', 'MobileCLIP2', 'dfndr2b')}


def load(config: FeatureConfig, device: str, text_only: bool) -> OpenClipEncoder:
    """Loads the model of the family `config.encoder` that `config.model` names.

    Raises EncoderUnavailableError for a model of another family and what OpenClipEncoder raises,
    ConfigError for `config.patches` that the model does not support.
    """
    family = FAMILIES[config.encoder]
    model = config.model or family.default
    if ':' not in model:
        check_member(config.encoder, family, model)
    mode = 'none' if config.patches == 'crops' else config.patches
    return load_openclip(replace(
        config, openclip_model=model, openclip_dense=mode,
        openclip_pretrained='' if ':' in model else family.weights), device, text_only,
        config.encoder)


def check_member(encoder: str, family: Family, model: str) -> None:
    """Raises EncoderUnavailableError, which names the members, for a model of another family."""
    members = [name for name in require('open_clip', 'openclip').list_models()
               if family.part in name]
    if not members:
        raise EncoderUnavailableError(
            f'the encoder {encoder!r} needs an open_clip that knows {family.default}: '
            'pip install -U open_clip_torch timm')
    if model not in members:
        raise EncoderUnavailableError(
            f'features.model = {model!r} is none of {encoder}{nearest(model, members)}; its '
            f'models are {", ".join(members)}, or hf-hub:... or local-dir:...')

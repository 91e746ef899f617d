# SPDX-License-Identifier: Apache-2.0
"""The fields as named arrays, and back. Encoders' weights are never inside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from lerf_ros.config import FieldConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField


def field_arrays(radiance: RadianceField, language: LanguageField) -> dict[str, np.ndarray]:
    """All parameters of both fields, float32, by name."""
    return {f'{part}.{name}': value.detach().float().cpu().numpy()
            for part, module in (('radiance', radiance), ('language', language))
            for name, value in module.state_dict().items()}


def load_fields(config: FieldConfig,
                arrays: Mapping[str, np.ndarray]) -> tuple[RadianceField, LanguageField]:
    """Both fields with the stored parameters; MapUnreadableError when they do not fit."""
    try:
        embedding = arrays[f'language.embedding_network.{2 * config.language_layers}.bias']
        dense = arrays.get('language.dense_network.2.bias', np.zeros(0))
        radiance = RadianceField(config)
        language = LanguageField(config, len(embedding), len(dense))
        _load(radiance, 'radiance.', arrays)
        _load(language, 'language.', arrays)
    except (KeyError, RuntimeError) as error:
        raise MapUnreadableError(
            f'the stored field does not fit its settings: {error}') from error
    return radiance, language


def _load(module: nn.Module, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
    module.load_state_dict({name[len(prefix):]: torch.from_numpy(value)
                            for name, value in arrays.items() if name.startswith(prefix)})

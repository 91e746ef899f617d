# SPDX-License-Identifier: Apache-2.0
"""What the world means: embeddings of an image-text encoder at a position and a scale (LERF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lerf_ros.config import FieldConfig
from lerf_ros.field.hash_encoding import HashEncoding
from lerf_ros.field.scene_frame import contract
from lerf_ros.field.volume_rendering import render_unit

# The scale enters as the logarithm of the width, about -1..1 over the widths of use: between 5 cm
# and 1 m in a scene of 1 m radius each doubling matters equally.
SCALE_CENTER, SCALE_SPAN = -1.2, 1.5


def scale_input(width: Tensor) -> Tensor:
    """The network's scale input of a width in scene radii."""
    return (torch.log(width.clamp_min(1e-4)) - SCALE_CENTER) / SCALE_SPAN


class LanguageField(nn.Module):
    """A hash grid of its own with two heads: embeddings (with scale) and dense features (without).

    The dense head shares the grid, and so regularises it (LERF's DINO branch, section 3.3).
    """

    def __init__(self, config: FieldConfig, embedding_dimension: int,
                 dense_dimension: int) -> None:
        super().__init__()
        self.encoding = HashEncoding(
            config.language_levels, 16, config.language_max_resolution,
            config.language_log2_table, config.language_features)
        self.embedding_dimension = embedding_dimension
        inputs, hidden = self.encoding.output_dimension, config.language_hidden
        layers: list[nn.Module] = [nn.Linear(inputs + 1, hidden), nn.ReLU()]
        for _ in range(config.language_layers - 1):
            layers += [nn.Linear(hidden, hidden), nn.ReLU()]
        self.embedding_network = nn.Sequential(*layers, nn.Linear(hidden, embedding_dimension))
        self.dense_network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, dense_dimension)
        ) if dense_dimension else None

    def features(self, positions: Tensor) -> Tensor:
        """Grid features (R, S, F) at scene positions (R, S, 3); no gradient to the positions."""
        out = self.encoding(contract(positions.detach()).reshape(-1, 3))
        return out.reshape(*positions.shape[:-1], -1)

    def embeddings(self, features: Tensor, width: Tensor) -> Tensor:
        """Unit embeddings (R, S, D) for grid features (R, S, F) and widths (R, S) in radii."""
        inputs = torch.cat([features, scale_input(width)[..., None]], -1)
        return functional.normalize(self.embedding_network(inputs), dim=-1, eps=1e-6)

    def render(self, features: Tensor, weights: Tensor, width: Tensor) -> Tensor:
        """Rendered unit embeddings (R, D); weights (R, S) carry no gradient (LERF)."""
        return render_unit(weights.detach(), self.embeddings(features, width))

    def render_dense(self, features: Tensor, weights: Tensor) -> Tensor:
        """Rendered dense features (R, C)."""
        assert self.dense_network is not None
        return (weights.detach()[..., None] * self.dense_network(features)).sum(-2)

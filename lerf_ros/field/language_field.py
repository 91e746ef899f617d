# SPDX-License-Identifier: Apache-2.0
"""What the world means: embeddings of an image-text encoder at a position and a scale (LERF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lerf_ros.config import LanguageConfig
from lerf_ros.field.hash_encoding import HashEncoding
from lerf_ros.field.native_perceptron import Perceptron
from lerf_ros.field.networks import network
from lerf_ros.field.volume_rendering import render_unit
from lerf_ros.geometry.scene_frame import contract

# The logarithm of the scale, about -1..1 over the widths of use: between 5 cm and 1 m in a scene
# of 1 m radius each doubling matters equally.
SCALE_CENTER, SCALE_SPAN = -1.2, 1.5


def scale_input(scale: Tensor, form: str = 'log') -> Tensor:
    """The network's input for a scale in scene radii: `raw` as in LERF, or its logarithm."""
    if form == 'raw':
        return scale
    return (torch.log(scale.clamp_min(1e-4)) - SCALE_CENTER) / SCALE_SPAN


class LanguageField(nn.Module):
    """Hash grids of its own with two heads: embeddings (with scale) and dense features (without).

    The dense head shares the grids, and so regularises them (LERF's DINO branch, section 3.3).
    Nothing here reaches the density: positions and weights carry no gradient.
    """

    def __init__(self, config: LanguageConfig, embedding_dimension: int,
                 dense_dimension: int) -> None:
        super().__init__()
        self.config = config
        self.encodings = nn.ModuleList(
            HashEncoding(levels, base, finest, config.log2_table, config.features)
            for levels, base, finest in zip(config.levels, config.base_resolutions,
                                            config.max_resolutions, strict=True))
        self.embedding_dimension, self.dense_dimension = embedding_dimension, dense_dimension
        inputs = config.features * sum(config.levels)
        self.embedding_network = network(inputs + 1, config.hidden, config.layers,
                                         embedding_dimension)
        self.dense_network = network(inputs, config.dense_hidden, 1, dense_dimension) \
            if dense_dimension else None

    def features(self, positions: Tensor) -> Tensor:
        """Grid features (R, S, F) at scene positions (R, S, 3); no gradient to the positions."""
        inside = contract(positions.detach(), self.config.contraction).reshape(-1, 3)
        out = torch.cat([encoding(inside) for encoding in self.encodings], -1)
        return out.reshape(*positions.shape[:-1], -1)

    def embeddings(self, features: Tensor, scale: Tensor) -> Tensor:
        """Unit embeddings (R, S, D) for grid features (R, S, F) and scales (R, S) in radii."""
        inputs = torch.cat([features, scale_input(scale, self.config.scale_input)[..., None]], -1)
        return functional.normalize(self.embedding_network(inputs).float(), dim=-1, eps=1e-6)

    def span(self) -> Tensor:
        """Orthonormal columns (D, m) that hold all that can be rendered, m at most hidden + 1.

        Every embedding is a sum of the columns and the bias of the last layer.
        """
        last = self.embedding_network[-1]
        assert isinstance(last, nn.Linear)
        return torch.linalg.qr(torch.cat([last.weight, last.bias[:, None]], 1).detach())[0]

    def projection(self, basis: Tensor) -> Perceptron:
        """The embedding network with its outputs in the columns of an orthonormal basis (D, r).

        For many columns less than the whole network: its last layer is by far its largest.
        """
        last = self.embedding_network[-1]
        assert isinstance(last, nn.Linear)
        # Without initial values: drawing these would change the random numbers of training.
        reduced = nn.utils.skip_init(nn.Linear, last.in_features, basis.shape[1],
                                     device=basis.device)
        reduced.weight.data, reduced.bias.data = basis.T @ last.weight, basis.T @ last.bias
        return Perceptron(*self.embedding_network[:-1], reduced)

    def render_codes(self, projection: Perceptron, features: Tensor, weights: Tensor,
                     scale: float) -> Tensor:
        """Unit codes (R, r) of the rendered embeddings at one scale, scene radii.

        A sample's code is made unit in place of its embedding, whose length is that of the code
        as far as the basis holds its energy.
        """
        scales = torch.full_like(weights, scale)
        inputs = torch.cat([features, scale_input(scales, self.config.scale_input)[..., None]], -1)
        codes = functional.normalize(projection(inputs).float(), dim=-1, eps=1e-6)
        return render_unit(weights, codes)

    def render(self, features: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
        """Rendered unit embeddings (R, D); weights (R, S) carry no gradient (LERF)."""
        return render_unit(weights.detach(), self.embeddings(features, scale))

    def render_dense(self, features: Tensor, weights: Tensor) -> Tensor:
        """Rendered dense features (R, C)."""
        assert self.dense_network is not None
        return (weights.detach()[..., None] * self.dense_network(features).float()).sum(-2)

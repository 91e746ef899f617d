# SPDX-License-Identifier: Apache-2.0
"""The language field: embeddings of an image-text encoder at a position and a scale (LERF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lerf_ros.config import LanguageConfig
from lerf_ros.field.hash_encoding import HashEncoding
from lerf_ros.field.networks import Perceptron, network
from lerf_ros.field.volume_rendering import render_unit
from lerf_ros.geometry.scene_frame import contract

# These bring the logarithm of useful scales to about -1..1. Between 5 cm and 1 m in a scene of 1 m
# radius, each doubling of the scale matters equally.
SCALE_CENTER, SCALE_SPAN = -1.2, 1.5


def scale_input(scale: Tensor, form: str = 'log') -> Tensor:
    """Returns the network's input for a scale, scene radii: `raw` as in LERF, or its logarithm."""
    if form == 'raw':
        return scale
    return (torch.log(scale.clamp_min(1e-4)) - SCALE_CENTER) / SCALE_SPAN


class LanguageField(nn.Module):
    """Hash grids of its own with two heads: embeddings at a scale, and dense features.

    The dense head regularises the grids, which both heads share (LERF's DINO branch, section 3.3).
    No gradient reaches the radiance field: positions and weights carry none.
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
        """Looks up grid features (R, S, F) at scene positions (R, S, 3)."""
        inside = contract(positions.detach(), self.config.contraction).reshape(-1, 3)
        out = torch.cat([encoding(inside) for encoding in self.encodings], -1)
        return out.reshape(*positions.shape[:-1], -1)

    def embeddings(self, features: Tensor, scale: Tensor) -> Tensor:
        """Computes unit embeddings (R, S, D) of grid features (R, S, F) at scales (R, S), radii."""
        inputs = torch.cat([features, scale_input(scale, self.config.scale_input)[..., None]], -1)
        return functional.normalize(self.embedding_network(inputs).float(), dim=-1, eps=1e-6)

    def span(self) -> Tensor:
        """Returns orthonormal columns (D, m) that span all embeddings, m at most hidden + 1.

        Every embedding is a linear combination of the last layer's columns, plus its bias.
        """
        last = self.embedding_network[-1]
        assert isinstance(last, nn.Linear)
        return torch.linalg.qr(torch.cat([last.weight, last.bias[:, None]], 1).detach())[0]

    def projection(self, basis: Tensor) -> Perceptron:
        """Returns the embedding network with outputs in an orthonormal basis (D, r).

        That is faster than the whole network, whose last layer is by far its largest.
        """
        last = self.embedding_network[-1]
        assert isinstance(last, nn.Linear)
        # Drawing initial values would change the random numbers of training.
        reduced = nn.utils.skip_init(nn.Linear, last.in_features, basis.shape[1],
                                     device=basis.device)
        reduced.weight.data, reduced.bias.data = basis.T @ last.weight, basis.T @ last.bias
        return Perceptron(*self.embedding_network[:-1], reduced)

    def render_codes(self, projection: Perceptron, features: Tensor, weights: Tensor,
                     scale: float) -> Tensor:
        """Renders unit codes (R, r) of embeddings at one scale, scene radii.

        Each sample's code is normalised in place of its embedding: both have the same length as
        far as the basis holds the embedding's energy.
        """
        scales = torch.full_like(weights, scale)
        inputs = torch.cat([features, scale_input(scales, self.config.scale_input)[..., None]], -1)
        codes = functional.normalize(projection(inputs).float(), dim=-1, eps=1e-6)
        return render_unit(weights, codes)

    def render(self, features: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
        """Renders unit embeddings (R, D); no gradient reaches weights (R, S) (LERF)."""
        return render_unit(weights.detach(), self.embeddings(features, scale))

    def render_dense(self, features: Tensor, weights: Tensor) -> Tensor:
        """Renders dense features (R, C)."""
        assert self.dense_network is not None
        return (weights.detach()[..., None] * self.dense_network(features).float()).sum(-2)

# SPDX-License-Identifier: Apache-2.0
"""Relevancy as a camera sees it: rendered through both fields for any camera (LERF, section 3.4).

LERF searches one scale for each phrase and view: the one at which the phrase fits best anywhere
in the view. The index takes the best scale of each point; `per_pixel` does the same with pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lerf_ros.evaluation.full_search import least_softmax
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.surface import view_grid
from lerf_ros.show.colors import NEUTRAL, relevancy_colors

CHUNK = 1024   # rays rendered at once
DIMMED = 0.4   # brightness of what is not relevant, where it is darkened


@dataclass(frozen=True)
class Phrases:
    """What is asked: unit embeddings texts (T, D) and negatives (M, D), and the temperature."""

    texts: np.ndarray
    negatives: np.ndarray
    temperature: float


@dataclass(frozen=True)
class RelevancyMap:
    """One view of T phrases.

    relevancy (T, H, W) float32 in 0..1; scale: index of the best scale, (T,) one a view or
    (T, H, W) one a pixel; rgb (H, W, 3) uint8; accumulation (H, W) float32, opacity in 0..1.
    """

    relevancy: np.ndarray
    scale: np.ndarray
    rgb: np.ndarray
    accumulation: np.ndarray


@torch.no_grad()
def render_relevancy(radiance: RadianceField, language: LanguageField, scene: SceneFrame,
                     camera: PinholeCamera, T_world_camera: np.ndarray, phrases: Phrases,
                     scales: Sequence[float], per_pixel: bool = False) -> RelevancyMap:
    """What the camera sees of each phrase; scales in scene radii, as `search_scales` gives them.

    per_pixel: the best scale of each pixel, instead of LERF's one for each phrase and view. Memory
    holds one float32 for each pixel, scale and phrase: ask for few phrases of a large view.
    """
    device = next(language.parameters()).device
    rays = view_grid(camera, scene.pose_to_scene(T_world_camera), 1, None, device).rays
    texts, negatives = (torch.as_tensor(rows, dtype=torch.float32, device=device)
                        for rows in (phrases.texts, phrases.negatives))
    colors, opacity, values = [], [], []
    for start in range(0, len(rays), CHUNK):
        part = rays[start:start + CHUNK]
        out = radiance(part)
        weights, distances = strongest(out.weights, out.edges, language.config.samples)
        features = language.features(
            part.origins[:, None] + distances[..., None] * part.directions[:, None])
        values.append(torch.stack([_relevancy(
            language.render(features, weights, torch.full_like(distances, scale)), texts,
            negatives, phrases.temperature) for scale in scales]).cpu())          # (S, T, n)
        colors.append(out.color.cpu())
        opacity.append(out.accumulation.cpu())
    relevancy, scale = best_scale(torch.cat(values, -1), per_pixel)
    shape = camera.height, camera.width
    return RelevancyMap(
        relevancy.numpy().reshape(-1, *shape),
        scale.numpy().reshape(-1, *shape) if per_pixel else scale.numpy(),
        (torch.cat(colors).clamp(0, 1) * 255).round().byte().numpy().reshape(*shape, 3),
        torch.cat(opacity).numpy().reshape(shape))


def _relevancy(embeddings: Tensor, texts: Tensor, negatives: Tensor,
               temperature: float) -> Tensor:
    """Relevancy (T, n) of rendered embeddings (n, D)."""
    against = embeddings @ negatives.T
    return torch.stack([least_softmax(cosine, against, temperature)
                        for cosine in (embeddings @ texts.T).unbind(-1)])


def best_scale(values: Tensor, per_pixel: bool) -> tuple[Tensor, Tensor]:
    """Of relevancies (S, T, P) of the pixels of a view: those at the best scale (T, P), and it.

    The scale is (T, P), each pixel's best, or (T,), where the phrase's maximum over the view lies.
    """
    if per_pixel:
        best = values.max(0)
        return best.values, best.indices
    scale = values.amax(-1).argmax(0)
    return values[scale, torch.arange(values.shape[1])], scale


def relevancy_overlay(rgb: np.ndarray, relevancy: np.ndarray, darken: bool = False) -> np.ndarray:
    """The paper's colours: turbo from 0.5 to the maximum of this phrase, the image elsewhere.

    rgb (H, W, 3) uint8, relevancy (H, W) in 0..1 of one phrase; each phrase has its own mask and
    maximum. darken: what lies below 0.5 is shown at less than half of its brightness.
    """
    if rgb.shape != (*relevancy.shape, 3):
        raise ValueError(f'image {rgb.shape} and relevancy {relevancy.shape}: of different sizes')
    level, plain = relevancy.reshape(-1), rgb.reshape(-1, 3)
    if darken:
        plain = np.where(level[:, None] < NEUTRAL, np.round(plain * DIMMED), plain)
    return relevancy_colors(level, plain.astype(np.uint8)).reshape(rgb.shape)

# SPDX-License-Identifier: Apache-2.0
"""How well the radiance field renders held-out keyframes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.training.ray_batches import KeyframeStore

QUALITY_RAYS = 4096   # rays of held-out keyframes that measure PSNR and depth error


@dataclass(frozen=True)
class Quality:
    """Held-out quality: PSNR in dB and median depth error in world units; NaN where unknown."""

    psnr: float = math.nan
    depth_error: float = math.nan

    def known(self) -> dict[str, float | None]:
        """Returns both values as JSON holds them: None where unknown."""
        return {name: None if math.isnan(value) else value
                for name, value in (('psnr', self.psnr), ('depth_error', self.depth_error))}


@torch.no_grad()
def measure_quality(radiance: RadianceField, held_out: KeyframeStore, radius: float,
                    rays: int = QUALITY_RAYS) -> Quality:
    """Measures quality on about `rays` pixels; radius of the scene frame, world units."""
    if not len(held_out):
        return Quality()
    color, depth = [], []
    each = max(rays // len(held_out), 64)
    for row in range(len(held_out)):
        batch = held_out.grid_of(row, each)
        out = radiance(batch.rays)
        color.append((out.color - batch.colors).square().mean(-1))
        assert batch.rays.depth is not None
        depth.append((out.distance - batch.rays.depth).abs())
    error = torch.cat(depth)
    error = error[torch.isfinite(error)]
    return Quality(
        -10 * math.log10(max(float(torch.cat(color).mean()), 1e-10)),
        float(error.median()) * radius if len(error) else math.nan)

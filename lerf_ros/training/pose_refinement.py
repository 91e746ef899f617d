# SPDX-License-Identifier: Apache-2.0
"""Small corrections of the keyframes' poses that are learned together with the radiance field."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lerf_ros.config import PoseConfig
from lerf_ros.field.ray_sampling import Rays


class PoseRefinement(nn.Module):
    """A rotation and a translation for each keyframe row, applied to its rays in the scene frame.

    Only rays that are drawn for training move: d' = R d, o' = o + t. Held-out keyframes keep their
    poses. The mean correction is taken off all of them: images do not tell where the whole map is,
    which would drift away from the measured poses, and from what a robot knows of its place.
    """

    count: Tensor

    def __init__(self, keyframes: int, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(keyframes, 6))   # translation, rotation vector
        self.register_buffer('count', torch.zeros((), dtype=torch.int64))   # rows in use

    def forward(self, rays: Rays, keyframe: Tensor) -> Rays:
        """Returns the corrected rays of keyframe rows (R,); gradients reach the corrections."""
        correction = self.table[keyframe] - self.mean()
        turned = rotation_matrix(correction[:, 3:]) @ rays.directions[..., None]
        return replace(rays, origins=rays.origins + correction[:, :3], directions=turned[..., 0])

    def mean(self) -> Tensor:
        """Returns the mean of the rows in use (6,); the others get no gradient."""
        used = torch.arange(len(self.table), device=self.table.device) < self.count
        return (self.table * used[:, None]).sum(0) / self.count.clamp_min(1)

    def penalty(self) -> Tensor:
        """Returns the weighted mean length of the corrections in use (nerfstudio's L2 penalties).
        """
        lengths = torch.sqrt(self.table.reshape(-1, 2, 3).square().sum(-1) + 1e-16).sum(0)
        lengths = lengths / self.count.clamp_min(1)     # rows that are not in use are zero
        return (self.config.translation_penalty * lengths[0]
                + self.config.rotation_penalty * lengths[1])

    @torch.no_grad()
    def reset_row(self, row: int) -> None:
        """Forgets the correction of a row whose keyframe, or whose measured pose, is new."""
        self.table[row] = 0
        self.count.clamp_(min=row + 1)
        # The mean of the other rows is then that of all, and taking it off leaves nothing.
        self.table[row] = self.mean() * self.count / (self.count - 1).clamp_min(1)

    @torch.no_grad()
    def corrected(self, row: int, T_scene_camera: Tensor) -> Tensor:
        """Applies the correction of a row to a pose (4, 4)."""
        out = T_scene_camera.clone()
        correction = (self.table[row] - self.mean()).to(device='cpu', dtype=out.dtype)
        out[:3, :3] = rotation_matrix(correction[None, 3:])[0] @ out[:3, :3]
        out[:3, 3] += correction[:3]
        return out


def rotation_matrix(vector: Tensor) -> Tensor:
    """Computes rotations (R, 3, 3) of rotation vectors (R, 3), radians; smooth at zero."""
    square = vector.square().sum(-1)[:, None, None]
    angle = square.clamp_min(1e-12).sqrt()
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    # Rodrigues. Below 1e-6 rad the two factors are their limits, and gradients stay finite.
    sine, cosine = torch.sin(angle) / angle, (1 - torch.cos(angle)) / angle.square()
    identity = torch.eye(3, device=vector.device, dtype=vector.dtype)
    return identity + sine * cross + cosine * (cross @ cross)

# SPDX-License-Identifier: Apache-2.0
"""Which keyframe to forget when there is room for no more: the one that others replace best."""

from __future__ import annotations

import numpy as np

from lerf_ros.config import KeyframeConfig

# The newest keyframes are what the field learns from now.
PROTECTED = 4


def pose_distances(poses: np.ndarray, config: KeyframeConfig) -> np.ndarray:
    """How different the views of poses (N, 4, 4) are, (N, N).

    1 for each `min_translation` between them plus 1 for each `min_rotation`.
    """
    positions, rotations = poses[:, :3, 3], poses[:, :3, :3]
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    traces = np.einsum('iab,jab->ij', rotations, rotations)
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    return apart / max(config.min_translation, 1e-3) + angles / max(config.min_rotation, 1e-3)


def most_redundant(poses: np.ndarray, arrivals: np.ndarray, newcomer: np.ndarray,
                   config: KeyframeConfig) -> int:
    """The keyframe to forget, 0 to N - 1, so that `newcomer` has room.

    poses (N, 4, 4) of the keyframes and newcomer (4, 4) of the one to come. arrivals (N,): when
    they came, ascending. Of the two that are most alike, the newcomer among them, the older one
    goes: the newer shows the same place as it is by now.
    """
    distance = pose_distances(np.concatenate([poses, newcomer[None]]), config)
    order = np.append(arrivals, arrivals.max() + 1)
    older = np.minimum.outer(order, order) == order[:, None]    # row is the older of the two
    np.fill_diagonal(older, False)
    nearest = np.where(older, distance, np.inf).min(1)
    nearest[order >= np.sort(order)[-min(PROTECTED + 1, len(order))]] = np.inf
    if not np.isfinite(nearest).any():      # hardly any keyframes: the oldest goes
        return int(np.argmin(arrivals))
    return int(np.argmin(nearest))

# SPDX-License-Identifier: Apache-2.0
"""Selects keyframes: the camera moved, the image is sharp, the budget is not exhausted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from lerf_ros.config import KeyframeConfig
from lerf_ros.frames.frame import Frame

# Sharpness is measured at this width, so that it does not depend on the camera's resolution.
SHARPNESS_WIDTH = 320
# Number of frames whose median sharpness is the reference: half a second to a second of video.
SHARPNESS_WINDOW = 15

NOT_MOVED, BLURRED, BUDGET, EMPTY = 'not moved', 'blurred', 'budget', 'empty'


@dataclass(frozen=True)
class Decision:
    """Whether a frame was accepted, else the reason: 'not moved', 'blurred', 'budget', 'empty'."""

    accepted: bool
    reason: str = ''


class KeyframeSelector:
    """Decides frame by frame which ones become keyframes; the first one always does."""

    def __init__(self, config: KeyframeConfig) -> None:
        self._config = config
        self._sharpness: deque[float] = deque(maxlen=SHARPNESS_WINDOW)
        self._last_pose: np.ndarray | None = None
        self._count = 0

    def consider(self, frame: Frame) -> Decision:
        """Decides whether to keep a frame, which then becomes the reference for the next one."""
        if is_empty(frame.image, self._config.least_contrast):
            return Decision(False, EMPTY)
        recent = sharpness(frame.image)
        self._sharpness.append(recent)
        reason = self._refusal(frame.T_world_camera, recent)
        if reason:
            return Decision(False, reason)
        self._last_pose = np.array(frame.T_world_camera)
        self._count += 1
        return Decision(True)

    def restart(self) -> None:
        """Starts over after time has jumped back: the next frame is kept."""
        self._sharpness.clear()
        self._last_pose = None

    def _refusal(self, T_world_camera: np.ndarray, recent: float) -> str:
        if self._count >= self._config.max_count and self._config.when_full == 'refuse':
            return BUDGET
        if self._last_pose is None:
            return ''
        distance, angle = motion(self._last_pose, T_world_camera)
        if distance < self._config.min_translation and angle < self._config.min_rotation:
            return NOT_MOVED
        if recent < self._config.sharpness_ratio * float(np.median(self._sharpness)):
            return BLURRED
        return ''


def motion(T_world_a: np.ndarray, T_world_b: np.ndarray) -> tuple[float, float]:
    """Returns distance (world units) and angle (degrees) between two camera poses (4, 4)."""
    R = T_world_a[:3, :3].T @ T_world_b[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1)))
    return float(np.linalg.norm(T_world_b[:3, 3] - T_world_a[:3, 3])), float(angle)


def sharpness(image: np.ndarray) -> float:
    """Measures an RGB image (H, W, 3) uint8: variance of Laplacian (Pech-Pacheco et al., 2000)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height = max(round(grey.shape[0] * SHARPNESS_WIDTH / grey.shape[1]), 1)
    small = cv2.resize(grey, (SHARPNESS_WIDTH, height), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def is_empty(image: np.ndarray, least_contrast: float) -> bool:
    """Returns whether an RGB image (H, W, 3) uint8 is of one shade, as from behind a lens cap.

    least_contrast: standard deviation of grey values (0 to 255) below which it is.
    """
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std()) < least_contrast


def is_held_out(index: int, every: int) -> bool:
    """Returns whether a keyframe is held out to measure quality; every = 0 holds out none."""
    return bool(every) and index % every == every - 1


# Number of newest keyframes that are never forgotten: training needs them now.
PROTECTED = 4


def pose_distances(poses: np.ndarray, config: KeyframeConfig) -> np.ndarray:
    """Computes the distances (N, N) between the views of poses (N, 4, 4).

    Each `min_translation` counts 1, and each `min_rotation` counts 1.
    """
    positions, rotations = poses[:, :3, 3], poses[:, :3, :3]
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    traces = np.einsum('iab,jab->ij', rotations, rotations)
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    return apart / max(config.min_translation, 1e-3) + angles / max(config.min_rotation, 1e-3)


def most_redundant(poses: np.ndarray, arrivals: np.ndarray, newcomer: np.ndarray,
                   config: KeyframeConfig) -> int:
    """Returns which keyframe, 0 to N - 1, to forget for a new one.

    poses: (N, 4, 4) of the keyframes. arrivals: (N,), larger for those that arrived later.
    newcomer: (4, 4), pose of the new one. Of the two most similar views, the new one included, the
    older keyframe is forgotten, because the newer one shows the current state of the same place.
    """
    distance = pose_distances(np.concatenate([poses, newcomer[None]]), config)
    order = np.append(arrivals, arrivals.max() + 1)
    older = np.minimum.outer(order, order) == order[:, None]    # whether the row is the older one
    np.fill_diagonal(older, False)
    nearest = np.where(older, distance, np.inf).min(1)
    nearest[order >= np.sort(order)[-min(PROTECTED + 1, len(order))]] = np.inf
    if not np.isfinite(nearest).any():      # too few keyframes: forget the oldest
        return int(np.argmin(arrivals))
    return int(np.argmin(nearest))

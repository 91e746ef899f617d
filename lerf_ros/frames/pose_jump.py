# SPDX-License-Identifier: Apache-2.0
"""Corrects earlier poses after a jump of the localisation, such as a loop closure.

A jump reveals the error of the current pose. That error accumulated along the way from zero at the
start, so it is distributed over the path in proportion to the distance travelled, as in explicit
loop closing (Sprickerhof et al., ELCH, ECMR 2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class StampedPose:
    """Pose and time of a keyframe; index: its number in the map directory."""

    index: int
    stamp_ns: int
    T_world_camera: np.ndarray


@dataclass(frozen=True)
class PoseJump:
    """A discontinuity of the localisation.

    T_jump: (4, 4), maps poses from before the jump to after it. until_ns: newest stamp of a pose
    from before the jump. since_ns: that of the previous jump, 0 for none. spread: whether the
    error accumulated since the previous jump; otherwise the map frame itself was moved, and all
    earlier poses move with it.
    """

    T_jump: np.ndarray
    since_ns: int
    until_ns: int
    spread: bool = True

    def corrected(self, stamped: Iterable[StampedPose]) -> dict[int, np.ndarray]:
        """Returns the corrected poses (4, 4), by index, of keyframes taken before the jump."""
        before = sorted((p for p in stamped if p.stamp_ns <= self.until_ns),
                        key=lambda p: p.stamp_ns)
        if not self.spread:
            return {p.index: self.T_jump @ p.T_world_camera for p in before}
        drifted = [p for p in before if p.stamp_ns > self.since_ns]
        if not drifted:
            return {}
        poses = spread_error(np.stack([p.T_world_camera for p in drifted]), self.T_jump)
        return {p.index: T for p, T in zip(drifted, poses, strict=True)}


def spread_error(poses: np.ndarray, T_jump: np.ndarray) -> np.ndarray:
    """Deforms a path of poses (N, 4, 4) so that the last moves by T_jump and the first stays.

    Each step is rotated by its part of the rotation; then the remaining translation is distributed.
    Poses that are all at one place move as a whole.
    """
    centers = poses[:, :3, 3]
    steps = np.diff(centers, axis=0)
    travelled = np.append(0.0, np.cumsum(np.linalg.norm(steps, axis=1)))
    if travelled[-1] <= 0:
        return np.asarray(T_jump @ poses)
    fraction = (travelled / travelled[-1])[:, None]
    turn = Rotation.from_matrix(T_jump[:3, :3]).as_rotvec()
    # The rotation also grows along a step, hence the value at its middle.
    turned = Rotation.from_rotvec((fraction[1:] + fraction[:-1]) / 2 * turn).apply(steps)
    path = centers[0] + np.concatenate([np.zeros((1, 3)), np.cumsum(turned, axis=0)])
    goal = T_jump[:3, :3] @ centers[-1] + T_jump[:3, 3]
    out = poses.copy()
    out[:, :3, :3] = Rotation.from_rotvec(fraction * turn).as_matrix() @ poses[:, :3, :3]
    out[:, :3, 3] = path + fraction * (goal - path[-1])
    return out


def by_index(stamped: Sequence[StampedPose],
             poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Returns poses (4, 4) given by stamp (ns) by the index of the keyframe with that stamp.

    Stamps without a keyframe are ignored.
    """
    return {p.index: poses[p.stamp_ns] for p in stamped if p.stamp_ns in poses}

# SPDX-License-Identifier: Apache-2.0
"""What a jump of the localisation, as after a loop closure, says of poses that were given before.

A jump tells the error of where the robot stands at that moment. It has grown along the way: where
the robot set out from nothing was wrong. So the error is spread over the path, in proportion to the
distance travelled, as loop closing does it (Sprickerhof et al., ELCH, ECMR 2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Placed:
    """Where a keyframe was taken, and when; index: its number in the map directory."""

    index: int
    stamp_ns: int
    T_world_camera: np.ndarray


@dataclass(frozen=True)
class PoseJump:
    """T_jump (4, 4): brings a pose of just before the jump to where it is just after it.

    until_ns: the newest stamp whose poses are those of before. since_ns: the same of the jump
    before this one, 0 for none. spread: whether the error has grown since then; else the world
    itself was given another place, and all earlier poses are carried along.
    """

    T_jump: np.ndarray
    since_ns: int
    until_ns: int
    spread: bool = True

    def corrected(self, placed: Iterable[Placed]) -> dict[int, np.ndarray]:
        """The poses (4, 4) by index of the keyframes that were taken before."""
        before = sorted((p for p in placed if p.stamp_ns <= self.until_ns),
                        key=lambda p: p.stamp_ns)
        if not self.spread:
            return {p.index: self.T_jump @ p.T_world_camera for p in before}
        drifted = [p for p in before if p.stamp_ns > self.since_ns]
        if not drifted:
            return {}
        poses = bent(np.stack([p.T_world_camera for p in drifted]), self.T_jump)
        return {p.index: T for p, T in zip(drifted, poses, strict=True)}


def bent(poses: np.ndarray, T_jump: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) in the order of their path: the last moves by T_jump, the first stays.

    First each step is turned by its share of the rotation, then what the end still misses is
    spread. Poses that are all at one place move as a whole.
    """
    centers = poses[:, :3, 3]
    steps = np.diff(centers, axis=0)
    way = np.append(0.0, np.cumsum(np.linalg.norm(steps, axis=1)))
    if way[-1] <= 0:
        return np.asarray(T_jump @ poses)
    share = (way / way[-1])[:, None]
    turn = Rotation.from_matrix(T_jump[:3, :3]).as_rotvec()
    # The rotation grows along a step too: its middle counts.
    turned = Rotation.from_rotvec((share[1:] + share[:-1]) / 2 * turn).apply(steps)
    path = centers[0] + np.concatenate([np.zeros((1, 3)), np.cumsum(turned, axis=0)])
    goal = T_jump[:3, :3] @ centers[-1] + T_jump[:3, 3]
    out = poses.copy()
    out[:, :3, :3] = Rotation.from_rotvec(share * turn).as_matrix() @ poses[:, :3, :3]
    out[:, :3, 3] = path + share * (goal - path[-1])
    return out


def of_stamps(placed: Sequence[Placed], poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Poses (4, 4) by stamp (ns) as poses by index; other stamps are passed over."""
    return {p.index: poses[p.stamp_ns] for p in placed if p.stamp_ns in poses}

# SPDX-License-Identifier: Apache-2.0
"""Executes a grasp in physics: go to the pre-grasp pose, in, close, lift by 10 cm, hold 2 s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.config import GraspConfig
from lerf_ros.query.answer import Grasp
from lerf_ros.task.bodies import Body
from lerf_ros.task.world import PUSHED_M, build

SETTLE_S, REST_S = 1.0, 1.0    # time to come to rest, then to stay at rest
# Objects that move farther than this before they rest are not where they were mapped.
FALLEN_M, FALLEN_RAD = 0.02, 0.26
MOVED_M = 0.005
APPROACH_S, LIFT_S, HOLD_S = 1.2, 1.2, 2.0
# Of each finger; both fingers of a Franka Hand close at 0.1 m/s. Faster ones knock things away.
CLOSE_M_S = 0.05
SQUEEZE_S = 0.4                # the closed fingers hold before the lift
LIFT_M = 0.1
UP_M = 0.05                    # an object counts as lifted when its middle has risen this far
CLEAR_M = 0.01                 # least height of the lowest point of a lifted object above the table
SUCCESS, WRONG, SLIP = 'success', 'wrong_object', 'slip'
Poses = tuple[np.ndarray, np.ndarray, np.ndarray]   # of all objects: see Table._poses


@dataclass(frozen=True)
class Outcome:
    """kind: SUCCESS, WRONG or SLIP. touched: whether the open hand moved an object on its way in.
    """

    kind: str
    touched: bool


class Table:
    """A layout at rest, in which grasps are tried one after another from the same start."""

    def __init__(self, bodies: Sequence[Body], config: GraspConfig,
                 tables: Sequence[tuple[float, float]] = ((0.0, 0.0),)) -> None:
        """tables: the middles (x, y) of the tops of all tables, world."""
        self.model = build(bodies, config, tables)
        self.data = mujoco.MjData(self.model)
        self.config, self.count = config, len(bodies)
        self.ids = np.array([self.model.body(f'object{k}').id for k in range(self.count)])
        self.lowest = [np.concatenate(body.pieces) for body in bodies]
        self.fallen = self._settle()
        self.start = (self.data.qpos.copy(), self.data.qvel.copy())

    def _settle(self) -> tuple[int, ...]:
        """Lets everything come to rest; returns the objects that do not stand where the layout has
        them, or do not stop."""
        mujoco.mj_forward(self.model, self.data)
        mapped = self._poses()
        self._open(self.config.max_opening)
        self._run(SETTLE_S)
        before = self._poses()
        self._run(REST_S)
        moved, turned = difference(mapped, self._poses())
        still = difference(before, self._poses())[0] <= MOVED_M
        return tuple(np.flatnonzero((moved > FALLEN_M) | (turned > FALLEN_RAD) | ~still).tolist())

    def poses(self) -> list[np.ndarray]:
        """Returns the current T_world_object (4, 4) of the middle of the box of each object."""
        rotation, position = self.data.xmat[self.ids], self.data.xpos[self.ids]
        out = []
        for k in range(self.count):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = rotation[k].reshape(3, 3), position[k]
            out.append(T)
        return out

    def reset(self) -> None:
        """Resets everything to where it came to rest."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = self.start
        mujoco.mj_forward(self.model, self.data)

    def grasp(self, grasp: Grasp, target: int) -> Outcome:
        """Executes a grasp. target: index of the object that was asked for."""
        self.reset()
        before = self._poses()
        self._place_hand(grasp.T_world_pregrasp, grasp.opening_width)
        self._move(grasp.T_world_pregrasp, grasp.T_world_grasp, APPROACH_S)
        self._run(0.1)
        moved = difference(before, self._poses())[0] > MOVED_M
        touched = bool(np.delete(moved, self.fallen).any())
        self._close(grasp.opening_width)
        lifted = grasp.T_world_grasp.copy()
        lifted[2, 3] += LIFT_M
        self._move(grasp.T_world_grasp, lifted, LIFT_S)
        up = self._up(before)
        for _ in range(round(HOLD_S / 0.1)):
            if not up.any():
                return Outcome(SLIP, touched)
            self._run(0.1)
            up &= self._up(before)
        others = np.delete(up, target)
        if up[target] and not others.any():
            return Outcome(SUCCESS, touched)
        return Outcome(WRONG if others.any() else SLIP, touched)

    def _up(self, before: Poses) -> np.ndarray:
        """Returns which objects (K,) have risen and touch nothing below."""
        position, rotation, _ = self._poses()
        risen = position[:, 2] - before[0][:, 2] > UP_M
        for k in np.flatnonzero(risen):
            z = self.lowest[k] @ rotation[k].reshape(3, 3)[2] + self.data.xpos[self.ids[k], 2]
            first = self.lowest[k] @ before[1][k].reshape(3, 3)[2] + before[2][k]
            risen[k] = z.min() > first.min() + CLEAR_M
        return risen

    def _poses(self) -> Poses:
        """Returns centres of mass (K, 3), rotations (K, 9) and heights (K,) of the origins."""
        return (self.data.xipos[self.ids].copy(), self.data.xmat[self.ids].copy(),
                self.data.xpos[self.ids, 2].copy())

    def _place_hand(self, T: np.ndarray, opening: float) -> None:
        """Places the hand somewhere, at rest."""
        quaternion = Rotation.from_matrix(T[:3, :3]).as_quat(scalar_first=True)
        self.data.mocap_pos[0], self.data.mocap_quat[0] = T[:3, 3], quaternion
        address = self.model.jnt_qposadr[self.model.body('hand').jntadr[0]]
        self.data.qpos[address:address + 7] = [*T[:3, 3], *quaternion]
        for name in ('right', 'left'):
            self.data.qpos[self.model.joint(name).qposadr] = opening / 2
        self._open(opening)
        mujoco.mj_forward(self.model, self.data)

    def _open(self, opening: float) -> None:
        self.data.ctrl[:] = opening / 2

    def _close(self, opening: float) -> None:
        """Closes the fingers at their speed until they push with their full force."""
        step_m = CLOSE_M_S * self.model.opt.timestep
        for target in np.arange(opening / 2, -PUSHED_M, -step_m):
            self.data.ctrl[:] = target
            mujoco.mj_step(self.model, self.data)
        self._run(SQUEEZE_S)

    def _move(self, start: np.ndarray, stop: np.ndarray, seconds: float) -> None:
        """Moves the hand along a line, smoothly."""
        steps = round(seconds / self.model.opt.timestep)
        for k in range(steps):
            part = 0.5 - 0.5 * np.cos(np.pi * (k + 1) / steps)
            self.data.mocap_pos[0] = start[:3, 3] + part * (stop[:3, 3] - start[:3, 3])
            mujoco.mj_step(self.model, self.data)

    def _run(self, seconds: float) -> None:
        mujoco.mj_step(self.model, self.data, round(seconds / self.model.opt.timestep))


def difference(a: Poses, b: Poses) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances (K,) in metres and angles (K,) in radians between poses."""
    turned = Rotation.from_matrix(a[1].reshape(-1, 3, 3)).inv() * \
        Rotation.from_matrix(b[1].reshape(-1, 3, 3))
    return np.linalg.norm(a[0] - b[0], axis=1), turned.magnitude()

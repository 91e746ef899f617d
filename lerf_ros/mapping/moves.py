# SPDX-License-Identifier: Apache-2.0
"""Moves of keyframes, as after a loop closure: those that depth speaks against are not made.

What a localisation says of its own past may be wrong, as when it started anew somewhere else. So a
move that makes depth agree less is left out, and one that keyframes which come later speak against
is undone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np

from lerf_ros.mapping.keyframes import KeyframeSlots
from lerf_ros.training.depth_fit import MoveFit, fit_of_move
from lerf_ros.training.world_changes import DepthGrid

# So much less may agree, of 1, before a move is left out or undone; noise makes as much.
WORSE = 0.1
TRIAL = 30              # keyframes after a move that are asked whether it was right
NOTE_S = 60.0           # how long what was done stays in the status

log = logging.getLogger(__name__)


class Moves:
    """Judges moves of the keyframes in the slots."""

    def __init__(self, slots: KeyframeSlots) -> None:
        self._slots = slots
        self._trial: dict[int, np.ndarray] = {}     # the poses before the newest move, by index
        self._since: list[int] = []                 # keyframes that came after it, by index
        self._note, self._noted_s = '', 0.0

    @property
    def message(self) -> str:
        """What was left out or undone not long ago, in words."""
        return self._note if time.monotonic() - self._noted_s < NOTE_S else ''

    def refused(self, poses: Mapping[int, np.ndarray]) -> bool:
        """Whether depth speaks against new poses (4, 4) by index."""
        fit = fit_of_move(self._grids(), self._by_slot(poses))
        if fit is None or fit.after >= fit.before - WORSE:
            return False
        self._say(f'{len(poses)} keyframes are not moved as the localisation says: depth would '
                  f'agree less ({words(fit)}). If it started anew, start a new map or '
                  'put it where it was')
        return True

    def made(self, before: Mapping[int, np.ndarray]) -> None:
        """A move has been made; poses (4, 4) by index from before it, to be put on trial."""
        self._trial, self._since = dict(before), []

    def undone(self) -> None:
        """The newest move has been undone: nothing is on trial."""
        self._trial, self._since = {}, []

    def learned(self, index: int) -> bool:
        """Takes a keyframe after a move; whether it is time to undo that move."""
        if not self._trial:
            return False
        self._since.append(index)
        slots = {view.index: slot for slot, view in enumerate(self._slots.views)}
        fit = fit_of_move(self._grids(), self._by_slot(self._trial),
                          [slots[i] for i in self._since if i in slots])
        if fit is not None and fit.after > fit.before + WORSE:
            self._say(f'the newest move of {len(self._trial)} keyframes is undone: depth of '
                      f'keyframes that came later speaks against it ({words(fit)})')
            return True
        if len(self._since) >= TRIAL or (fit is not None and fit.after < fit.before - WORSE):
            self.undone()
        return False

    def _grids(self) -> Mapping[int, DepthGrid]:
        return self._slots.changes.grids

    def _by_slot(self, poses: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {slot: poses[view.index] for slot, view in enumerate(self._slots.views)
                if view.index in poses}

    def _say(self, text: str) -> None:
        log.warning('%s', text)
        self._note, self._noted_s = text, time.monotonic()


def words(fit: MoveFit) -> str:
    """Both fits, for people."""
    return f'{fit.before:.0%} of what two keyframes share agrees as it is, {fit.after:.0%} then'

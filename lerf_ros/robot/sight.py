# SPDX-License-Identifier: Apache-2.0
"""Whether one place can be seen from another one, in a grid of cubes that hold points of a map."""

from __future__ import annotations

import numpy as np

MOST_CELLS = 4_000_000      # the cubes are made larger where more would be needed
CHUNK = 2_000_000           # samples on lines that are held at once


class SightLines:
    """Cubes that hold surface points; what lies behind one of them is hidden."""

    def __init__(self, points: np.ndarray, edge: float) -> None:
        """points (N, 3) world, edge of the cubes in the same unit."""
        self.low = points.min(0) if len(points) else np.zeros(3)
        extent = np.maximum(np.ptp(points, axis=0), edge) if len(points) else np.full(3, edge)
        self.edge = max(edge, float((extent.prod() / MOST_CELLS) ** (1 / 3)))
        self.solid = np.zeros(tuple((extent / self.edge).astype(int) + 1), bool)
        if len(points):
            self.solid[tuple(((points - self.low) / self.edge).astype(int).T)] = True

    def visible(self, eye: np.ndarray, targets: np.ndarray, margin: float) -> np.ndarray:
        """Returns which targets (M, 3) are seen from an eye (3,), (M,) bool.

        margin: what lies within it of the eye or of the target hides nothing.
        """
        out = np.zeros(len(targets), bool)
        longest = float(np.linalg.norm(targets - eye, axis=1).max(initial=0.0))
        samples = max(int(np.ceil(longest / (0.7 * self.edge))), 2)
        part = (np.arange(samples) + 0.5) / samples
        step = max(1, CHUNK // samples)
        for start in range(0, len(targets), step):
            way = targets[start:start + step] - eye
            length = np.linalg.norm(way, axis=1)
            along = eye + way[:, None] * part[:, None]                       # (m, samples, 3)
            between = (part * length[:, None] > margin) & (
                (1 - part) * length[:, None] > margin)
            out[start:start + step] = ~(self._solid_at(along) & between).any(1)
        return out

    def _solid_at(self, points: np.ndarray) -> np.ndarray:
        at = np.floor((points - self.low) / self.edge).astype(np.int64)
        inside = ((at >= 0) & (at < self.solid.shape)).all(-1)
        at[~inside] = 0
        return self.solid[at[..., 0], at[..., 1], at[..., 2]] & inside

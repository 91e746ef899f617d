# SPDX-License-Identifier: Apache-2.0
"""Small groups of points that lie together: a middle and a radius tell what all of them can mean.

What a thing means changes little from one point to the next. So a phrase is compared with the
middles of all groups first, and with points only where a radius leaves room for it
(query/ceilings.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

# Points in a group at most. In two real maps of 45,000 and 50,000 points, 4 % of the points lay in
# groups that may reach a threshold, 18 % with groups of 128: their radii are twice as large.
GROUP = 32
PREFIX = 'group_'     # of the names of the stored arrays


@dataclass(frozen=True)
class PointGroups:
    """G groups of N points, each in one segment; in the order of the segments.

    members (N,) int32: points by index, one group after the other. starts (G,) int32: where each
    begins there. segments (G,): of each group. middles (S, G, r) float32: mean codes; radii (S, G)
    float32: how far the farthest code is from it.
    """

    members: np.ndarray
    starts: np.ndarray
    segments: np.ndarray
    middles: np.ndarray
    radii: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, segments: np.ndarray, codes: Tensor) -> PointGroups:
        """Groups points (N, 3) of segments (N,) with codes (S, N, r)."""
        members, starts = halved(points, segments)
        count, (scales, _, rank) = len(starts), codes.shape
        middles = np.zeros((scales, count, rank), np.float32)
        radii = np.zeros((scales, count), np.float32)
        sizes = np.diff([*starts, len(members)])
        for scale in range(scales if count else 0):
            code = codes[scale].float().cpu().numpy()[members]
            middles[scale] = np.add.reduceat(code, starts) / sizes[:, None]
            code -= np.repeat(middles[scale], sizes, axis=0)
            radii[scale] = np.sqrt(np.maximum.reduceat(np.einsum('nr,nr->n', code, code), starts))
        return cls(members.astype(np.int32), starts.astype(np.int32), segments[members[starts]],
                   middles, radii)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by the names that they are stored by."""
        return {PREFIX + name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PointGroups | None:
        """Returns the groups that `arrays` returned; None for maps that were made without."""
        stored = {name: arrays[PREFIX + name] for name in cls.__dataclass_fields__
                  if PREFIX + name in arrays}
        return cls(**stored) if len(stored) == len(cls.__dataclass_fields__) else None

    def places_of(self, groups: np.ndarray) -> np.ndarray:
        """Returns where in `members` the points of groups (k,) by number are."""
        sizes = self.sizes[groups]
        before = np.cumsum(sizes, dtype=np.int64) - sizes
        return np.repeat(self.starts[groups] - before, sizes) + np.arange(sizes.sum())

    @cached_property
    def sizes(self) -> np.ndarray:
        """How many points each group (G,) has."""
        return np.diff(np.append(self.starts, len(self.members)))

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first group of each of K segments (K,), and of what is in no segment, ascending."""
        return np.flatnonzero(np.diff(self.segments, prepend=-2))

    def groups_of(self, segment: int) -> np.ndarray:
        """Returns the groups of a segment, by number."""
        first, end = np.searchsorted(self.segments, [segment, segment + 1])
        return np.arange(first, end)


def halved(points: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 3) of segments (N,) in the order of groups, and where each group begins.

    A group of more than GROUP points is halved across its longest side, all of them in each round.
    """
    members = np.argsort(segments, kind='stable')
    own = segments[members]
    starts = np.flatnonzero(np.append(True, own[1:] != own[:-1])) if len(own) else np.zeros(0, int)
    while True:
        sizes = np.diff(np.append(starts, len(members)))
        large = np.flatnonzero(sizes > GROUP)
        if not len(large):
            return members, starts
        placed, group = points[members], np.repeat(np.arange(len(starts)), sizes)
        low = np.minimum.reduceat(placed, starts)
        extent = np.maximum.reduceat(placed, starts) - low
        longest = extent.argmax(1)[group]
        rows = np.arange(len(placed))
        along = (placed[rows, longest] - low[group, longest]) / np.maximum(
            extent[group, longest], 1e-9)
        # One number to sort by is faster than two.
        members = members[np.argsort(group + 0.99 * along.astype(np.float64))]
        starts = np.sort(np.append(starts, starts[large] + sizes[large] // 2))

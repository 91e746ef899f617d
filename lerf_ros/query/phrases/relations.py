# SPDX-License-Identifier: Apache-2.0
"""How well two things lie to each other as a relation says, by the geometry of their points.

Every function returns a degree, 0 to 1: the relation holds from HOLDS on. Lengths are compared with
the sizes of the things, never with metres, because a map may have no metres. World axes, z up.

Left, right, front and behind are those of somebody who looks at the anchor: what is in front of it
is nearer to the viewer. This is the relative frame of reference of English (Levinson, Space in
Language and Cognition, 2003); nothing is assumed of the front of a thing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.query.phrases.reading import RelationKind, Viewpoint

HOLDS = 0.5
TRIM = 0.02          # fraction of the points beyond either end of an extent
WIDEST = 0.5         # cosine of the angle from a direction at which 'left of' half holds
BESIDE = 1.5         # gap, in mean widths of the two, at which 'next to' half holds
OVERLAP = 0.6        # fraction of a thing over its support that is enough
SUNK = 0.3           # fraction of the height of a container below whose rim a thing in it begins
SETTLED = 0.4        # fraction of its height by which a thing's lowest point may be hidden
AROUND = 0.3         # fraction of its width around a thing where its support is looked for
STRAIGHT = 0.3       # distance from the line between two things, of their distance, that half holds
HALFWAY = 0.55       # part of the way across an anchor from which a thing is on its far half
SMALL = 1e-6


@dataclass(frozen=True)
class Body:
    """A thing in space: points (n, 3), world, and the axes (3, 3) of its box, as columns."""

    points: np.ndarray
    rotation: np.ndarray

    @property
    def center(self) -> np.ndarray:
        """Returns the middle (3,) of the box."""
        low, high = self.extent
        return self.rotation @ ((low + high) / 2)

    @property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the low and high ends (3,) of the box along its axes."""
        low, high = np.quantile(self.points @ self.rotation, (TRIM, 1 - TRIM), axis=0)
        return low, high

    @property
    def span(self) -> tuple[float, float]:
        """Returns the lowest and the highest z."""
        low, high = np.quantile(self.points[:, 2], (TRIM, 1 - TRIM))
        return float(low), float(high)

    @property
    def width(self) -> float:
        """Returns the mean length of the horizontal sides."""
        flat = self.points[:, :2] @ ground_axes(self.rotation)
        return float(np.mean(np.ptp(np.quantile(flat, (TRIM, 1 - TRIM), axis=0), axis=0)))

    def footprint(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Returns which points (N, 3) are above, in or below the box grown by margin, (N,) bool."""
        axes = ground_axes(self.rotation)
        low, high = np.quantile(self.points[:, :2] @ axes, (TRIM, 1 - TRIM), axis=0)
        at = points[:, :2] @ axes
        return ((at >= low - margin) & (at <= high + margin)).all(1)


def ground_axes(rotation: np.ndarray) -> np.ndarray:
    """Returns orthonormal horizontal axes (2, 2), columns, along a box's most level side."""
    level = rotation[:, int(np.abs(rotation[2]).argmin())][:2]
    x, y = level / max(float(np.linalg.norm(level)), SMALL)
    return np.array([[x, -y], [y, x]])


def degree(kind: RelationKind, thing: Body, anchors: Sequence[Body], viewer: Viewpoint) -> float:
    """Returns how well a relation holds between a thing and its anchors, one or two."""
    anchor = anchors[0]
    if kind is RelationKind.BETWEEN:
        return between(thing, anchor, anchors[1])
    if kind is RelationKind.ON:
        return on(thing, anchor)
    if kind is RelationKind.IN:
        return inside(thing, anchor)
    if kind is RelationKind.UNDER:
        return max(below(thing, anchor), on(anchor, thing))
    if kind is RelationKind.ABOVE:
        return max(below(anchor, thing), on(thing, anchor))
    if kind is RelationKind.NEXT_TO:
        return next_to(thing, anchor)
    if kind in SIDES:
        return on_side(thing, anchor, SIDES[kind] @ directions(anchor, viewer))
    return towards(thing, anchor, DIRECTIONS[kind] @ directions(anchor, viewer))


# Parts of (left, ahead), as the viewer sees it.
DIRECTIONS = {RelationKind.LEFT_OF: np.array([1, 0]), RelationKind.RIGHT_OF: np.array([-1, 0]),
              RelationKind.BEHIND: np.array([0, 1]), RelationKind.IN_FRONT_OF: np.array([0, -1])}
SIDES = {RelationKind.LEFT_SIDE: np.array([1, 0]), RelationKind.RIGHT_SIDE: np.array([-1, 0]),
         RelationKind.BACK_SIDE: np.array([0, 1]), RelationKind.FRONT_SIDE: np.array([0, -1])}


def directions(anchor: Body, viewer: Viewpoint) -> np.ndarray:
    """Returns what is left and what is ahead for somebody who looks at the anchor, rows (2, 2)."""
    ahead = (anchor.center - viewer.position)[:2]
    if np.linalg.norm(ahead) < max(anchor.width / 2, SMALL):     # the viewer is above it or in it
        ahead = viewer.forward[:2]
    ahead = ahead / max(float(np.linalg.norm(ahead)), SMALL)
    return np.array([[-ahead[1], ahead[0]], ahead])


def towards(thing: Body, anchor: Body, direction: np.ndarray) -> float:
    """Returns how well a thing lies in a horizontal direction (2,) from its anchor."""
    step = (thing.center - anchor.center)[:2]
    far = float(np.linalg.norm(step))
    return float(np.clip(step @ direction / max(far, SMALL) / WIDEST / 2, 0, 1))


def on_side(thing: Body, anchor: Body, direction: np.ndarray) -> float:
    """Returns how well a thing is on that half of its anchor which lies in a direction (2,)."""
    within = anchor.footprint(thing.points).mean()
    reach = (anchor.points[:, :2] @ direction)
    low, high = np.quantile(reach, (TRIM, 1 - TRIM))
    part = (thing.center[:2] @ direction - low) / max(float(high - low), SMALL)
    return float(np.clip(part * HOLDS / HALFWAY, 0, 1) * min(within / OVERLAP, 1))


def next_to(thing: Body, anchor: Body) -> float:
    """Returns how near a thing stands beside its anchor, at about its height."""
    gap = distance(thing, anchor)
    width = (thing.width + anchor.width) / 2
    if max(on(thing, anchor), on(anchor, thing), inside(thing, anchor)) >= HOLDS:
        return 0.0
    return float(1 / (1 + (gap / max(BESIDE * width, SMALL)) ** 2))


def distance(thing: Body, anchor: Body) -> float:
    """Returns the distance between the nearest points of two things, about."""
    one, other = (sample(body.points) for body in (thing, anchor))
    return float(np.sqrt(((one[:, None] - other[None]) ** 2).sum(2).min()))


def sample(points: np.ndarray, count: int = 400) -> np.ndarray:
    """Returns evenly chosen points (n, 3), at most about `count`."""
    return points[::max(1, len(points) // count)]


def on(thing: Body, anchor: Body) -> float:
    """Returns how well a thing stands on its anchor: over it, with its foot at a surface of it.

    No camera sees what is under the thing, so the surface is looked for around its foot as well.
    """
    low, high = thing.span
    over = float(anchor.footprint(thing.points).mean())
    near = thing.footprint(anchor.points, AROUND * thing.width)
    if over <= 0 or not near.any():
        return 0.0
    top = surface_at(anchor.points[near, 2], low)
    height = max(high - low, SMALL)
    rises = (thing.points[:, 2] > top).mean()
    gap = abs(top - low) / (SETTLED * height)
    return float(min(over / OVERLAP, 1) * rises * np.clip(1.5 - gap, 0, 1))


def surface_at(heights: np.ndarray, low: float) -> float:
    """Returns the height of the surface that is nearest to the foot of a thing, among heights."""
    order = np.argsort(np.abs(heights - low))
    return float(heights[order[:max(1, len(order) // 10)]].mean())


def inside(thing: Body, anchor: Body) -> float:
    """Returns how well a thing is in its anchor: within its sides, and begins below its rim."""
    low = thing.span[0]
    bottom, rim = anchor.span
    within = float(anchor.footprint(thing.points).mean())
    sunk = (rim - low) / max(rim - bottom, SMALL)
    starts = low >= bottom - SUNK * (rim - bottom)
    smaller = thing.width < anchor.width
    return float(min(within / OVERLAP, 1) * np.clip(sunk / SUNK / 2, 0, 1) * (starts and smaller))


def below(thing: Body, anchor: Body) -> float:
    """Returns how well a thing is straight below its anchor, whatever lies between."""
    over = max(float(anchor.footprint(thing.points).mean()),
               float(thing.footprint(anchor.points).mean()))
    (low, high), bottom = thing.span, anchor.span[0]
    clear = (bottom - low) / max(high - low, SMALL)
    return float(min(over / OVERLAP, 1) * np.clip(clear, 0, 1))


def between(thing: Body, one: Body, other: Body) -> float:
    """Returns how well a thing lies between two others, seen from above."""
    step = (other.center - one.center)[:2]
    far = float(np.linalg.norm(step))
    at = (thing.center - one.center)[:2]
    along = float(at @ step) / max(far ** 2, SMALL)
    off = float(abs(at[0] * step[1] - at[1] * step[0])) / max(far ** 2, SMALL)
    ends = np.clip(min(along, 1 - along) * 5, 0, 1)          # beside one of them is not between
    return float(ends / (1 + (off / STRAIGHT) ** 2))

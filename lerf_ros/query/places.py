# SPDX-License-Identifier: Apache-2.0
"""Turns the relevancy of every point into places.

Embeddings describe crops as wide as a hand or an arm, so relevancy spills over the edge of a thing
and often peaks beside it. Relevancy therefore only chooses segments, and the segments give the
extent: a segment that is relevant enough becomes a place as a whole, and relevant points around it
are dropped as spill. Relevant points that no thing claims are a patch, a place of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lerf_ros.config import QueryConfig
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.answer import NEUTRAL, Hit
from lerf_ros.query.boxes import OrientedBox, ground_below, minimal_box, upright_box
from lerf_ros.query.clustering import dbscan_labels
from lerf_ros.query.neighbours import SegmentNeighbours, connected_pieces

TIE_DECIMALS = 3    # relevancies that agree to this count as equal
SCORE_POINTS = 10   # a hit's relevancy is the mean of its best points, because one may be noise,
SCORE_SHARE = 0.1   # and of this fraction of a large hit, which is more than a neighbour's edge
LAST_SHARE = 0.1    # of a hit's points that the keyframe must have seen that saw it last
NOISE = 5           # fewer points that lie together are ignored
# Half of the way from NEUTRAL to a relevancy: what is less relevant does not belong with it.
HALF = 0.5
MOST_SPILL = 4      # times its own points, in no segment, may be a thing's spill
FAINT = 0.05        # nearer to NEUTRAL all relevancies are alike


class Place(NamedTuple):
    """A hit, and members (M,): the indices of its points."""

    hit: Hit
    members: np.ndarray


def sort_key(hit: Hit) -> tuple[float, int]:
    """Returns a key that sorts hits best first, and of equal ones the largest first."""
    return _sort_key(hit.relevancy, hit.points)


def _sort_key(relevancy: float, points: int) -> tuple[float, int]:
    return -round(relevancy, TIE_DECIMALS), -points


def score(values: np.ndarray, share: float = SCORE_SHARE) -> float:
    """Returns the relevancy of a place whose points have the relevancies (n,): of the best share.
    """
    count = len(values)
    most = max(SCORE_POINTS, round(share * count))
    best = values if count <= most else np.partition(values, count - most)[-most:]
    return float(best.mean())


def way_to(relevancy: float, fraction: float) -> float:
    """Returns the relevancy at this fraction of the way from NEUTRAL up to a given one.

    As in the paper's colour map, relevancy counts from 0.5, where the phrase and its strongest
    negative fit equally well. Below that there is no way to go, and the relevancy itself is needed.
    """
    return relevancy - (1 - fraction) * max(relevancy - NEUTRAL, 0.0)


class PlaceFinder:
    """Finds places in one index, and caches the boxes of whole segments."""

    def __init__(self, index: LanguageIndex, config: QueryConfig, radius: float) -> None:
        """radius: of the scene frame, world units; the configured lengths are multiples of it.

        Boxes are relative to the index's origin; hits are in the world.
        """
        self.index, self.config, self.radius = index, config, radius
        self.neighbours = SegmentNeighbours(index, self.segments, config.cluster_radius * radius)
        self._trimmed: dict[int, tuple[np.ndarray, OrientedBox]] = {}

    @cached_property
    def segments(self) -> list[np.ndarray]:
        """Returns the indices of the points of each segment."""
        order = np.argsort(self.index.segments, kind='stable')
        ends = np.cumsum(np.bincount(self.index.segments + 1, minlength=1))
        return np.split(order, ends[:-1])[1:] if len(ends) > 1 else []

    @cached_property
    def sizes(self) -> np.ndarray:
        """Returns the number of points of each segment."""
        return np.array([len(members) for members in self.segments], np.int64)

    def find(self, values: np.ndarray, scales: np.ndarray, floor: float, least: int,
             most: int, field: np.ndarray | None = None) -> list[Place]:
        """Returns up to `most` places of at least `least` points that reach the floor, best first.

        values (N,): relevancies. scales (N,): each point's best scale, as an index. How far beyond
        the floor a place must reach depends on the best *place*: points that make none, such as a
        few on the table beside a thing, decide nothing. field (N,): what the language field alone
        says, which spills; None where that is the values.
        """
        wholes, patches = self._relevant(values, values if field is None else field, floor, least)
        groups: list[np.ndarray | int] = [*self._joined(wholes), *patches]
        members = [self.segments[k] if isinstance(k, int) else k for k in groups]
        order = sorted(range(len(groups)), key=lambda i: _sort_key(
            score(values[members[i]]), len(members[i])))[:most]
        # Boxes take longer than scores, so only the best get one.
        places = [self._place(*self._segment(k), values, scales) if isinstance(k, int)
                  else self.place_of(k, values, scales) for k in (groups[i] for i in order)]
        return sorted(places, key=lambda place: sort_key(place.hit))

    def _relevant(self, values: np.ndarray, field: np.ndarray, floor: float,
                  least: int) -> tuple[list[int], list[np.ndarray]]:
        """Returns the segments that are places as wholes, and the patches of points that are.

        A patch that spilled from a thing goes with it, also where second looks refuse the thing.
        """
        points = np.flatnonzero(values >= floor)
        scores = self._scores(values, points, floor, least)
        sources = scores if field is values else self._scores(
            field, np.flatnonzero(field >= floor), floor, least)
        level = way_to(max(scores.values(), default=0.0), self.config.relevant_fraction)
        wholes = {k: value for k, value in scores.items() if value >= level}
        loose = points[~self._in_segments(points, wholes)]
        refused = {k for k in sources if k not in scores}
        claimed, patches = self._patches(field, loose, floor, least, wholes, sources, refused)
        wholes.update((k, scores[k]) for k in claimed)
        # Things are surer places than patches, so they may be less relevant than the best patch.
        best = max((score(values[patch]) for patch in patches), default=0.0)
        return [k for k in wholes if wholes[k] >= way_to(best, HALF)], patches

    def _scores(self, values: np.ndarray, points: np.ndarray, floor: float,
                least: int) -> dict[int, float]:
        """Returns the relevancies of the segments that reach the floor as wholes.

        points: indices of those that reach it.
        """
        touched = np.bincount(self.index.segments[points] + 1, minlength=len(self.sizes) + 1)[1:]
        scores = {}
        for k in np.flatnonzero((touched > 0) & (self.sizes >= least)).tolist():
            own = values[self.segments[k]]
            thing = k >= len(self.index.planes)
            if thing or self._covered(own, floor):
                scores[k] = score(own, self.config.whole_share if thing else SCORE_SHARE)
        return {k: value for k, value in scores.items() if value >= floor}

    def _covered(self, own: np.ndarray, floor: float) -> bool:
        """Returns whether a surface of relevancies (n,) is meant as a whole, not a patch of it.

        Things spill over a surface around them; a surface that is meant is relevant all over.
        """
        best = score(own)
        level = max(way_to(best, self.config.relevant_fraction), floor)
        return bool((own >= level).mean() >= self.config.surface_share
                    or (own >= way_to(best, HALF)).mean() >= HALF)

    def _in_segments(self, points: np.ndarray, segments: Iterable[int]) -> np.ndarray:
        """Returns which of the points (n,), by index, lie in these segments, (n,) bool."""
        chosen = np.zeros(len(self.sizes) + 1, bool)       # the first is for noise, segment -1
        chosen[[k + 1 for k in segments]] = True
        return chosen[self.index.segments[points] + 1]

    def _patches(self, values: np.ndarray, loose: np.ndarray, floor: float, least: int,
                 wholes: Mapping[int, float], scores: Mapping[int, float],
                 refused: set[int]) -> tuple[set[int], list[np.ndarray]]:
        """Returns the things that claim a patch of the loose points, and the patches without one.

        loose: indices of points outside of the wholes. refused: things that are no places whatever
        they claim. A patch that is too small to be a place counts for nothing: then those that are
        less relevant are looked at.
        """
        best = max(wholes.values(), default=0.0)
        top = max(best, float(values[loose].max(initial=0.0)))
        while len(loose) >= least:
            level = max(way_to(top, self.config.relevant_fraction), floor) \
                if top > NEUTRAL + FAINT else floor
            claimed, patches = set(), []
            for patch in self._connected(loose, values, level, least):
                relevancy = score(values[patch])
                thing = self._claimant(patch, relevancy, values, wholes, scores)
                if thing in refused:
                    continue
                if thing is not None:
                    claimed.add(thing)
                elif relevancy > best or self._on_surface(patch):
                    patches.append(patch)       # other pieces of a thing are its neighbour's spill
            if wholes or claimed or patches or level == floor:
                return claimed, patches
            loose = loose[values[loose] < level]
            top = float(values[loose].max(initial=0.0))
        return set(), []

    def _connected(self, loose: np.ndarray, values: np.ndarray, level: float,
                   least: int) -> list[np.ndarray]:
        """Returns the connected patches of at least `least` loose points (indices) at a level.

        Points that fit half as well connect them: what is one thing has dips.
        """
        if np.count_nonzero(values[loose] >= level) < least:
            return []
        linked = loose[values[loose] >= way_to(level, HALF)]
        label = connected_pieces(self.index.points[linked], self.neighbours.reach)
        high = values[linked] >= level
        linked, label = linked[high], label[high]
        enough = np.flatnonzero(np.bincount(label) >= least)
        return [linked[label == piece] for piece in enough.tolist()]

    def _claimant(self, patch: np.ndarray, relevancy: float, values: np.ndarray,
                  wholes: Mapping[int, float], scores: Mapping[int, float]) -> int | None:
        """Returns the best thing that a patch (indices) adjoins and spilled from; None without one.

        What is not even half as relevant as the patch does not explain it, nor does a crumb beside
        many points in no segment: those are a thing that was not segmented. A thing that is no
        place yet must fit better than the negatives for the most part: others took some spill.
        """
        needed = way_to(relevancy, HALF)
        unsegmented = np.count_nonzero(self.index.segments[patch] < 0)
        for k in sorted(scores, key=lambda k: -scores[k]):
            if k < len(self.index.planes) or scores[k] < needed \
                    or self.sizes[k] * MOST_SPILL < unsegmented:
                continue
            fits = k in wholes or np.median(values[self.segments[k]]) > NEUTRAL
            if fits and self.neighbours.adjoins(k, patch):
                return k
        return None

    def _on_surface(self, patch: np.ndarray) -> bool:
        """Returns whether most of a patch (indices) lies on surfaces or in no segment."""
        return bool((self.index.segments[patch] < len(self.index.planes)).mean() > HALF)

    def _joined(self, segments: list[int]) -> list[np.ndarray | int]:
        """Returns the segments, where those that are pieces of one thing are joined.

        These are pieces whose surface goes on smoothly from one to the other, and pieces that hang
        in the air above another: the pole of a lamp is too thin for the field, but its shade and
        its foot are one lamp. Joined segments are returned as the indices of their points.
        """
        things = [k for k in segments if k >= len(self.index.planes)]
        links = [(k, j) for i, k in enumerate(things) for j in things[:i]
                 if self.neighbours.continues(k, j)] + self._hanging(things)
        number = {k: i for i, k in enumerate(segments)}
        rows, columns = ([number[link[side]] for link in links] for side in (0, 1))
        piece = connected_components(coo_matrix(
            (np.ones(len(links)), (rows, columns)), (len(segments),) * 2), directed=False)[1]
        groups = [[k for k in segments if piece[number[k]] == p] for p in np.unique(piece)]
        return [group[0] if len(group) == 1 else
                np.concatenate([self.segments[k] for k in group]) for group in groups]

    def _hanging(self, things: list[int]) -> list[tuple[int, int]]:
        """Returns the pairs of a thing that stands on nothing and a thing below it."""
        if self.config.boxes != 'upright' or len(things) < 2:
            return []
        boxes = {k: self._segment(k)[1] for k in things}
        below = ((k, next((j for j in things if j != k and boxes[k].above(boxes[j])), k))
                 for k in things if self._hangs(boxes[k]))
        return [pair for pair in below if pair[0] != pair[1]]

    def _hangs(self, box: OrientedBox) -> bool:
        low = box.center[2] - box.size[2] / 2
        return ground_below(box.center[:2], low, self.index.planes,
                            self.config.stand_reach * self.radius) is None

    def clusters(self, chosen: np.ndarray, across: bool = False) -> list[np.ndarray]:
        """Returns clusters of the chosen points (indices), without noise.

        A cluster never spans several segments, unless `across`.
        """
        if len(chosen) < NOISE:
            return []
        reach = self.neighbours.reach
        # On a fourth axis segments are farther apart than the reach of the clustering.
        apart = self.index.segments[chosen, None] * (0.0 if across else 2.0 * reach)
        labels = dbscan_labels(np.concatenate([self.index.points[chosen], apart], 1), reach, NOISE)
        order = np.argsort(labels, kind='stable')
        ends = np.cumsum(np.bincount(labels + 1, minlength=1))
        return [chosen[members] for members in np.split(order, ends[:-1])[1:]]

    def _segment(self, segment: int) -> tuple[np.ndarray, OrientedBox]:
        """Returns the points (indices) of a segment that are inside its box, and the box."""
        if segment not in self._trimmed:
            self._trimmed[segment] = self._boxed(self.segments[segment])
        return self._trimmed[segment]

    def place_of(self, members: np.ndarray, values: np.ndarray, scales: np.ndarray,
                 stands: bool = True) -> Place:
        """Returns the place of these points (indices), without those that its box leaves out.

        stands: extends the box down to what it stands on.
        """
        return self._place(*self._boxed(members, stands), values, scales)

    def _boxed(self, members: np.ndarray, stands: bool = True) -> tuple[np.ndarray, OrientedBox]:
        """Returns the points (indices) that are inside the box around all of them, and the box."""
        box = self.box(members, stands)
        inside = box.contains(self.index.points[members])
        return (members[inside] if inside.any() else members), box

    def box(self, members: np.ndarray, stands: bool = True) -> OrientedBox:
        """Returns the box around these points (indices), upright or of any orientation."""
        points, c = self.index.points[members].astype(np.float64), self.config
        # Few points have none to spare.
        trim = c.box_trim if len(points) >= 2 / max(c.box_trim, 1e-9) else 0.0
        if c.boxes == 'upright':
            planes = self.index.planes if stands else np.zeros((0, 4))
            return upright_box(points, planes, c.stand_reach * self.radius, trim)
        return minimal_box(points, trim)

    def _place(self, members: np.ndarray, box: OrientedBox, values: np.ndarray,
               scales: np.ndarray) -> Place:
        scale = np.bincount(scales[members], weights=values[members]).argmax()
        return Place(Hit(
            position=self.index.origin + box.center, rotation=box.rotation, size=box.size,
            relevancy=score(values[members]), scale=float(self.index.scales[scale]),
            points=len(members), keyframes=int(np.median(self.index.keyframes[members])),
            last_keyframe=self._last_keyframe(members)), members)

    def _last_keyframe(self, members: np.ndarray) -> int:
        """Returns the newest keyframe, by index, that saw LAST_SHARE of these points; or -1."""
        newest = self.index.newest
        return int(np.quantile(newest[members], 1 - LAST_SHARE, method='lower')) \
            if len(newest) else -1

# SPDX-License-Identifier: Apache-2.0
"""How relevant a phrase can be anywhere in an index, from a hundredth of the work of a search.

A map of many submaps is asked in two passes. In the first each tells how relevant any of its points
can be; in the second those are searched as a whole that can matter (query/submap_choice.py). The
first pass never errs to the other side: what it leaves out has no place that a search would find.

Of a group of points with mean code m and radius d at one scale, a phrase p and negatives n, each
margin (p - n) . c is at most (p - n) . m + |p - n| d, by Cauchy and Schwarz; the margin of a point
is the least of them. Between two scales the search takes the peak of a parabola through the
margins a, m, b at three of them (`relevancy.peaks`). At any place from m to b it is a sum of them
in which m and b count positively and a negatively, so none is above that through the least a and
the largest m and b. Second looks at a segment move all of its points by what they say less what the
field says of it, which is bounded alike.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from lerf_ros.index.groups import PointGroups
from lerf_ros.query.places import SCORE_POINTS, score
from lerf_ros.query.question import Question
from lerf_ros.query.second_look import EXTREME, log_odds, odds_shift
from lerf_ros.query.text_query import TextQuery

# Of margins, where products are rounded to bfloat16, and where they are not. Two cosines are each
# off by half of the last bit of a factor and of the result; a parabola adds a quarter to that.
ROUNDING = {torch.bfloat16: 1.25 * 2.0 ** -7, torch.float32: 1e-5}
# Groups whose points are compared before it is asked whether the rest can be more relevant: those
# with the highest ceilings come first.
FIRST, BATCH = 16, 128
# Part of an index from which it is faster to compare all of it than to gather what is wanted.
MANY = 0.3
MOST_ODDS = float(log_odds(1 - EXTREME))


class Ceilings:
    """How relevant the phrases of a question can be anywhere in one index, by phrase."""

    def __init__(self, query: TextQuery, question: Question, region: bool = False) -> None:
        """region: whether only a part of the index is asked about, which this one is not told."""
        negatives = question.negatives
        if question.picture:    # the last of its negatives is the index itself
            negatives = np.concatenate([negatives[:-1], query.index.mean_embedding()[None]])
        looks = query.looks_again and not question.picture
        self._rows = [[RowCeiling(query, row, negatives, looks, region)
                       for row in rows_of(question, k)] for k in range(len(question.names))]

    @cached_property
    def most(self) -> np.ndarray:
        """Above what no relevancy is, (P,), from the groups of points alone."""
        return np.array([max(row.most for row in rows) for rows in self._rows])

    def reached(self, floor: float, closely: bool = True) -> np.ndarray:
        """Returns the same (P,) from the points themselves, so that it is most likely reached.

        0 where that is below `floor`. Not closely: points are compared only until one reaches it.
        """
        return np.array([max(row.reached(floor, closely) for row in rows) for rows in self._rows])


def rows_of(question: Question, number: int) -> list[np.ndarray]:
    """Returns all embeddings (D,) with which a phrase looks for places.

    Those with colours and relations look for their noun, and choose among what that finds.
    """
    if not question.readings or question.readings[number].plain:
        return [question.positives[number]]
    thing = question.readings[number].thing
    return [question.rows[text] for text in dict.fromkeys([thing.noun, thing.described])]


class RowCeiling:
    """How relevant one embedding (D,) can be anywhere in an index. Numbers inside are log-odds."""

    def __init__(self, query: TextQuery, phrase: np.ndarray, negatives: np.ndarray, looks: bool,
                 region: bool) -> None:
        self.query, self.region, index = query, region, query.index
        self.empty, self.groups = not len(index.points), index.groups
        self.code, self.against = phrase @ index.basis, negatives @ index.basis
        self.slack = query.config.temperature * ROUNDING.get(
            query.scorer.dtype, ROUNDING[torch.bfloat16])
        self.looked = query.looks.of_segments(phrase[None], negatives)[0] \
            if looks else np.zeros(0)
        # Of the points in the order of their groups; NaN until they are compared.
        self._odds = np.full(len(index.points), np.nan, np.float32)
        if not self.empty:
            margins = group_margins(self.groups, self.code, self.against)
            self.low = query.config.temperature * margins.low - self.slack
            self.high = query.config.temperature * margins.high + self.slack

    @cached_property
    def _alone(self) -> np.ndarray:
        """The groups of points that no second look moves, those that may be relevant first."""
        told = np.append(self.looked, np.nan)[np.minimum(self.groups.segments, len(self.looked))]
        alone = np.flatnonzero(np.isnan(told))                                  # -1: the last
        return alone[np.argsort(-self.high[alone])]

    @cached_property
    def _moved(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The segments (K,) that second looks move, by how much at most, and what they can reach.

        The last two are (K,) log-odds, of what is clipped; best first.
        """
        firsts = self.groups.firsts
        segments = self.groups.segments[firsts]
        moved = np.isin(segments, np.flatnonzero(np.isfinite(self.looked)))
        weight, segments = self.query.config.look_weight, segments[moved]
        if not len(segments):
            return segments, np.zeros(0), np.zeros(0)
        high = clipped(np.maximum.reduceat(self.high, firsts)[moved])
        # Nobody knows here which part of a thing a region has, only that no point is below the
        # least of all.
        field = clipped(np.minimum.reduceat(self.low, firsts)) if self.region else log_odds(
            least_scores(self.low, self.groups, self.query.config.whole_share))
        shift = odds_shift(log_odds(self.looked[segments]), field[moved], weight)
        order = np.argsort(-(high + shift))
        return segments[order], shift[order], (high + shift)[order]

    @cached_property
    def _shift_of(self) -> np.ndarray:
        """By how much second looks move each segment at most; the last is for what is in none.

        Minus infinity where they move nothing.
        """
        out = np.full(int(self.groups.segments.max()) + 2, -np.inf)
        out[self._moved[0]] = self._moved[1]
        return out

    def _within_reach(self, least: float) -> np.ndarray:
        """Returns the groups, by number, that second looks may move to `least` or above it."""
        return np.flatnonzero(
            clipped(self.high) + self._shift_of[self.groups.segments] >= least)

    @property
    def most(self) -> float:
        """Above what no relevancy is, from the groups alone."""
        if self.empty:
            return 0.0
        alone = self.high[self._alone[:1]].max(initial=-np.inf)
        return as_relevancy(max(alone, self._moved[2][:1].max(initial=-np.inf)))

    def reached(self, floor: float, closely: bool) -> float:
        """Returns the same from the points themselves; 0 where that is below `floor`."""
        if self.empty:
            return 0.0
        least = float(log_odds(floor))
        # Mostly nothing reaches it, and one product of all that may is faster than two.
        first = self._alone[:FIRST]
        self._compare(np.append(first[self.high[first] >= least], self._within_reach(least)))
        best = self._best_alone(least, closely)
        if closely or best < least:
            for segment, reach in self._closer(max(least, best)):
                if reach < max(least, best) or (best >= least and not closely):
                    break
                if self._may_move_to(segment) >= max(least, best):
                    best = max(best, self._best_moved(segment))
        if best < least:
            return 0.0
        return min(as_relevancy(best), self.most) if closely else self.most

    def _closer(self, least: float) -> list[tuple[int, float]]:
        """Returns the segments that looks move, with what they can reach, if it is `least`.

        Those of their groups are compared that may hold such a point: most segments drop out.
        """
        within = self._within_reach(least)
        if not len(within):
            return []
        self._compare(within)
        # Of all segments at once, in single precision: what is lost there is far below the slack.
        firsts = self.groups.firsts
        best = np.fmax.reduceat(self._odds, self.groups.starts[firsts])     # NaN: none compared
        shift = self._shift_of[self.groups.segments[firsts]]
        reach = np.where(np.isnan(best), -np.inf, clipped(best) + shift + 2 * self.slack)
        left = np.flatnonzero(reach >= least)
        left = left[np.argsort(-reach[left])]
        return list(zip(self.groups.segments[firsts[left]].tolist(), reach[left].tolist(),
                        strict=True))

    def _may_move_to(self, segment: int) -> float:
        """Returns what the points of a segment reach at most, of which some are compared."""
        odds, low = self._part_of(segment)
        known = ~np.isnan(odds)
        return self._moved_to(segment, np.where(known, odds, low), odds[known])

    def _part_of(self, segment: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the log-odds of the points of a segment, NaN for those that were not compared.

        The second array is below what none of them is.
        """
        groups = self.groups.groups_of(segment)
        start, sizes = self.groups.starts[groups[0]], self.groups.sizes[groups]
        return self._odds[start:start + sizes.sum()], np.repeat(self.low[groups], sizes)

    def _moved_to(self, segment: int, all_of_it: np.ndarray, best: np.ndarray) -> float:
        """Returns what the highest of points reach with what second looks say of their segment.

        all_of_it: log-odds that no point of the segment is below. best: of those in question.
        """
        if not len(best):
            return -math.inf
        c = self.query.config
        field = clipped(all_of_it.min()) if self.region else log_odds(
            score(1 / (1 + np.exp(-all_of_it)), c.whole_share))
        shift = odds_shift(log_odds(self.looked[segment]), field, c.look_weight)
        return float(clipped(best.max()) + shift + 2 * self.slack)

    def _best_alone(self, least: float, closely: bool) -> float:
        """Returns the most that points without second looks reach; minus infinity below `least`."""
        best, high = -np.inf, self.high[self._alone]
        count = int(np.searchsorted(-high, -least, 'right'))        # high descends
        for start, end in pairwise([0, *range(FIRST, count, BATCH), count]):
            if start >= end or high[start] <= best or (best >= least and not closely):
                break
            best = max(best, float(self._odds_at(self._alone[start:end]).max()) + self.slack)
        return best if best >= least else -np.inf

    def _best_moved(self, segment: int) -> float:
        """Returns the most that points of a segment reach, with what second looks say of it."""
        groups = self.groups.groups_of(segment)
        self._compare(groups)
        odds = self._part_of(segment)[0]
        return self._moved_to(segment, odds, odds)

    def _compare(self, groups: np.ndarray) -> None:
        """Computes the log-odds of all points of groups (k,), by number, where they are not known.
        """
        new = groups[np.isnan(self._odds[self.groups.starts[groups]])]
        places, temperature = self.groups.places_of(new), self.query.config.temperature
        if len(places) > MANY * len(self._odds):
            self._odds = temperature * self.query.scorer.margins(
                self.code, self.against)[self.groups.members]
        elif len(places):
            self._odds[places] = temperature * self.query.scorer.margins_at(
                self.groups.members[places], self.code, self.against)

    def _odds_at(self, groups: np.ndarray) -> np.ndarray:
        """Returns the log-odds (n,) of all points of groups (k,), by number."""
        self._compare(groups)
        return self._odds[self.groups.places_of(groups)]


def least_scores(low: np.ndarray, groups: PointGroups, share: float) -> np.ndarray:
    """Returns below what no `places.score` of a segment's points is, (K,), from each group (G,).

    low (G,): log-odds that no point of a group is below.
    """
    firsts, sizes = groups.firsts, groups.sizes
    segment = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(sizes))))
    order = np.lexsort((-low, segment))         # the groups of a segment stay together
    size = sizes[order]
    of_segment = np.add.reduceat(size, firsts)
    most = np.minimum(np.maximum(np.round(share * of_segment), SCORE_POINTS), of_segment)
    before = np.cumsum(size) - size
    before -= before[firsts][segment]
    taken = np.clip(most[segment] - before, 0, size)
    return np.add.reduceat(taken / (1 + np.exp(-low[order])), firsts) / most


def as_relevancy(odds: float) -> float:
    """Returns the relevancy of log-odds, a little too high rather than too low."""
    return float(1 / (1 + np.exp(-odds))) + 1e-6


class Margins(NamedTuple):
    """Between which a phrase's margins over the negatives lie in each of G groups, (G,)."""

    low: np.ndarray
    high: np.ndarray


def clipped(odds: np.ndarray) -> np.ndarray:
    """Returns the log-odds as `second_look.combined` sees them."""
    return np.clip(odds, -MOST_ODDS, MOST_ODDS)


def group_margins(groups: PointGroups, phrase: np.ndarray, negatives: np.ndarray) -> Margins:
    """Returns between which margins those of a phrase (r,) lie in each group, over all scales.

    negatives (M, r). As in the search, the margin is that over the strongest negative.
    """
    apart = (phrase - negatives).astype(np.float32)                     # (M, r)
    high, low = (np.full(groups.radii.shape, np.inf, np.float32) for _ in range(2))
    gaps = apart @ groups.middles.reshape(-1, groups.middles.shape[-1]).T
    for row, flat in zip(apart, gaps, strict=True):     # a minimum along a short axis is slow
        gap, spread = flat.reshape(high.shape), groups.radii * np.linalg.norm(row)      # (S, G)
        np.minimum(high, gap + spread, out=high)
        np.minimum(low, gap - spread, out=low)
    return Margins(low.max(0), np.maximum(high.max(0), highest_peak(low, high)))


def highest_peak(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns above what no parabola through margins between low and high (S, G) rises, (G,)."""
    if len(high) < 3:
        return high.max(0)
    before, middle, after = slice(None, -2), slice(1, -1), slice(2, None)
    return np.maximum(peak_towards(low[before], high[middle], high[after]),
                      peak_towards(low[after], high[middle], high[before])).max(0)


def peak_towards(far: np.ndarray, middle: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Returns the largest values of parabolas through three margins, from `middle` to `near`."""
    bend, slope = far + near - 2 * middle, (near - far) / 2
    shift = np.clip(slope / np.maximum(-bend, 1e-6), 0, 1)
    return middle + slope * shift + bend * shift ** 2 / 2

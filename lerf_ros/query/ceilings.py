# SPDX-License-Identifier: Apache-2.0
"""How relevant a phrase can be anywhere in an index, from a hundredth of the work of a search.

A map of many submaps is asked in two passes. In the first each tells whether any of its points can
reach the threshold; in the second those that can are searched as a whole. The first pass never
errs to the other side: what it leaves out has no place that a search would find.

Of a group of points with mean code m and radius d at one scale, a phrase p and negatives n, each
margin (p - n) . c is at most (p - n) . m + |p - n| d, by Cauchy and Schwarz; the margin of a point
is the least of them. Between two scales the search takes the peak of a parabola through the
margins a, m, b at three of them (`relevancy.peaks`). At any place from m to b it is a sum of them
in which m and b count positively and a negatively, so none is above that through the least a and
the largest m and b. Second looks at a segment move all of its points by what they say less what the
field says of it, which is bounded alike.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from lerf_ros.index.groups import PointGroups
from lerf_ros.query.places import score
from lerf_ros.query.question import Question
from lerf_ros.query.relevancy import Scorer
from lerf_ros.query.second_look import EXTREME, log_odds
from lerf_ros.query.text_query import TextQuery

# Of margins, where products are rounded to bfloat16, and where they are not. Two cosines are each
# off by half of the last bit of a factor and of the result; a parabola adds a quarter to that.
ROUNDING = {torch.bfloat16: 1.25 * 2.0 ** -7, torch.float32: 1e-5}
# Points that are compared before it is asked whether that was enough: those that are most likely to
# reach it come first, and most often they do.
FIRST, BATCH = 512, 8192
MOST_ODDS = float(log_odds(1 - EXTREME))


class Margins(NamedTuple):
    """Between which a phrase's margins over the negatives lie in each of G groups, (G,)."""

    low: np.ndarray
    high: np.ndarray


def may_reach(query: TextQuery, question: Question, floor: float) -> np.ndarray:
    """Returns which of P phrases may have a relevancy of `floor` somewhere in an index, (P,) bool.

    Where it is False no point has, second looks included; where it is True one most likely has.
    """
    looks = query.looks_again and not question.picture
    return np.array([any(one_reaches(query, row, question.negatives, floor, looks)
                         for row in rows_of(question, k)) for k in range(len(question.names))])


def rows_of(question: Question, number: int) -> list[np.ndarray]:
    """Returns all embeddings (D,) with which a phrase looks for places.

    Those with colours and relations look for their noun, and choose among what that finds.
    """
    if not question.readings or question.readings[number].plain:
        return [question.positives[number]]
    thing = question.readings[number].thing
    return [question.rows[text] for text in dict.fromkeys([thing.noun, thing.described])]


def one_reaches(query: TextQuery, phrase: np.ndarray, negatives: np.ndarray, floor: float,
                looks: bool) -> bool:
    """Returns whether a phrase (D,) may be as relevant as `floor` anywhere."""
    index, scorer = query.index, query.scorer
    if not len(index.points):
        return False
    groups, temperature = index.groups, query.config.temperature
    least = float(log_odds(floor))
    code, against = phrase @ index.basis, negatives @ index.basis
    slack = ROUNDING.get(scorer.dtype, ROUNDING[torch.bfloat16])
    margins = group_margins(groups, code, against)
    low, high = temperature * (margins.low - slack), temperature * (margins.high + slack)
    looked = query.looks.of(phrase[None], negatives).segments[0] if looks else np.zeros(0)
    told = np.append(looked, np.nan)[np.minimum(groups.segments, len(looked))]     # -1: the last
    alone = np.flatnonzero(np.isnan(told) & (high >= least))
    if len(alone) and largest(scorer, groups.points_of(alone[np.argsort(-high[alone])]), code,
                              against, least / temperature - slack):
        return True
    for segment in np.flatnonzero(np.isfinite(looked)).tolist():
        own = np.flatnonzero(groups.segments == segment)
        odds = query.config.look_weight * float(log_odds(looked[segment]))
        rise = query.config.look_weight * clipped(low[own].min())
        if clipped(high[own].max()) + odds - rise < least:
            continue
        values = temperature * scorer.margins_at(groups.points_of(own), code, against)
        whole = float(log_odds(score(1 / (1 + np.exp(-values)), query.config.whole_share)))
        shift = odds - query.config.look_weight * whole
        if clipped(values.max()) + shift >= least - 2 * temperature * slack:
            return True
    return False


def clipped(odds: float) -> float:
    """Returns the log-odds as `second_look.combined` sees them."""
    return float(np.clip(odds, -MOST_ODDS, MOST_ODDS))


def group_margins(groups: PointGroups, phrase: np.ndarray, negatives: np.ndarray) -> Margins:
    """Returns between which margins those of a phrase (r,) lie in each group, over all scales.

    negatives (M, r). As in the search, the margin is that over the strongest negative.
    """
    apart = (phrase - negatives).astype(np.float32)                     # (M, r)
    high, low = (np.full(groups.radii.shape, np.inf, np.float32) for _ in range(2))
    for row in apart:       # a minimum along a short last axis is slow
        gap, spread = groups.middles @ row, groups.radii * np.linalg.norm(row)      # (S, G)
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


def largest(scorer: Scorer, points: np.ndarray, phrase: np.ndarray, negatives: np.ndarray,
            least: float) -> bool:
    """Returns whether a margin at one of points (n,), by index, reaches `least`."""
    return any(scorer.margins_at(points[start:end], phrase, negatives).max() >= least
               for start, end in pairwise([0, *range(FIRST, len(points), BATCH), len(points)])
               if start < end)

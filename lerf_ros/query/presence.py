# SPDX-License-Identifier: Apache-2.0
"""Present, absent, or not seen well enough to say."""

from __future__ import annotations

from lerf_ros.query.answer import Hit, Presence
from lerf_ros.query.coverage import Coverage
from lerf_ros.query.request import Region

EVEN = 0.5   # relevancy at which a phrase and its strongest negative fit equally well


def judge_presence(hits: tuple[Hit, ...], candidate: Hit | None, coverage: Coverage | None,
                   region: Region | None, min_observed: float) -> tuple[Presence, float]:
    """Whether the thing is there, and the part of the space asked about that was seen, 0..1.

    A hit settles it. Without one, too little seen leaves it open, and so does a candidate, the
    best place below the threshold, that beats the negatives where few keyframes looked. A map
    without coverage (NaN) is taken to have seen all of its space.
    """
    observed = coverage.observed(region) if coverage is not None else float('nan')
    if hits:
        return Presence.PRESENT, observed
    if coverage is None:
        return Presence.ABSENT, observed
    doubtful = (candidate is not None and candidate.relevancy > EVEN
                and candidate.keyframes < int(coverage.needed[1]))
    unseen = observed < min_observed
    return (Presence.NOT_OBSERVED if unseen or doubtful else Presence.ABSENT), observed

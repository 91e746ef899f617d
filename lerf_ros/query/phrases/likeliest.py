# SPDX-License-Identifier: Apache-2.0
"""The likeliest place of a thing that is known to be there, by its noun and its colours.

Whether a green mug is there at all, only a place that fits 'mug' well can tell. If it is there, a
green thing that fits 'mug' a little is likelier to be it than a white mug. Both kinds of evidence
add in log-odds: how well the noun fits a thing, and whether the thing has the colours.

The rates below were counted on maps of six simulated layouts (0 to 5, `conse`): all of the 13
things that have a twin in another colour have the colour of their name in the map, taken as 14 of
15; of 124 things and pieces with at least 60 points, one of the basic colours fits 18 % in the
mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lerf_ros.query.phrases.candidates import color_degree
from lerf_ros.query.phrases.reading import Thing
from lerf_ros.query.places import Place, score
from lerf_ros.query.question import Question
from lerf_ros.query.second_look import log_odds
from lerf_ros.query.text_query import Fit, TextQuery

ALIKE, OTHERS = 14 / 15, 0.18       # rates at which the thing, and any other, has its colours
HAS_COLOR = float(np.log(ALIKE / OTHERS))
LACKS_COLOR = float(np.log((1 - ALIKE) / (1 - OTHERS)))


def likeliest_answer(query: TextQuery, question: Question) -> Place | None:
    """Returns the likeliest place of what the first phrase of a question asks for.

    None where the map has too few points. Relations are not considered.
    """
    thing = question.readings[0].thing
    return likeliest(query, thing, {thing.noun: question.positives[0]}, question.negatives)


def likeliest(query: TextQuery, thing: Thing, rows: Mapping[str, np.ndarray],
              negatives: np.ndarray, inside: np.ndarray | None = None) -> Place | None:
    """Returns the place of a thing if it is there at all; None in a map of too few points.

    rows: unit embeddings (D,) of its noun, among others. negatives (M, D). inside (N,) bool: points
    that it may have; None for all. The relevancy of the hit is that of the noun alone. A thing of
    the right colours wins unless the best place without them fits the noun far better.
    """
    fit = query.fit_row(rows[thing.noun], negatives)
    if inside is not None:
        fit = Fit(*(np.where(inside, part, 0) for part in fit))
    best = query.best_place(fit)
    colored = best_of_colors(query, thing, fit) if thing.colors else None
    if best is None or colored is None:
        return best or colored
    likelier = log_odds(colored.hit.relevancy) + HAS_COLOR > log_odds(
        best.hit.relevancy) + LACKS_COLOR
    return colored if likelier else best


def best_of_colors(query: TextQuery, thing: Thing, fit: Fit) -> Place | None:
    """Returns what fits best of all segments that have the colours of a thing; None without one.

    Planes and what no segment holds are left out: a patch beside a thing is its spill.
    """
    things = [members for members in query.finder.segments[len(query.index.planes):]
              if len(members) >= query.config.min_points and fit.values[members].any()]
    things.sort(key=lambda members: -score(fit.values[members], query.config.whole_share))
    best = next((members for members in things
                 if color_degree(query.lab[members], thing) >= 1), None)
    if best is None:
        return None
    place = query.finder.place_of(best, fit.values, fit.scales)
    relevancy = score(fit.values[best], query.config.whole_share)
    return Place(replace(place.hit, relevancy=relevancy), place.members)

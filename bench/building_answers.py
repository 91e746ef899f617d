# SPDX-License-Identifier: Apache-2.0
"""Asks the map of a building for all that stands in it and for what does not, and counts.

Of a kind of thing that stands there n times the first n hits count. A thing is found where the
middle of one of them lies in its box grown by 3 cm; a hit of those n that lies in the box of none
is a wrong place, and so are further ones, which are counted apart. So with one thing of a kind its
best hit decides, and no thing is found twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from asked_places import box_of

from lerf_ros.asked_map import AskedMap
from lerf_ros.evaluation.localization import inside_box
from lerf_ros.query.answer import Answer, Hit, Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.from_above import from_above
from lerf_ros.show.pictures import write_image
from lerf_ros.simulation.driven_world import DrivenWorld
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.scene import SceneObject

ABSENT = 40         # phrases for what is not there
PICTURED = 9        # phrases in the picture from above, and one for what is not there


Answers = dict[str, tuple[Answer, float]]


def asked(query: AskedMap, words: Sequence[str]) -> Answers:
    """Returns the answer to each word, and how many milliseconds it took."""
    out: Answers = {}
    for word in dict.fromkeys(words):
        start = time.perf_counter()
        answer = query.ask(QueryRequest(word, plan_grasps=False))
        out[word] = answer, 1000 * (time.perf_counter() - start)
    return out


def rows_of(answers: Answers, world: DrivenWorld) -> list[dict[str, Any]]:
    """Returns a row for each object: its place, what was said of it, and how exact that was."""
    of_kind = Counter(thing.query for thing in world.scene.objects)
    rows = []
    for thing, place in zip(world.scene.objects, world.places_of, strict=True):
        answer, query_ms = answers[thing.query]
        off = [float(np.linalg.norm(hit.position - box_of(thing).center))
               for hit in answer.hits[:of_kind[thing.query]]]
        right = [distance for hit, distance in zip(answer.hits, off, strict=False)
                 if is_at(hit, thing)]
        rows.append({'object': thing.query, 'place': place, 'presence': answer.presence.name,
                     'query_ms': query_ms, 'right': bool(right), 'said': answer.not_found_reason,
                     'centre_m': min(right or off, default=None)})
    return rows


def is_at(hit: Hit, thing: SceneObject) -> bool:
    """Returns whether the middle of a hit lies in the box of a thing, or 3 cm beside it."""
    return inside_box(hit.position, thing.box_min, thing.box_max)


def wrong_places(answers: Answers, world: DrivenWorld) -> tuple[list[str], list[str]]:
    """Returns the word of each hit that lies at nothing of its kind: that count, and further ones.
    """
    kinds: dict[str, list[SceneObject]] = {}
    for thing in world.scene.objects:
        kinds.setdefault(thing.query, []).append(thing)
    counting: list[str] = []
    further: list[str] = []
    for word, things in kinds.items():
        for rank, hit in enumerate(answers[word][0].hits):
            if not any(is_at(hit, thing) for thing in things):
                (counting if rank < len(things) else further).append(word)
    return counting, further


def median(values: list[float]) -> float | None:
    """Returns the median; None where there is nothing."""
    return float(np.median(values)) if values else None


def of_places(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what was found on each table or in each room, in the order they were passed."""
    out = []
    for place in sorted({row['place'] for row in rows}):
        own = [row for row in rows if row['place'] == place]
        errors = [row['centre_m'] for row in own if row['right']]
        out.append({'place': place, 'objects': len(own), 'found': len(errors),
                    'false_absent': sum(row['presence'] == Presence.ABSENT.name for row in own),
                    'centre_m_median': median(errors)})
    return out


def counts(query: AskedMap, world: DrivenWorld) -> dict[str, Any]:
    """Asks for all objects and for what is not there; returns the counts and all rows."""
    answers = asked(query, [thing.query for thing in world.scene.objects])
    rows, (wrong, further) = rows_of(answers, world), wrong_places(answers, world)
    absent = asked(query, draw_absent(world.scene.seed, ABSENT, world.scene))
    said = [answer.presence for answer, _ in absent.values()]
    errors = [row['centre_m'] for row in rows if row['right']]
    return {'objects': len(rows), 'kinds': len(answers), 'found': len(errors),
            'centre_m_median': median(errors),
            'missing': [f'{row["object"]} ({row["place"]})' for row in rows if not row['right']],
            'absent_asked': len(absent), 'absent_found': said.count(Presence.PRESENT),
            'absent_not_observed': said.count(Presence.NOT_OBSERVED),
            'false_absent': sum(row['presence'] == Presence.ABSENT.name for row in rows),
            'wrong_place': len(wrong), 'at_wrong_place': wrong, 'further_at_wrong_place': further,
            'query_p50_ms': float(np.median([taken for _, taken in answers.values()])),
            'rows': rows}


def draw_from_above(query: AskedMap, world: DrivenWorld, file: Path) -> None:
    """Writes the map from above with the hits of a thing of each place, and of an absent one."""
    places: dict[int, list[str]] = {}
    for thing, place in zip(world.scene.objects, world.places_of, strict=True):
        places.setdefault(place, []).append(thing.query)
    each = max(map(len, places.values()))
    # Another one of each place, since those that were placed first stand beside each other.
    words = [things[(place + turn) % len(things)] for turn in range(each)
             for place, things in places.items()]
    words = list(dict.fromkeys(words))[:PICTURED]
    words += draw_absent(world.scene.seed, 1, world.scene)
    write_image(file, from_above([query.ask(QueryRequest(word, plan_grasps=False))
                                  for word in words]))

# SPDX-License-Identifier: Apache-2.0
"""Asks the maps of asked_layouts.py: present, absent or not observed, and parts of things.

    python bench/asked_answers.py --maps out/bench/asked --whole 208 218 --half 200 202

Whole: every object is asked for (present), and words for what is not there (absent). Half: objects
on the half that was seen (present), words and the other half's objects in a region on the seen
half (absent), and the same in a region on the half that nobody looked at (not observed). Parts: of
every named part whose object was seen; right when the middle of the best hit lies in the part's
box, 1 cm wider on each side. OUT/answers.json holds the counts and every wrong answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from named_parts import name_parts

from lerf_ros.evaluation.localization import inside_box
from lerf_ros.geometry.region import Region
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.scene import TabletopScene

sys.path.insert(0, str(Path(__file__).resolve().parent))
from asked_layouts import half_of_table, on_half
from simulated_maps import open_query

ABSENT = 20       # words in each layout
MARGIN_M = 0.01
SEEN, UNSEEN = 1.0, -1.0   # sign of x
Question = tuple[QueryRequest, Presence]


def half(sign: float) -> Region:
    """Returns the space over one half of the table."""
    center, size = half_of_table(sign)
    T = np.eye(4)
    T[:3, 3] = center
    return Region(T, size)


def questions(tabletop: TabletopScene, seen: str, seed: int) -> Iterator[Question]:
    """Yields requests with their true answers."""
    words = draw_absent(seed, ABSENT, tabletop)
    if seen == 'whole':
        for text in dict.fromkeys(o.query for o in tabletop.objects):
            yield QueryRequest(text), Presence.PRESENT
        for text in words:
            yield QueryRequest(text), Presence.ABSENT
        return
    there, hidden = ({tabletop.objects[k].query for k in on_half(tabletop, sign)}
                     for sign in (SEEN, UNSEEN))
    for text in sorted(there):
        yield QueryRequest(text), Presence.PRESENT
        yield QueryRequest(text, region=half(SEEN)), Presence.PRESENT
        yield QueryRequest(text, region=half(UNSEEN)), Presence.NOT_OBSERVED
    for text in sorted(hidden - there):
        yield QueryRequest(text, region=half(UNSEEN)), Presence.NOT_OBSERVED
    for text in [*words, *sorted(hidden - there)]:
        yield QueryRequest(text, region=half(SEEN)), Presence.ABSENT


def ask_presence(query: MapQuery, seed: int, seen: str) -> tuple[Counter, list[str]]:
    """Returns counts of (truth, answer), and the wrong answers."""
    counts, wrong = Counter(), []
    for request, truth in questions(evaluation_layout(seed), seen, seed):
        answer = query.ask(request)
        counts[truth.name, answer.presence.name] += 1
        if answer.presence != truth:
            where = 'everywhere' if request.region is None else \
                'seen half' if request.region.T_world_region[0, 3] > 0 else 'unseen half'
            wrong.append(f'{seen} {seed}: {request.text} {where}: {answer.presence.name}, '
                         f'relevancy {answer.relevancy.max(initial=0):.3f}, observed '
                         f'{answer.observed:.2f}')
    return counts, wrong


def ask_parts(query: MapQuery, seed: int, seen: str) -> tuple[Counter, list[str]]:
    """Returns how many queries for parts of visible things were right, and the wrong ones."""
    tabletop, counts, wrong = evaluation_layout(seed), Counter(), []
    shown = on_half(tabletop, SEEN) if seen == 'half' else range(len(tabletop.objects))
    for part in name_parts(tabletop).parts:
        if part.thing not in shown:
            continue
        text = tabletop.objects[part.thing].query
        hits = query.ask(QueryRequest(text, part=part.name, max_hits=1)).hits
        right = bool(hits) and inside_box(hits[0].position, part.box_min, part.box_max, MARGIN_M)
        counts['right' if right else 'wrong' if hits else 'not found'] += 1
        if not right:
            wrong.append(f'{seen} {seed}: {text}, {part.name}: ' + (
                f'{np.linalg.norm(hits[0].position - (part.box_min + part.box_max) / 2):.3f} m off'
                if hits else 'the thing was not found'))
    return counts, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, default=Path('out/bench/asked'))
    parser.add_argument('--whole', type=int, nargs='*', default=[])
    parser.add_argument('--half', type=int, nargs='*', default=[])
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    presence, parts, wrong = Counter(), Counter(), []
    for seen, seeds in (('whole', a.whole), ('half', a.half)):
        for seed in seeds:
            query = open_query(a.maps / seen / str(seed), 'oracle')
            for ask, total in ((ask_presence, presence), (ask_parts, parts)):
                counts, missed = ask(query, seed, seen)
                total += counts
                wrong += missed
    names = [p.name for p in (Presence.PRESENT, Presence.ABSENT, Presence.NOT_OBSERVED)]
    print('truth \\ answer'.ljust(16), *(name.rjust(13) for name in names))
    for truth in names:
        print(truth.ljust(16), *(str(presence[truth, name]).rjust(13) for name in names))
    print('parts:', dict(parts), *wrong, sep='\n  ')
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / 'answers.json').write_text(json.dumps({
        'presence': {t: {n: presence[t, n] for n in names} for t in names},
        'parts': dict(parts), 'wrong': wrong}, indent=1))


if __name__ == '__main__':
    run_quietly(main)

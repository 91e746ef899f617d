# SPDX-License-Identifier: Apache-2.0
"""Asks maps of relation_layouts.py for things by colour, size and relation.

    python bench/relations.py --seeds 20 21 22 23 --fused --encoder oracle

Questions are generated from the ground truth of each layout, in several phrasings and from several
viewpoints, where it is clear which one thing is meant: margins are wide, so that no answer is a
matter of taste. Twins are two things of one kind in different colours. Right is an answer whose
best hit has its middle in the thing's box, 3 cm wider on each side; where nothing fits, one without
hits. Missing maps are made first. OUT/relations.json holds `asked`, `right`, `twins` and
`twins_right` of the oracle, a table by relation and every wrong answer; those of other encoders are
under their names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from lerf_ros.evaluation.localization import HIT_MARGIN_M, inside_box
from lerf_ros.map_query import MapQuery
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.request import QueryRequest, relation
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.room import TABLE_HEIGHT
from lerf_ros.simulation.scene import SceneObject

sys.path.insert(0, str(Path(__file__).resolve().parent))
from relation_layouts import OUT, PAIRS, RelationLayout, map_layout, relation_layout
from simulated_maps import open_query

EACH = 4                  # questions of a relation in each layout, at most
CLEAR, OFF = 40.0, 85.0   # degrees from a direction: within it, and certainly not
NEAR = 0.7                # ratio of distances that tells the nearer one
APART_M = 0.12            # metres by which one of two is farther left, or nearer to the viewer
GAP_M, FAR_M = 0.14, 0.3  # next to something, and not next to it
BIGGER = 1.5              # ratio of volumes
VIEWS = 3                 # viewpoints round the table
DIRECTIONS = {'left of': (1, 0), 'right of': (-1, 0), 'behind': (0, 1), 'in front of': (0, -1)}
WORDS = {'left of': ('left of', 'to the left of'), 'right of': ('right of', 'on the right of'),
         'behind': ('behind', 'standing behind'),
         'in front of': ('in front of', 'that is in front of'),
         'nearest to': ('nearest to', 'closest to'), 'farthest from': ('farthest from',),
         'next to': ('next to', 'beside'), 'on': ('on', 'lying on top of'),
         'in': ('in', 'inside'), 'under': ('under', 'below')}


@dataclass(frozen=True)
class Question:
    """A request. target: index of the object that is meant, -1 for none. kind: for the table."""

    request: QueryRequest
    target: int
    kind: str


@dataclass
class Layout:
    """The objects of a layout with the nouns and colours that people would use."""

    layout: RelationLayout
    things: list[SceneObject] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, thing in enumerate(self.layout.tabletop.objects):
            color, _, noun = thing.query.partition(' ') if number < 2 * PAIRS else (
                '', '', thing.query)
            self.things.append(thing)
            self.nouns.append(noun)
            self.colors.append(color)

    def named(self, number: int) -> str:
        """Returns what tells an object from all others: with its colour if it has a twin."""
        return f'{self.colors[number]} {self.nouns[number]}'.strip()

    def twins(self) -> Iterator[tuple[int, int]]:
        """Yields the pairs of twins, both ways round."""
        for k in range(PAIRS):
            yield from permutations((2 * k, 2 * k + 1))

    def anchors(self, *others: int) -> Iterator[int]:
        """Yields what stands on the table beside these objects."""
        stacked = {top for top, _ in (*self.layout.on, *self.layout.inside)}
        return (k for k in range(len(self.things)) if k not in others and k not in stacked)


def middle(thing: SceneObject) -> np.ndarray:
    """Returns the middle of an object on the ground (2,)."""
    return thing.center[:2]


def gap(a: SceneObject, b: SceneObject) -> float:
    """Returns the horizontal distance of two boxes."""
    apart = np.maximum(np.maximum(a.box_min - b.box_max, b.box_min - a.box_max), 0)[:2]
    return float(np.linalg.norm(apart))


def viewpoints(seed: int) -> Iterator[Viewpoint]:
    """Yields places round the table from which somebody looks at its middle."""
    start = np.random.default_rng([seed, 31]).uniform(0, 2 * np.pi)
    for k in range(VIEWS):
        angle = start + 2 * np.pi * k / VIEWS
        away = np.array([np.cos(angle), np.sin(angle), 0.0])
        yield Viewpoint(away * 1.6 + [0, 0, TABLE_HEIGHT + 0.5], -away, f'view {k}')


def frame(target: np.ndarray, viewer: Viewpoint) -> np.ndarray:
    """Returns left and ahead, rows (2, 2), for who looks at a point (2,) on the ground."""
    ahead = target - viewer.position[:2]
    ahead = ahead / np.linalg.norm(ahead)
    return np.array([[-ahead[1], ahead[0]], ahead])


def angle(step: np.ndarray, direction: np.ndarray) -> float:
    """Returns the angle between two vectors (2,), degrees."""
    return float(np.degrees(np.arccos(np.clip(
        step @ direction / max(np.linalg.norm(step) * np.linalg.norm(direction), 1e-9), -1, 1))))


def of_twins(known: Layout) -> Iterator[Question]:
    """Yields questions for things of which there is a twin in another colour."""
    for one, _ in known.twins():
        color, noun = known.colors[one], known.nouns[one]
        for text in (f'{color} {noun}', f'where is the {noun} that is {color}?'):
            yield Question(QueryRequest(text), one, 'twins')
        yield Question(QueryRequest(noun, colors=(color,)), one, 'twins')


def of_stacks(known: Layout) -> Iterator[Question]:
    """Yields questions for what lies on or in something, and for what carries it."""
    for kind, pairs in (('on', known.layout.on), ('in', known.layout.inside)):
        for top, carrier in pairs:
            a, b = known.named(top), known.named(carrier)
            for words in WORDS[kind]:
                yield Question(QueryRequest(f'the {a} {words} the {b}'), top, kind)
            yield Question(QueryRequest(a, relations=(relation(kind, b),)), top, kind)
            if kind == 'on':
                for words in WORDS['under']:
                    yield Question(QueryRequest(f'{b} {words} the {a}'), carrier, 'under')
            other = next(k for k in known.anchors(carrier) if k >= 2 * PAIRS)
            yield Question(QueryRequest(f'{a} {kind} the {known.named(other)}'), -1, 'holds not')
    for one, other in known.twins():
        if one < other:
            yield Question(QueryRequest(f'the {known.named(one)} on the table'), one, 'on')


def of_directions(known: Layout, viewer: Viewpoint) -> Iterator[Question]:
    """Yields questions for the one of two twins that lies in a direction from something."""
    for one, other in known.twins():
        for anchor in known.anchors(one, other):
            at, axes = middle(known.things[anchor]), frame(middle(known.things[anchor]), viewer)
            for kind, parts in DIRECTIONS.items():
                direction = np.array(parts) @ axes
                if angle(middle(known.things[one]) - at, direction) < CLEAR and angle(
                        middle(known.things[other]) - at, direction) > OFF:
                    yield from phrased(known, one, kind, known.named(anchor), viewer)


def phrased(known: Layout, one: int, kind: str, anchor: str,
            viewer: Viewpoint | None = None) -> Iterator[Question]:
    """Yields the phrasings of a relation of one of two twins."""
    noun = known.nouns[one]
    for words in WORDS[kind]:
        yield Question(QueryRequest(f'the {noun} {words} the {anchor}', viewpoint=viewer), one,
                       kind)
    yield Question(QueryRequest(noun, relations=(relation(kind, anchor),), viewpoint=viewer),
                   one, kind)


def of_distances(known: Layout) -> Iterator[Question]:
    """Yields questions for the nearer, or farther, one of two twins, or the one beside a thing."""
    for one, other in known.twins():
        for anchor in known.anchors(one, other):
            near, far = (gap(known.things[k], known.things[anchor]) for k in (one, other))
            if near < NEAR * far:
                yield from phrased(known, one, 'nearest to', known.named(anchor))
                yield from phrased(known, other, 'farthest from', known.named(anchor))
            if near < GAP_M and far > FAR_M:
                yield from phrased(known, one, 'next to', known.named(anchor))


def of_between(known: Layout) -> Iterator[Question]:
    """Yields questions for the one of two twins that lies between two other things."""
    def off_line(k: int, a: int, b: int) -> tuple[float, float]:
        step, at = (middle(known.things[x]) - middle(known.things[a]) for x in (b, k))
        length = float(np.linalg.norm(step))
        return float(at @ step) / length ** 2, abs(
            float(at[0] * step[1] - at[1] * step[0])) / length ** 2

    for one, other in known.twins():
        for a, b in permutations(known.anchors(one, other), 2):
            (t, off), (u, away) = off_line(one, a, b), off_line(other, a, b)
            if a < b and 0.3 < t < 0.7 and off < 0.15 and (away > 0.5 or not -0.2 < u < 1.2):
                yield Question(QueryRequest(
                    f'the {known.nouns[one]} between the {known.named(a)} and the '
                    f'{known.named(b)}'), one, 'between')


def of_views(known: Layout, viewer: Viewpoint) -> Iterator[Question]:
    """Yields questions that depend on the viewer alone, for one of two twins."""
    left, ahead = frame(np.zeros(2), viewer)
    for one, other in known.twins():
        a, b = (middle(known.things[k]) for k in (one, other))
        noun = known.nouns[one]

        def ask(text: str, kind: str, one: int = one) -> Question:
            return Question(QueryRequest(text, viewpoint=viewer), one, kind)

        nearer = [float(np.linalg.norm(known.things[k].center - viewer.position))
                  for k in (one, other)]
        if nearer[0] < nearer[1] - APART_M:
            yield ask(f'the {noun} nearest to me', 'nearest to me')
            yield ask(f'the nearest {noun}', 'nearest to me')
        if (a - b) @ left > APART_M:
            yield ask(f'the leftmost {noun}', 'on the left')
            yield ask(f'the {noun} on the left', 'on the left')
        for side, direction in (('left', left), ('right', -left), ('far', ahead), ('near', -ahead)):
            if a @ direction > APART_M and b @ direction < -APART_M:
                yield ask(f'the {noun} on the {side} side of the table', 'side of')


def of_sizes(known: Layout) -> Iterator[Question]:
    """Yields questions for the larger, or smaller, one of two twins."""
    for one, other in known.twins():
        a, b = (float(np.prod(known.things[k].box_max - known.things[k].box_min))
                for k in (one, other))
        if a > BIGGER * b:
            yield Question(QueryRequest(f'the largest {known.nouns[one]}'), one, 'size')
            yield Question(QueryRequest(f'the small {known.nouns[one]}'), other, 'size')


def questions(seed: int) -> list[Question]:
    """Returns the questions of a layout: all of twins, and EACH of every relation, drawn."""
    known, rng = Layout(relation_layout(seed)), np.random.default_rng([seed, 37])
    makers: list[Callable[[], Iterator[Question]]] = [
        lambda: of_stacks(known), lambda: of_distances(known), lambda: of_between(known),
        lambda: of_sizes(known)]
    pool = [question for make in makers for question in make()]
    for viewer in viewpoints(seed):
        pool += [*of_directions(known, viewer), *of_views(known, viewer)]
    drawn = [*of_twins(known)]
    for kind in sorted({question.kind for question in pool}):
        of_kind = [question for question in pool if question.kind == kind]
        drawn += [of_kind[k] for k in rng.permutation(len(of_kind))[:EACH]]
    return drawn


def ask(query: MapQuery, seed: int) -> tuple[Counter, list[str]]:
    """Returns counts of (kind, right), and the wrong answers in words."""
    things, counts, wrong = relation_layout(seed).tabletop.objects, Counter(), []
    for question in questions(seed):
        answer = query.ask(question.request)
        hits = answer.hits
        right = not hits if question.target < 0 else bool(hits) and inside_box(
            hits[0].position, things[question.target].box_min, things[question.target].box_max,
            HIT_MARGIN_M)
        counts[question.kind, right] += 1
        if not right:
            wrong.append(f'{seed} {question.kind}: {answer.phrases[0].understood}: ' + (
                f'at {np.round(hits[0].position, 2).tolist()}' if hits
                else answer.not_found_reason))
    return counts, wrong


def summary(counts: Counter, wrong: list[str]) -> dict:
    """Returns the counts as JSON data."""
    table = {kind: {'asked': counts[kind, True] + counts[kind, False],
                    'right': counts[kind, True]} for kind in sorted({kind for kind, _ in counts})}
    twins = table.pop('twins')
    return {'asked': sum(row['asked'] for row in table.values()),
            'right': sum(row['right'] for row in table.values()),
            'twins': twins['asked'], 'twins_right': twins['right'], 'table': table,
            'wrong': wrong}


def write(results: dict, encoder: str, out: Path) -> None:
    """Writes the results of an encoder into OUT/relations.json, beside those of others."""
    file = out / 'relations.json'
    known = json.loads(file.read_text()) if file.exists() else {}
    known = {**known, **results} if encoder == 'oracle' else {**known, encoder: results}
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--encoder', default='oracle', choices=('oracle', 'conse', 'openclip'))
    parser.add_argument('--fused', action='store_true', help='maps without a field')
    parser.add_argument('--maps', type=Path, default=OUT)
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    counts, wrong = Counter(), []
    for seed in a.seeds:
        print(map_layout(seed, a.encoder, a.maps, a.fused), flush=True)
        query = open_query(a.maps / ('fused' if a.fused else '') / a.encoder / str(seed),
                           a.encoder)
        more, missed = ask(query, seed)
        counts += more
        wrong += missed
    results = {**summary(counts, wrong), 'seeds': a.seeds,
               'maps': 'fused' if a.fused else 'trained'}
    write(results, a.encoder, a.out)
    print(*wrong, sep='\n')
    print(json.dumps({key: results[key] for key in ('asked', 'right', 'twins', 'twins_right',
                                                    'table')}, indent=1))


if __name__ == '__main__':
    run_quietly(main)

# SPDX-License-Identifier: Apache-2.0
"""Layouts that are harder than those of the demo: with near duplicates, and of varying sizes.

Each has a pair that differs only in colour ('red mug', 'blue mug'), a pair of one group (two balls,
two tools, ...), and single objects of other groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.simulation.models import Kind, Model, recoloured, resized
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.room import room_parts
from lerf_ros.simulation.scene import TabletopScene, draw_light, fitted
from lerf_ros.simulation.textures import solid

COUNT = (11, 13)
SIZES = (0.8, 1.25)
COLORS = {'red': (0.75, 0.08, 0.07), 'blue': (0.10, 0.22, 0.65), 'white': (0.93, 0.92, 0.90),
          'green': (0.12, 0.45, 0.18), 'yellow': (0.93, 0.76, 0.10), 'black': (0.06, 0.06, 0.07)}


@dataclass(frozen=True)
class Twins:
    """A kind that comes in several colours. parts: indices of the parts that are coloured."""

    query: str
    noun: str
    parts: tuple[int, ...]
    colors: tuple[str, ...]


TWINS = (
    Twins('coffee mug', 'mug', (0, 1), ('red', 'blue', 'white', 'green')),
    Twins('bucket', 'bucket', (0,), ('red', 'blue', 'yellow')),
    Twins('candle', 'candle', (0,), ('red', 'white', 'green')),
    Twins('bell pepper', 'bell pepper', (0,), ('red', 'yellow', 'green')),
    Twins('toaster', 'toaster', (0,), ('red', 'white', 'blue')),
    Twins('computer mouse', 'computer mouse', (0, 2), ('black', 'white', 'red')),
    Twins('drum', 'drum', (0,), ('red', 'blue', 'black')),
    Twins('dumbbell', 'dumbbell', (1,), ('black', 'red', 'blue')),
)
# Groups whose kinds look alike or are used alike; the kinds of a pair differ in shape.
PAIRED = ('ball', 'crockery', 'bread', 'tool', 'computer', 'vegetable', 'lamp', 'fruit')


def evaluation_layout(seed: int) -> TabletopScene:
    """Draws the scene of this seed: 10 to 13 objects with different queries.

    Both pairs change from one seed to the next.
    """
    rng = np.random.default_rng([seed, 23])
    room = room_parts(rng)
    light = draw_light(rng)
    drawn = draw_models(rng, seed)
    sized = [(kind, resized(model, float(rng.uniform(*SIZES)))) for kind, model in drawn]
    return TabletopScene(seed, fitted(rng, sized), room, light)


def draw_models(rng: np.random.Generator, seed: int) -> list[tuple[Kind, Model]]:
    """Draws the models; the pairs come first, so that they stay when the table is too full."""
    twins = TWINS[seed % len(TWINS)]
    kinds = {kind.query: kind for kind in CATALOGUE}
    taken = {kinds[twins.query].group}
    free = [group for group in PAIRED if group not in taken]
    taken.add(free[seed % len(free)])
    pair = members(free[seed % len(free)])
    chosen = [pair[i] for i in rng.permutation(len(pair))[:2]]
    others = sorted({kind.group for kind in CATALOGUE} - taken)
    count = int(rng.integers(COUNT[0], COUNT[1] + 1)) - 4
    for index in rng.permutation(len(others))[:count]:
        group = members(others[index])
        chosen.append(group[rng.integers(len(group))])
    return [*draw_twins(rng, kinds[twins.query], twins),
            *((kind, kind.build(rng)) for kind in chosen)]


def draw_twins(rng: np.random.Generator, kind: Kind, twins: Twins) -> list[tuple[Kind, Model]]:
    """Draws two models of a kind in different colours, each with its colour in its query."""
    pair = []
    for index in rng.permutation(len(twins.colors))[:2]:
        color = twins.colors[index]
        name = f'{color} {twins.noun}'
        pair.append((replace(kind, query=name),
                     recoloured(kind.build(rng), name, twins.parts, solid(COLORS[color]))))
    return pair


def members(group: str) -> list[Kind]:
    """Returns the kinds of one group."""
    return [kind for kind in CATALOGUE if kind.group == group]

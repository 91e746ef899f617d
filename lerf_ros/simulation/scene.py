# SPDX-License-Identifier: Apache-2.0
"""A tabletop scene drawn from a seed: which objects, where, under what light.

World axes: z up, metres, the origin on the floor below the centre of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.simulation.meshes import rotation
from lerf_ros.simulation.models import Kind, Model, Part, pose
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.room import (
    ROOM_HALF,
    ROOM_NAMES,
    TABLE_HEIGHT,
    TABLE_SIZE,
    room_parts,
)

OBJECT_COUNT = (10, 12)         # fewest and most objects
MIN_GAP = 0.08                  # metres between the boxes of two objects
# Wider gaps are tried first, because objects that stand apart hide each other less.
GAPS = (0.15, 0.12, 0.1, MIN_GAP)
EDGE = 0.03                     # metres between a box and the edge of the table
TRIES = 8                       # random arrangements for each gap
PUSHES = 200                    # steps that move overlapping boxes apart
FULL = 0.8                      # boxes that cover a larger fraction of the table never fit


@dataclass(frozen=True)
class SceneObject:
    """An object on the table.

    name: e.g. 'red mug'. query: what one would type to find it. group: see models.Kind.
    box_min, box_max: (3,) metres, the axis-aligned box in the world that holds all of it.
    """

    name: str
    query: str
    group: str
    parts: tuple[Part, ...]
    box_min: np.ndarray
    box_max: np.ndarray

    @property
    def center(self) -> np.ndarray:
        """Returns the centre of the box, (3,) metres."""
        return (self.box_min + self.box_max) / 2


@dataclass(frozen=True)
class Light:
    """A round lamp below the ceiling, and light from everywhere.

    position (3,) and radius in metres; key and ambient are linear RGB (3,) on a white surface
    that faces them.
    """

    position: np.ndarray
    radius: float
    key: np.ndarray
    ambient: np.ndarray


@dataclass(frozen=True)
class LitPlane:
    """A level rectangle of the room on which soft shadows are drawn.

    parts: indices into the scene's room. height, center (2,), half (2,) and texel in metres.
    """

    parts: tuple[int, ...]
    height: float
    center: tuple[float, float]
    half: tuple[float, float]
    texel: float


TABLETOP_PLANES = (
    LitPlane((0,), TABLE_HEIGHT, (0.0, 0.0), (TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2), 0.005),
    LitPlane((1, 5), 0.013, (0.0, 0.0), (ROOM_HALF, ROOM_HALF), 0.05))


@dataclass(frozen=True)
class TabletopScene:
    """Objects on tables in a room.

    room_names: the name of each part of the room. planes: where shadows are soft.
    """

    seed: int
    objects: tuple[SceneObject, ...]
    room: tuple[Part, ...]
    light: Light
    room_names: tuple[str, ...] = ROOM_NAMES
    planes: tuple[LitPlane, ...] = TABLETOP_PLANES

    @property
    def parts(self) -> tuple[Part, ...]:
        """Returns all visible parts: those of the objects in order, then those of the room."""
        return (*(part for thing in self.objects for part in thing.parts), *self.room)

    @staticmethod
    def generate(seed: int, kinds: tuple[Kind, ...] = CATALOGUE) -> TabletopScene:
        """Draws the scene of this seed, which is the same on every machine."""
        rng = np.random.default_rng([seed, 20])
        room = room_parts(rng)
        light = draw_light(rng)
        models = [(kind, kind.build(rng)) for kind in draw_kinds(rng, kinds)]
        return TabletopScene(seed, fitted(rng, models), room, light)


def fitted(rng: np.random.Generator,
           models: list[tuple[Kind, Model]]) -> tuple[SceneObject, ...]:
    """Puts the models on the table, without the last ones where not all of them fit.

    Raises LerfError when not even 10 models fit, or not all where there are fewer.
    """
    least = min(len(models), OBJECT_COUNT[0])
    for count in range(len(models), least - 1, -1):
        for gap in np.repeat(GAPS, TRIES):
            objects = arrange(rng, models[:count], float(gap))
            if objects is not None:
                return objects
    raise LerfError(f'{len(models)} objects do not fit on the table')


def draw_kinds(rng: np.random.Generator, kinds: tuple[Kind, ...]) -> list[Kind]:
    """Draws 10 to 12 kinds, at most one of each group; all groups where there are fewer."""
    count = int(rng.integers(OBJECT_COUNT[0], OBJECT_COUNT[1] + 1))
    groups = sorted({kind.group for kind in kinds})
    drawn = [groups[i] for i in rng.permutation(len(groups))[:count]]
    members = [[kind for kind in kinds if kind.group == group] for group in drawn]
    return [m[rng.integers(len(m))] for m in members]


def draw_light(rng: np.random.Generator) -> Light:
    """Draws a lamp off to one side, of warmer or cooler light."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
    warmth = rng.uniform(-0.05, 0.05)
    key = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.70, 0.82)
    position = np.array([distance * np.cos(angle), distance * np.sin(angle),
                         rng.uniform(2.2, 2.45)])
    return Light(position, 0.12, key, np.array([0.97, 1.0, 1.03]) * rng.uniform(0.44, 0.52))


def placed(kind: Kind, model: Model, T: np.ndarray) -> SceneObject:
    """Returns the model as an object of the world, at T (4, 4)."""
    parts = tuple(p.placed(T) for p in model.parts)
    vertices = np.concatenate([p.world_vertices() for p in parts])
    return SceneObject(model.name, kind.query, kind.group, parts, vertices.min(0),
                       vertices.max(0))


def arrange(rng: np.random.Generator,
            models: list[tuple[Kind, Model]], gap: float) -> tuple[SceneObject, ...] | None:
    """Arranges the models on the table, `gap` metres apart; None where that failed."""
    # Turned only slightly against the table: the boxes of long things on a diagonal are large.
    turns = 90 * rng.integers(4, size=len(models)) + rng.uniform(-25, 25, len(models))
    turned = [placed(k, m, pose(rotation=rotation('z', t))) for (k, m), t in zip(models, turns)]
    low, high = (np.array([getattr(o, a)[:2] for o in turned]).reshape(-1, 2)
                 for a in ('box_min', 'box_max'))
    half = (high - low) / 2
    room = np.asarray(TABLE_SIZE) / 2 - EDGE - half
    start = rng.uniform(-room, room)
    if np.prod(2 * half + gap, axis=1).sum() > FULL * np.prod(np.asarray(TABLE_SIZE)):
        return None
    centres = pushed_apart(start, half + gap / 2, room)
    if centres is None:
        return None
    offsets = centres - (low + high) / 2
    return tuple(on_table(o, offset) for o, offset in zip(turned, offsets))


def pushed_apart(centres: np.ndarray, half: np.ndarray, room: np.ndarray) -> np.ndarray | None:
    """Moves boxes of half sizes (N, 2) within +-room until none overlap; None where that failed."""
    centres = centres.copy()
    apart = np.eye(len(centres), dtype=bool)[..., None]
    for _ in range(PUSHES):
        offset = centres[:, None] - centres[None]
        depth = np.where(apart, -1.0, half[:, None] + half[None] - np.abs(offset))
        overlap = depth.min(2)
        if overlap.max(initial=-1) < 0:
            return centres
        # Along the axis of the smaller overlap; each push is 0.35 of it, so it takes several.
        axis = depth.argmin(2)[..., None] == np.arange(2)
        away = np.where(offset >= 0, 1.0, -1.0)
        push = axis * away * (np.maximum(overlap, 0) * 0.35 + 1e-4 * (overlap >= 0))[..., None]
        centres = np.clip(centres + push.sum(1), -room, room)
    return None


def on_table(item: SceneObject, offset: np.ndarray) -> SceneObject:
    """Returns the object moved by (2,) metres and lifted onto the table."""
    return moved(item, (offset[0], offset[1], TABLE_HEIGHT))


def moved(item: SceneObject, offset: tuple[float, float, float]) -> SceneObject:
    """Returns the object moved by (3,) metres."""
    T = pose(*offset)
    return SceneObject(item.name, item.query, item.group, tuple(p.placed(T) for p in item.parts),
                       item.box_min + T[:3, 3], item.box_max + T[:3, 3])


def label_names(scene: TabletopScene) -> tuple[str, ...]:
    """Returns the names by label: the query of each object in order, then the names of the room.

    Objects go by the phrase that one would type, so that an encoder that knows all names does not
    fail because of a synonym.
    """
    return (*(thing.query for thing in scene.objects), *dict.fromkeys(scene.room_names))


def part_labels(scene: TabletopScene) -> np.ndarray:
    """Returns the label (P,) int32 of each of scene.parts: the N objects, then table, floor, ..."""
    room = list(dict.fromkeys(scene.room_names))
    objects = [k for k, thing in enumerate(scene.objects) for _ in thing.parts]
    names = (len(scene.objects) + room.index(name) for name in scene.room_names)
    return np.array([*objects, *names], np.int32)

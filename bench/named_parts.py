# SPDX-License-Identifier: Apache-2.0
"""Names and labels of the parts of simulated objects, such as the handle of a mug."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.simulation.scene import SceneObject, TabletopScene, label_names, part_labels

# By the last words of the query of an object: names of parts, and the meshes that belong to each.
# Only parts with a common name that are large enough to be seen.
PART_NAMES: dict[str, dict[str, tuple[int, ...]]] = {
    'mug': {'handle': (1,)},
    'coffeepot': {'handle': (1,)},
    'frying pan': {'handle': (1,)},
    'hammer': {'handle': (1,), 'head': (0,)},
    'screwdriver': {'handle': (0,), 'shaft': (1,)},
    'candle': {'holder': (1,), 'flame': (3,)},
    'table lamp': {'shade': (1,), 'base': (0,)},
    'toaster': {'lever': (3,), 'bread': (4,)},
    'dumbbell': {'bar': (0,), 'discs': (1,)},
    'laptop': {'screen': (4,), 'keys': (1,)},
    'acoustic guitar': {'neck': (1,), 'head': (2,)},
    'wall clock': {'dial': (0,), 'rim': (1,)},
    'drum': {'skin': (1,)},
}


@dataclass(frozen=True)
class NamedPart:
    """A part of scene.objects[thing] that can be asked for.

    box_min, box_max: (3,) metres, world.
    """

    thing: int
    name: str
    label: int
    box_min: np.ndarray
    box_max: np.ndarray


@dataclass(frozen=True)
class PartNaming:
    """Labels with parts: names by label, label_names first; labels (P,) int32 of scene.parts."""

    names: tuple[str, ...]
    labels: np.ndarray
    parts: tuple[NamedPart, ...]


def names_of(thing: SceneObject) -> dict[str, tuple[int, ...]]:
    """Returns the named parts of an object: indices into its meshes by name."""
    fitting = [noun for noun in PART_NAMES if thing.query.endswith(noun)]
    return PART_NAMES[max(fitting, key=len)] if fitting else {}


def name_parts(scene: TabletopScene) -> PartNaming:
    """Labels a scene so that each named part is called 'OBJECT PART', such as 'red mug handle'."""
    names, labels, parts = list(label_names(scene)), part_labels(scene).copy(), []
    first = 0
    for index, thing in enumerate(scene.objects):
        for name, meshes in names_of(thing).items():
            vertices = np.concatenate([thing.parts[k].world_vertices() for k in meshes])
            parts.append(NamedPart(index, name, len(names), vertices.min(0), vertices.max(0)))
            labels[[first + k for k in meshes]] = len(names)
            names.append(f'{thing.query} {name}')
        first += len(thing.parts)
    return PartNaming(tuple(names), labels, tuple(parts))

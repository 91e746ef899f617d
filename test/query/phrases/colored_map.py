# SPDX-License-Identifier: Apache-2.0
"""A table on a floor with cubes of several colours on it, made by hand.

Nouns lie on axes at right angles; whatever else a phrase says, the encoder hears its last word
alone. Seen from x = 0, y = -3, left is towards smaller x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hand_made_map import plain_index

from lerf_ros.config import QueryConfig
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.text_query import TextQuery

NOUNS = ('object', 'things', 'stuff', 'texture', 'mug', 'box', 'ball', 'tray', 'table', 'floor')
PAINT = {'red': (190, 25, 20), 'blue': (30, 60, 170), 'white': (235, 235, 230),
         'gray': (125, 125, 125)}
TOP = 0.5     # height of the table
# Noun, paint, middle of the foot, lengths of the sides.
THINGS = (
    ('mug', 'red', (-0.4, 0.0, TOP), (0.1, 0.1, 0.1)),
    ('mug', 'blue', (0.4, 0.0, TOP), (0.1, 0.1, 0.1)),
    ('mug', 'red', (0.4, 0.45, TOP), (0.16, 0.16, 0.16)),
    ('box', 'gray', (0.0, 0.0, TOP), (0.24, 0.2, 0.1)),
    ('ball', 'blue', (0.0, 0.0, TOP + 0.1), (0.08, 0.08, 0.08)),
    ('ball', 'white', (-0.4, 0.45, 0.0), (0.12, 0.12, 0.12)))
VIEWER = Viewpoint(np.array([0.0, -3.0, 1.5]), np.array([0.0, 1.0, 0.0]), 'the test')


class LastWord:
    """Hears the last word that it knows."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        known = [[word for word in text.lower().split() if word in NOUNS][-1] for text in texts]
        return np.eye(len(NOUNS), dtype=np.float32)[[NOUNS.index(word) for word in known]]


def shell(foot: tuple, sides: tuple, steps: int = 9) -> np.ndarray:
    """The faces of a box that a camera sees: all but the bottom."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, steps)] * 3), -1).reshape(-1, 3)
    face = (np.abs(grid) > 0.49).any(1) & ~((grid[:, 2] < -0.49) & (np.abs(grid[:, :2])
                                                                    < 0.49).all(1))
    return grid[face] * sides + np.array(foot) + [0, 0, sides[2] / 2]


def plane(half: tuple[float, float], height: float, steps: int = 50) -> np.ndarray:
    x, y = (np.linspace(-h, h, steps) for h in half)
    return np.stack(np.meshgrid(x, y, [height]), -1).reshape(-1, 3)


def colored_index(things: Sequence[tuple] = THINGS) -> LanguageIndex:
    parts = [('table', 'white', plane((0.7, 0.6), TOP)), ('floor', 'gray', plane((2, 2), 0.0)),
             *((noun, paint, shell(foot, sides)) for noun, paint, foot, sides in things)]
    points = np.concatenate([part for _, _, part in parts])
    count = [len(part) for _, _, part in parts]
    codes = np.repeat(np.eye(len(NOUNS))[[NOUNS.index(noun) for noun, _, _ in parts]], count,
                      axis=0)[None]
    index = plain_index(points, codes, np.repeat(np.arange(len(parts)), count), np.array([0.1]))
    colors = np.repeat([PAINT[paint] for _, paint, _ in parts], count, axis=0).astype(np.uint8)
    planes = np.array([[0.0, 0.0, 1.0, -TOP], [0.0, 0.0, 1.0, 0.0]])
    return LanguageIndex(**{**{name: getattr(index, name) for name in index.__dataclass_fields__},
                            'colors': colors, 'planes': planes})


def colored_query(things: Sequence[tuple] = THINGS) -> TextQuery:
    return TextQuery(colored_index(things), LastWord(), QueryConfig(threshold=0.6), 1.0)

# SPDX-License-Identifier: Apache-2.0
"""The room: floor, walls, ceiling, a rug and the table. World axes: z up, metres."""

from __future__ import annotations

from functools import cache

import numpy as np

from lerf_ros.simulation.meshes import Mesh, joined, prism, rounded_box
from lerf_ros.simulation.models import Part
from lerf_ros.simulation.textures import Color, f32, from_image, mixed, mottled, step, wood

TABLE_HEIGHT = 0.75
TABLE_SIZE = (1.4, 0.9)
TABLE_THICKNESS = 0.035
ROOM_HALF = 2.5
ROOM_HEIGHT = 2.6
TEXEL = 0.003
# The names of `room_parts`, in the same order.
ROOM_NAMES = ('table', 'floor', 'table', 'wall', 'ceiling', 'rug')

WOODS = (((0.72, 0.53, 0.34), (0.55, 0.37, 0.21)), ((0.62, 0.43, 0.28), (0.42, 0.27, 0.16)),
         ((0.80, 0.66, 0.47), (0.66, 0.50, 0.32)))
WALLS = ((0.80, 0.78, 0.72), (0.72, 0.77, 0.78), (0.80, 0.74, 0.70), (0.74, 0.78, 0.71))
FLOORS = ((0.50, 0.47, 0.44), (0.42, 0.36, 0.31), (0.55, 0.53, 0.50))


def baked(color: Color, half: tuple[float, float], texel: float) -> Color:
    """Returns colours of the plane z = 0 that are looked up in a picture.

    The picture is drawn once, when it is first needed, because noise is slow to evaluate for each
    pixel of each view.
    """
    @cache
    def drawn() -> Color:
        x = np.arange(-half[0], half[0], texel) + texel / 2
        y = np.arange(-half[1], half[1], texel) + texel / 2
        plane = np.stack([*np.meshgrid(x, y), np.zeros((len(y), len(x)))], -1).reshape(-1, 3)
        picture = color(f32(plane)).reshape(len(y), len(x), 3)
        size = f32([len(x) * texel, len(y) * texel])
        return from_image(picture, lambda points: points[:, :2] / size + f32(0.5))
    return lambda points: drawn()(points)


def planks(rng: np.random.Generator) -> Color:
    """Returns a table top of glued planks."""
    light, dark = (f32(c) for c in WOODS[rng.integers(len(WOODS))])
    seed = int(rng.integers(1 << 20))
    grain = wood(light, dark, 0, 0.035, seed)
    tone = rng.uniform(0.9, 1.06, 64).astype(np.float32)

    def color(points: np.ndarray) -> np.ndarray:
        row = np.floor(points[:, 1] / 0.15).astype(int)
        shifted = points + f32([[0.37, 0, 0.23]]) * row[:, None]
        seam = np.abs(points[:, 1] / 0.15 - np.round(points[:, 1] / 0.15)) * 0.15
        return grain(shifted) * (tone[row % 64] * (0.7 + 0.3 * step(seam, 0.001, 0.001)))[:, None]
    return color


def tiles(rng: np.random.Generator) -> Color:
    """Returns floor tiles, half a metre wide."""
    base = f32(FLOORS[rng.integers(len(FLOORS))])
    speckle = mottled(base * 0.9, base * 1.1, 0.12, int(rng.integers(1 << 20)))

    def color(points: np.ndarray) -> np.ndarray:
        edge = np.abs(points[:, :2] / 0.5 - np.round(points[:, :2] / 0.5)).min(1) * 0.5
        return mixed(f32([[0.6, 0.58, 0.55]]), speckle(points), step(edge, 0.004, 0.004))
    return color


def plaster(rng: np.random.Generator) -> Color:
    """Returns a painted, slightly uneven wall with a skirting board."""
    base = f32(WALLS[rng.integers(len(WALLS))])
    uneven = mottled(base * 0.95, base * 1.03, 0.35, int(rng.integers(1 << 20)))

    def color(points: np.ndarray) -> np.ndarray:
        return mixed(f32([[0.9, 0.89, 0.86]]), uneven(points),
                     step(points[:, 2], 0.09, 0.004))
    return color


def quad(corner: tuple, side_a: tuple, side_b: tuple) -> Mesh:
    """Returns a parallelogram from a corner and its two sides."""
    c, a, b = (np.asarray(v, np.float64) for v in (corner, side_a, side_b))
    return Mesh(np.stack([c, c + a, c + a + b, c + b]), np.array([[0, 1, 2], [0, 2, 3]]))


def table_parts(rng: np.random.Generator) -> tuple[Part, Part]:
    """Returns the table top, whose own z = 0 is its upper face, and the legs."""
    x, y = TABLE_SIZE
    top = rounded_box((x, y, TABLE_THICKNESS), 0.003).moved((0, 0, -TABLE_THICKNESS / 2))
    height = TABLE_HEIGHT - TABLE_THICKNESS
    legs = joined([rounded_box((0.07, 0.07, height), 0.004).moved(
        (sx * (x / 2 - 0.07), sy * (y / 2 - 0.07), -TABLE_THICKNESS - height / 2))
        for sx in (-1, 1) for sy in (-1, 1)])
    surface = planks(rng)
    T = np.eye(4)
    T[2, 3] = TABLE_HEIGHT
    return (Part(top, baked(surface, (x / 2, y / 2), TEXEL), 0.08, T),
            Part(legs, surface, 0.05, T))


def room_parts(rng: np.random.Generator) -> tuple[Part, ...]:
    """Returns table top, floor, and everything else that is not an object."""
    top, legs = table_parts(rng)
    h, z = ROOM_HALF, ROOM_HEIGHT
    floor = quad((-h, -h, 0), (2 * h, 0, 0), (0, 2 * h, 0))
    ceiling = quad((-h, -h, z), (2 * h, 0, 0), (0, 2 * h, 0))
    walls = joined([quad((-h, -h, 0), (2 * h, 0, 0), (0, 0, z)),
                    quad((-h, h, 0), (2 * h, 0, 0), (0, 0, z)),
                    quad((-h, -h, 0), (0, 2 * h, 0), (0, 0, z)),
                    quad((h, -h, 0), (0, 2 * h, 0), (0, 0, z))])
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rug = prism(np.stack([1.35 * np.cos(angle), 1.1 * np.sin(angle)], 1), 0.0, 0.012, 0.006)
    tint = f32([(0.45, 0.2, 0.18), (0.2, 0.28, 0.42), (0.33, 0.38, 0.3)][rng.integers(3)])
    return (top, Part(floor, baked(tiles(rng), (h, h), 0.01), 0.05), legs,
            Part(walls, plaster(rng)), Part(ceiling, mottled((0.9,) * 3, (0.86,) * 3, 0.5)),
            Part(rug, baked(mottled(tint * 0.8, tint * 1.15, 0.03, 9), (1.4, 1.15), 0.01)))

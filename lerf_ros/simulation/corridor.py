# SPDX-License-Identifier: Apache-2.0
"""A hall with a row of tables, drawn from a seed, and a robot that drives along both sides of it.

World axes: z up, metres; the row begins at the origin and goes along x. The hall has no ceiling,
which the camera never looks up to, so that one lamp high above lights all of it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.simulation.meshes import joined
from lerf_ros.simulation.models import Kind, Model, Part, pose
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.room import (
    ROOM_HEIGHT,
    TABLE_HEIGHT,
    TABLE_SIZE,
    baked,
    plaster,
    quad,
    table_parts,
    tiles,
)
from lerf_ros.simulation.scene import Light, LitPlane, SceneObject, TabletopScene, fitted, moved
from lerf_ros.simulation.trajectory import look_at

SPACING = 2.5               # metres from one table to the next
HALL_HALF_WIDTH = 2.5       # metres
MOST_ON_TABLE = 9           # objects
LAMP_HEIGHT = 60.0          # metres
# The robot: a mobile manipulator whose head turns from side to side.
LANE = 1.3                  # metres from the middle of the row to its path
EYE_HEIGHT = 1.35           # metres
SPEED = 0.5                 # metres a second
PAN_REACH = 0.6             # metres to either side that the head looks along the row
PAN_PERIOD = 1.7            # metres driven from one such look to the next


def corridor(seed: int, tables: int, catalogue: Sequence[Kind] = CATALOGUE) -> TabletopScene:
    """Draws the hall of this seed with so many tables; no kind of object stands there twice.

    There are as many objects on each table as the catalogue has for all, up to 9: 36 on twelve.
    Raises LerfError for more tables than there are kinds of objects.
    """
    if not 1 <= tables <= len(catalogue):
        raise LerfError(f'{tables} tables: 1 to {len(catalogue)} can be filled')
    rng = np.random.default_rng([seed, 24])
    each = min(MOST_ON_TABLE, len(catalogue) // tables)
    kinds = [catalogue[k] for k in rng.permutation(len(catalogue))[:each * tables]]
    objects = [thing for table in range(tables) for thing in objects_on(
        rng, kinds[each * table:each * (table + 1)], table)]
    room, names = hall_parts(rng, tables)
    return TabletopScene(seed, tuple(objects), room, lamp(tables), names, lit_planes(tables))


def objects_on(rng: np.random.Generator, kinds: list[Kind], table: int) -> list[SceneObject]:
    """Returns objects of these kinds on a table, by its number."""
    models: list[tuple[Kind, Model]] = [(kind, kind.build(rng)) for kind in kinds]
    return [moved(thing, (SPACING * table, 0.0, 0.0)) for thing in fitted(rng, models)]


def hall_size(tables: int) -> tuple[float, float]:
    """Returns length and width of the hall, metres."""
    return SPACING * (tables - 1) + 2 * HALL_HALF_WIDTH, 2 * HALL_HALF_WIDTH


def hall_parts(rng: np.random.Generator, tables: int) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Returns floor, walls and tables, and the name of each part."""
    (length, width), h, z = hall_size(tables), HALL_HALF_WIDTH, ROOM_HEIGHT
    floor = quad((-length / 2, -h, 0), (length, 0, 0), (0, width, 0))
    walls = joined([quad((-h, -h, 0), (length, 0, 0), (0, 0, z)),
                    quad((-h, h, 0), (length, 0, 0), (0, 0, z)),
                    quad((-h, -h, 0), (0, width, 0), (0, 0, z)),
                    quad((length - h, -h, 0), (0, width, 0), (0, 0, z))])
    parts = [Part(floor, baked(tiles(rng), (length / 2, h), 0.02), 0.05, pose(length / 2 - h)),
             Part(walls, plaster(rng))]
    for table in range(tables):
        T = pose(SPACING * table)
        parts += [part.placed(T) for part in table_parts(rng)]
    return tuple(parts), ('floor', 'wall', *('table', 'table') * tables)


def lit_planes(tables: int) -> tuple[LitPlane, ...]:
    """Returns the floor and the table tops."""
    length, width = hall_size(tables)
    middle = SPACING * (tables - 1) / 2
    half = (TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2)
    return (LitPlane((0,), 0.0, (middle, 0.0), (length / 2, width / 2), 0.1),
            *(LitPlane((2 + 2 * table,), TABLE_HEIGHT, (SPACING * table, 0.0), half, 0.01)
              for table in range(tables)))


def lamp(tables: int) -> Light:
    """Returns a lamp so high that it lights all tables from nearly the same direction."""
    middle = SPACING * (tables - 1) / 2
    return Light(np.array([middle + 0.3 * LAMP_HEIGHT, -0.25 * LAMP_HEIGHT, LAMP_HEIGHT]), 2.5,
                 np.array([0.78, 0.77, 0.75]), np.array([0.47, 0.48, 0.5]))


def drive_length(tables: int) -> float:
    """Returns the length of the robot's path, metres: along the row, round its end, and back."""
    return 2 * SPACING * (tables - 1) + np.pi * LANE


def driving_path(seed: int, tables: int) -> Callable[[float], np.ndarray]:
    """Returns T_world_camera (4, 4), OpenCV axes, as a function of the metres driven from 0.

    The robot drives along one side of the row, round its end and back on the other side. Its head
    is turned to the row and sways along it. The path lasts `drive_length` / SPEED seconds.
    """
    rng = np.random.default_rng([seed, 25])
    phase, row = rng.uniform(0, 2 * np.pi, 2), SPACING * (tables - 1)

    def T_world_camera(way: float) -> np.ndarray:
        x, y = lane_at(way, row)
        sway = PAN_REACH * np.sin(2 * np.pi * way / PAN_PERIOD + phase[0])
        lean = 0.15 * np.sin(2 * np.pi * way / (1.3 * PAN_PERIOD) + phase[1])
        target = (np.clip(x, 0.0, row) + sway, lean, TABLE_HEIGHT + 0.05)
        return look_at(np.array([x, y, EYE_HEIGHT]), np.array(target))
    return T_world_camera


def lane_at(way: float, row: float) -> tuple[float, float]:
    """Returns where (x, y) the robot is after `way` metres beside a row of tables `row` long."""
    turn = np.pi * LANE
    if way < row:
        return way, -LANE
    if way < row + turn:
        angle = (way - row) / LANE
        return row + LANE * float(np.sin(angle)), -LANE * float(np.cos(angle))
    return row - (way - row - turn), LANE

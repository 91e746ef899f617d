# SPDX-License-Identifier: Apache-2.0
"""An apartment drawn from a seed, with a table and a shelf in each room, and a robot that drives.

World axes: z up, metres (simulation/floor_plan.py). There is no ceiling, which the camera never
looks up to, so that one lamp high above lights all of it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.simulation.corridor import EYE_HEIGHT, PAN_PERIOD, PAN_REACH
from lerf_ros.simulation.floor_plan import (
    HALLWAY_WIDTH,
    FloorPlan,
    Room,
    draw_floor_plan,
    side_of,
)
from lerf_ros.simulation.meshes import joined, rounded_box
from lerf_ros.simulation.models import Kind, Part, pose
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.room import (
    TABLE_HEIGHT,
    TABLE_SIZE,
    baked,
    planks,
    plaster,
    quad,
    table_parts,
    tiles,
)
from lerf_ros.simulation.scene import (
    Light,
    LitPlane,
    SceneObject,
    TabletopScene,
    fitted,
    moved,
    placed,
)
from lerf_ros.simulation.trajectory import look_at

SHELF_SIZE = (1.1, 0.32)        # metres along the wall, and from it
BOARDS = (0.5, 0.95)            # heights of what things stand on, metres; the upper one is open
ON_BOARD = (0.36, 0.28, 0.36)   # width, depth, height that a thing on a shelf has at most, metres
ON_SHELF = 3                    # things on a shelf, at most
IN_ROOM = 10                    # things in a room
LANE = 0.65                     # metres from a table to the robot's path around it
PITCH_TARGET = 0.75             # metres above the floor that the camera looks at
LAMP_HEIGHT = 60.0              # metres


@dataclass(frozen=True)
class Apartment:
    """Rooms with things in them. rooms_of: the room of each of the scene's objects."""

    scene: TabletopScene
    plan: FloorPlan
    rooms_of: tuple[int, ...]


def apartment(seed: int, rooms: int, catalogue: Sequence[Kind] = CATALOGUE) -> Apartment:
    """Draws the apartment of this seed with ten objects in each room.

    No kind of object is in a room twice, and none is in another room again before all others are
    somewhere. Raises LerfError as draw_floor_plan, and where they do not fit.
    """
    rng = np.random.default_rng([seed, 27])
    plan = draw_floor_plan(rng, rooms)
    objects: list[SceneObject] = []
    rooms_of: list[int] = []
    for k, (room, kinds) in enumerate(zip(
            plan.rooms, dealt(rng, rooms, catalogue), strict=True)):
        things = furnished(rng, room, kinds)
        objects += things
        rooms_of += [k] * len(things)
    parts, names = building_parts(rng, plan)
    scene = TabletopScene(seed, tuple(objects), parts, lamp(plan), names, lit_planes(plan))
    return Apartment(scene, plan, tuple(rooms_of))


def dealt(rng: np.random.Generator, rooms: int, catalogue: Sequence[Kind]) -> list[list[Kind]]:
    """Deals IN_ROOM different kinds to each room, from as many shuffled catalogues as it takes."""
    deck: list[int] = []
    hands = []
    for _ in range(rooms):
        if len(deck) < IN_ROOM:
            left = set(deck)
            # What is left comes first, and not to the same room again.
            fresh = rng.permutation(len(catalogue)).tolist()
            deck += [k for k in fresh if k not in left] + [k for k in fresh if k in left]
        hands.append([catalogue[k] for k in deck[:IN_ROOM]])
        deck = deck[IN_ROOM:]
    return hands


def table_place(room: Room) -> np.ndarray:
    """Returns where the middle of a room's table is on the floor of the world, (3,)."""
    return room.to_world(room.middle, table_depth(room))


def table_depth(room: Room) -> float:
    """Returns the y of the middle of a room's table, in the room's frame; metres."""
    return room.depth / 2 - 0.25


def shelf_place(room: Room) -> np.ndarray:
    """Returns where the middle of a room's shelf is on the floor of the world, (3,)."""
    return room.to_world(room.middle, room.depth - SHELF_SIZE[1] / 2 - 0.01)


def furnished(rng: np.random.Generator, room: Room, kinds: Sequence[Kind]) -> list[SceneObject]:
    """Returns objects of these kinds in a room: the first that fit on its shelf, then its table."""
    models = [(kind, kind.build(rng)) for kind in kinds]
    small = [pair for pair in models if fits_on_board(placed(*pair, np.eye(4)))][:ON_SHELF]
    x, y, _ = shelf_place(room)
    out = []
    for k, (kind, model) in enumerate(small):
        # From the left below, alone above.
        at = (-0.26, 0.26, rng.uniform(-0.25, 0.25))[k]
        out.append(placed(kind, model, pose(x + at, y, BOARDS[k // 2])))
    on_table = [pair for pair in models if pair not in small]
    offset = tuple(float(v) for v in table_place(room))
    return [*out, *(moved(thing, (offset[0], offset[1], 0.0))
                    for thing in fitted(rng, on_table))]


def fits_on_board(thing: SceneObject) -> bool:
    """Returns whether an object fits between the boards of a shelf."""
    return bool((thing.box_max - thing.box_min <= np.array(ON_BOARD)).all())


def shelf_parts(rng: np.random.Generator) -> Part:
    """Returns a shelf whose back stands at the wall, as one part about the origin."""
    width, depth = SHELF_SIZE
    thick, top = 0.025, BOARDS[-1]
    boards = [rounded_box((width, depth, thick), 0.003).moved((0, 0, height - thick / 2))
              for height in (0.1, *BOARDS)]
    sides = [rounded_box((thick, depth, top - thick), 0.003).moved(
        (side * (width - thick) / 2, 0, (top - thick) / 2)) for side in (-1, 1)]
    return Part(joined([*boards, *sides]), planks(rng), 0.05)


def building_parts(rng: np.random.Generator,
                   plan: FloorPlan) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Returns floor, walls, tables and shelves, and the name of each part."""
    length, half = plan.length, plan.half_width
    floor = quad((-length / 2, -half, 0), (length, 0, 0), (0, 2 * half, 0))
    parts = [Part(floor, baked(tiles(rng), (length / 2, half), 0.02), 0.05, pose(length / 2)),
             Part(plan.walls(), plaster(rng))]
    names = ['floor', 'wall']
    for room in plan.rooms:
        T, T_shelf = pose(*table_place(room)), pose(*shelf_place(room))
        parts += [*(part.placed(T) for part in table_parts(rng)), shelf_parts(rng).placed(T_shelf)]
        names += ['table', 'table', 'shelf']
    return tuple(parts), tuple(names)


def lit_planes(plan: FloorPlan) -> tuple[LitPlane, ...]:
    """Returns the floor and the table tops."""
    half = (TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2)
    return (LitPlane((0,), 0.0, (plan.length / 2, 0.0), (plan.length / 2, plan.half_width), 0.1),
            *(LitPlane((2 + 3 * k,), TABLE_HEIGHT, (float(x), float(y)), half, 0.01)
              for k, (x, y, _) in enumerate(map(table_place, plan.rooms))))


def lamp(plan: FloorPlan) -> Light:
    """Returns a lamp so high that it lights all rooms from nearly the same direction."""
    return Light(np.array([plan.length / 2 + 0.2 * LAMP_HEIGHT, -0.15 * LAMP_HEIGHT, LAMP_HEIGHT]),
                 2.5, np.array([0.74, 0.73, 0.71]), np.array([0.5, 0.51, 0.53]))


@dataclass(frozen=True)
class Route:
    """Where the robot drives, and what its camera looks at.

    ways: metres driven until each of N corners. eyes, targets: (N, 3), world; between two corners
    both go along straight lines.
    """

    ways: np.ndarray
    eyes: np.ndarray
    targets: np.ndarray

    @property
    def length(self) -> float:
        """The length of the route, metres."""
        return float(self.ways[-1])

    def at(self, way: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns eye and target (3,) after so many metres."""
        return (np.array([np.interp(way, self.ways, column) for column in self.eyes.T]),
                np.array([np.interp(way, self.ways, column) for column in self.targets.T]))


def route(plan: FloorPlan) -> Route:
    """Returns the robot's way through all rooms: in, around the table, past the shelf, and out."""
    corners: list[tuple[np.ndarray, np.ndarray]] = []
    for room in sorted(plan.rooms, key=lambda room: (room.T_world_room[0, 3], side_of(room))):
        corners += room_corners(room)
    eyes, targets = (np.stack(column) for column in zip(*corners, strict=True))
    eyes[:, 2] = EYE_HEIGHT
    steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
    kept = np.concatenate([[True], steps > 1e-6])       # two doors face each other
    ways = np.concatenate([[0.0], np.cumsum(steps)])
    return Route(ways[kept], eyes[kept], targets[kept])


def room_corners(room: Room) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns eye (its height is not set) and target (3,) at each corner of the way in a room."""
    cx, cy = room.middle, table_depth(room)
    a, b = TABLE_SIZE[0] / 2 + LANE, TABLE_SIZE[1] / 2 + LANE
    table, shelf = (cx, cy), room.depth - SHELF_SIZE[1] / 2
    entry = float(np.clip(0.0, cx - a, cx + a))
    ahead = -HALLWAY_WIDTH / 2
    way = [((0.0, ahead), (0.0, 1.2)), ((0.0, 0.1), table), ((entry, cy - b), table),
           ((cx + a, cy - b), table), ((cx + a, cy + b), table), ((cx + 0.8 * a, cy + b),
                                                                 (cx + 0.4, shelf)),
           ((cx - 0.8 * a, cy + b), (cx - 0.4, shelf)), ((cx - a, cy + b), table),
           ((cx - a, cy - b), table), ((entry, cy - b), table), ((0.0, 0.1), (0.0, ahead - 0.6)),
           ((0.0, ahead), (1.5, ahead))]
    return [(room.to_world(*eye), room.to_world(*target, PITCH_TARGET)) for eye, target in way]


def driving_path(seed: int, plan: FloorPlan) -> Callable[[float], np.ndarray]:
    """Returns T_world_camera (4, 4), OpenCV axes, as a function of the metres driven from 0.

    Its head sways to both sides of what it looks at.
    """
    rng = np.random.default_rng([seed, 28])
    phase, along = rng.uniform(0, 2 * np.pi, 2), route(plan)

    def T_world_camera(way: float) -> np.ndarray:
        eye, target = along.at(way)
        ahead = target - eye
        across = np.array([-ahead[1], ahead[0], 0.0]) / max(np.linalg.norm(ahead[:2]), 1e-6)
        sway = 0.7 * PAN_REACH * np.sin(2 * np.pi * way / PAN_PERIOD + phase[0])
        nod = 0.1 * np.sin(2 * np.pi * way / (1.3 * PAN_PERIOD) + phase[1])
        return look_at(eye, target + sway * across + np.array([0.0, 0.0, nod]))
    return T_world_camera

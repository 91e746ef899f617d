# SPDX-License-Identifier: Apache-2.0
"""A floor plan drawn from a seed: rooms on both sides of a hallway, each with a door to it.

World axes: z up, metres; the hallway begins at the origin and goes along x. The frame of a room has
its origin on the floor in the middle of its door, and y points into the room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.simulation.meshes import Mesh, joined, rotation
from lerf_ros.simulation.models import pose
from lerf_ros.simulation.room import ROOM_HEIGHT, quad

HALLWAY_WIDTH = 1.6
ROOM_WIDTH, ROOM_DEPTH = (3.6, 4.4), (3.8, 4.4)     # least and most, metres
DOOR_WIDTH, DOOR_HEIGHT = 0.95, 2.05
DOOR_TO_WALL = 0.35     # metres between a door and the next wall, at least
MOST_ROOMS = 60


@dataclass(frozen=True)
class Room:
    """A room with straight walls.

    T_world_room (4, 4): of the frame above. left, right, depth: metres from the door to the walls
    at its sides, in -x and +x of that frame, and to the wall opposite.
    """

    T_world_room: np.ndarray
    left: float
    right: float
    depth: float

    @property
    def middle(self) -> float:
        """The x of the middle of the room in its own frame."""
        return (self.right - self.left) / 2

    @property
    def area_m2(self) -> float:
        """The area of its floor, square metres."""
        return (self.left + self.right) * self.depth

    def to_world(self, x: float, y: float, z: float = 0.0) -> np.ndarray:
        """Returns a point of the room's frame in the world, (3,)."""
        return self.T_world_room[:3, :3] @ np.array([x, y, z]) + self.T_world_room[:3, 3]


@dataclass(frozen=True)
class FloorPlan:
    """Rooms and the length of their hallway, metres."""

    rooms: tuple[Room, ...]
    length: float

    @property
    def area_m2(self) -> float:
        """The area of all floors, square metres."""
        return self.length * HALLWAY_WIDTH + sum(room.area_m2 for room in self.rooms)

    @property
    def half_width(self) -> float:
        """Metres from the middle of the hallway to the outermost wall."""
        return HALLWAY_WIDTH / 2 + max(room.depth for room in self.rooms)

    def walls(self) -> Mesh:
        """Returns all walls, with openings for the doors."""
        ends = [vertical((x, -HALLWAY_WIDTH / 2), (x, HALLWAY_WIDTH / 2))
                for x in (0.0, self.length)]
        sides = [vertical((x, y), (self.length, y)) for side in (1, -1)
                 if (x := self._end(side)) < self.length - 1e-6
                 for y in [side * HALLWAY_WIDTH / 2]]
        return joined([*ends, *sides, *(wall for room in self.rooms for wall in room_walls(room))])

    def _end(self, side: int) -> float:
        """Returns where the rooms on one side of the hallway, 1 or -1, end along x."""
        return max((room.to_world(side * room.right if side > 0 else -room.left, 0)[0]
                    for room in self.rooms if side_of(room) == side), default=0.0)


def side_of(room: Room) -> int:
    """Returns on which side of the hallway a room is: 1 for +y, -1 for -y."""
    return 1 if room.T_world_room[1, 3] > 0 else -1


def draw_floor_plan(rng: np.random.Generator, rooms: int) -> FloorPlan:
    """Draws so many rooms, in turn on one and on the other side of the hallway.

    Raises LerfError for more than 60, or none.
    """
    if not 1 <= rooms <= MOST_ROOMS:
        raise LerfError(f'{rooms} rooms: 1 to {MOST_ROOMS} are drawn')
    ends, drawn = {1: 0.0, -1: 0.0}, []
    for k in range(rooms):
        side = 1 if k % 2 == 0 else -1
        width, depth = rng.uniform(*ROOM_WIDTH), rng.uniform(*ROOM_DEPTH)
        least = DOOR_WIDTH / 2 + DOOR_TO_WALL
        door = rng.uniform(least, width - least)        # from the wall that is nearer to x = 0
        T = pose(ends[side] + door, side * HALLWAY_WIDTH / 2,
                 rotation=rotation('z', 0 if side > 0 else 180))
        left, right = (door, width - door) if side > 0 else (width - door, door)
        drawn.append(Room(T, left, right, depth))
        ends[side] += width
    return FloorPlan(tuple(drawn), max(ends.values()))


def room_walls(room: Room) -> list[Mesh]:
    """Returns the walls of a room; the one towards the hallway has a door."""
    half = DOOR_WIDTH / 2
    corners = [(-half, 0.0), (-room.left, 0.0), (-room.left, room.depth),
               (room.right, room.depth), (room.right, 0.0), (half, 0.0)]
    world = [tuple(room.to_world(*corner)[:2]) for corner in corners]
    walls = [vertical(a, b) for a, b in zip(world[:-1], world[1:], strict=True)]
    return [*walls, vertical(world[-1], world[0], DOOR_HEIGHT)]


def vertical(start: tuple[float, ...], end: tuple[float, ...], bottom: float = 0.0) -> Mesh:
    """Returns a wall between two points (x, y), from a height to that of the room."""
    (x0, y0), (x1, y1) = start, end
    return quad((x0, y0, bottom), (x1 - x0, y1 - y0, 0), (0, 0, ROOM_HEIGHT - bottom))

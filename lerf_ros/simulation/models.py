# SPDX-License-Identifier: Apache-2.0
"""What an object consists of: parts, models and kinds of models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.geometry.camera import transform_points
from lerf_ros.simulation.meshes import Mesh
from lerf_ros.simulation.textures import Color


@dataclass(frozen=True)
class Part:
    """One mesh of one material.

    color: sRGB of points (N, 3) in the part's own coordinates.
    gloss: 0 matt to 1 lacquered.
    T_world_part: (4, 4); from the part to the object until the object is placed in the world.
    """

    mesh: Mesh
    color: Color
    gloss: float = 0.0
    T_world_part: np.ndarray | None = None

    def placed(self, T: np.ndarray) -> Part:
        """Returns the part after a further rigid transform (4, 4)."""
        return replace(self, T_world_part=T @ self.transform())

    def transform(self) -> np.ndarray:
        """Returns `T_world_part`, or the identity where it is None."""
        return np.eye(4) if self.T_world_part is None else self.T_world_part

    def world_vertices(self) -> np.ndarray:
        """Returns the vertices (V, 3) after the transform."""
        return transform_points(self.transform(), self.mesh.vertices)


@dataclass(frozen=True)
class Model:
    """An object that stands on z = 0 about the origin. name: may include colour or material."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Kind:
    """A type of object.

    query: the phrase that one would type to find it. group: the offline encoder easily confuses
    kinds of one group, so a scene holds at most one of them.
    """

    query: str
    group: str
    build: Callable[[np.random.Generator], Model]


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0,
         rotation: np.ndarray | None = None) -> np.ndarray:
    """Returns the rigid transform (4, 4) of an offset in metres and a rotation matrix (3, 3)."""
    T = np.eye(4)
    T[:3, 3] = x, y, z
    if rotation is not None:
        T[:3, :3] = rotation
    return T


def standing(name: str, *parts: Part) -> Model:
    """Returns a model whose lowest point is at z = 0 and whose box is centred in x and y."""
    vertices = np.concatenate([p.world_vertices() for p in parts])
    low, high = vertices.min(0), vertices.max(0)
    middle = (low + high) / 2
    T = pose(-middle[0], -middle[1], -low[2])
    return Model(name, tuple(p.placed(T) for p in parts))


def resized(model: Model, factor: float) -> Model:
    """Returns the model scaled about its origin, with its pattern."""
    def stretched(color: Color) -> Color:
        return lambda points: color(points / np.float32(factor))
    parts = []
    for part in model.parts:
        T = part.transform().copy()
        T[:3, 3] *= factor
        parts.append(Part(part.mesh.scaled(factor), stretched(part.color), part.gloss, T))
    return Model(model.name, tuple(parts))


def recoloured(model: Model, name: str, parts: Collection[int], color: Color) -> Model:
    """Returns the model with another name, and some parts, by index, in another colour."""
    return Model(name, tuple(replace(part, color=color) if k in parts else part
                             for k, part in enumerate(model.parts)))

# SPDX-License-Identifier: Apache-2.0
"""Decomposes simulated objects into convex pieces for a physics engine.

A part whose pieces are convex is taken as they are, any other is decomposed by CoACD, once: the
result is kept by the hash of its mesh.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open3d  # noqa: F401 - before coacd: the other way round the simulation cannot load it
import trimesh

from lerf_ros.simulation.models import Part
from lerf_ros.simulation.scene import SceneObject

CONVEX = 0.95          # fraction of its hull's volume from which on a piece counts as convex
MANY = 24              # from so many pieces (keys, seeds) on, a part is decomposed as a whole
CONCAVITY = 0.08       # CoACD's threshold
MIN_VOLUME = 1e-8      # m3; smaller volumes are surfaces, such as a drink, and are left out
COACD = {'threshold': CONCAVITY, 'max_convex_hull': 32, 'preprocess_resolution': 30,
         'resolution': 300, 'mcts_iterations': 15, 'mcts_nodes': 8, 'mcts_max_depth': 2}


@dataclass(frozen=True)
class Body:
    """An object as convex pieces, vertices (V, 3) each, metres, about `origin` (3,) in the world.

    volume: of all pieces, m3; what overlaps counts twice.
    """

    name: str
    origin: np.ndarray
    pieces: tuple[np.ndarray, ...]
    volume: float


def body_of(thing: SceneObject, cache: Path) -> Body:
    """Returns the object at its place in the layout."""
    pieces = [piece for part in thing.parts for piece in part_pieces(part, cache)]
    volume = sum(trimesh.convex.convex_hull(piece).volume for piece in pieces)
    return Body(thing.query, thing.center, tuple(p - thing.center for p in pieces), float(volume))


def part_pieces(part: Part, cache: Path) -> list[np.ndarray]:
    """Returns the convex pieces of one part, vertices (V, 3) each in the world."""
    mesh = trimesh.Trimesh(part.mesh.vertices, part.mesh.triangles, process=True)
    key = hashlib.sha256(mesh.vertices.tobytes() + mesh.faces.tobytes() + repr(COACD).encode())
    file = cache / f'{key.hexdigest()[:16]}.npz'
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pieces = convex_pieces(mesh)
        np.savez(file, *pieces)
    with np.load(file) as stored:
        local = [stored[name] for name in stored.files]
    T = part.transform()
    return [piece @ T[:3, :3].T + T[:3, 3] for piece in local]


def convex_pieces(mesh: trimesh.Trimesh) -> list[np.ndarray]:
    """Returns vertices (V, 3) of convex pieces that together have the shape of the mesh."""
    islands = mesh.split(only_watertight=False)
    if len(islands) > MANY and filled(mesh) > 0.6:
        return [mesh.convex_hull.vertices]
    if len(islands) > MANY:
        return decomposed(mesh)
    pieces = []
    for island in islands:
        share = filled(island)
        if share >= CONVEX:
            pieces.append(island.convex_hull.vertices)
        elif share > 0:
            pieces.extend(decomposed(island))
    return [piece for piece in pieces if trimesh.convex.convex_hull(piece).volume > MIN_VOLUME]


def filled(mesh: trimesh.Trimesh) -> float:
    """Returns the volume of the mesh as a fraction of its hull's; 0 for a flat one."""
    if np.linalg.matrix_rank(mesh.vertices - mesh.vertices.mean(0), tol=1e-6) < 3:
        return 0.0
    volume = mesh.convex_hull.volume
    if volume < MIN_VOLUME:
        return 0.0
    return float(abs(mesh.volume) / volume) if mesh.is_watertight else 0.5


def decomposed(mesh: trimesh.Trimesh) -> list[np.ndarray]:
    """Returns CoACD's convex pieces."""
    import coacd
    coacd.set_log_level('error')
    parts = coacd.run_coacd(coacd.Mesh(mesh.vertices, mesh.faces), **COACD)
    return [vertices for vertices, _ in parts]

# SPDX-License-Identifier: Apache-2.0
"""Balls."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.simulation.meshes import sphere
from lerf_ros.simulation.models import Model, Part, standing
from lerf_ros.simulation.textures import Color, f32, mixed, noise, step


def tennis_felt(radius: float) -> Color:
    """Yellow felt with the white seam of a tennis ball."""
    t = np.linspace(0, 2 * np.pi, 400)
    a, b = 0.75, 0.25
    seam = np.stack([a * np.cos(t) + b * np.cos(3 * t), a * np.sin(t) - b * np.sin(3 * t),
                     2 * np.sqrt(a * b) * np.sin(2 * t)], 1) * radius

    tree = cKDTree(seam)

    def color(points: np.ndarray) -> np.ndarray:
        distance, _ = tree.query(points)
        fuzz = 0.88 + 0.24 * noise(points, 0.0016, 3)
        felt = f32([0.80, 0.90, 0.15]) * fuzz[:, None]
        return mixed(felt, f32([[0.93, 0.95, 0.88]]), step(-distance, -0.05 * radius,
                                                           0.03 * radius))
    return color


def tennis_ball(rng: np.random.Generator) -> Model:
    """A tennis ball, of the larger kind that is sold as a toy."""
    r = rng.uniform(0.055, 0.065)
    ball = sphere(r).turned('x', rng.uniform(0, 360)).turned('z', rng.uniform(0, 360))
    return standing('tennis ball', Part(ball, tennis_felt(r)))


def icosahedron() -> np.ndarray:
    """The 12 unit vertices (12, 3) of an icosahedron."""
    g = (1 + 5 ** 0.5) / 2
    corners = [(0, s, t * g) for s in (-1, 1) for t in (-1, 1)]
    points = np.array([np.roll(c, k) for c in corners for k in range(3)], float)
    return points / np.linalg.norm(points[0])


def soccer_leather(points: np.ndarray) -> np.ndarray:
    """Black pentagons and white hexagons with grey seams, on a sphere of any size."""
    corners = icosahedron()
    near = corners @ corners.T > 0.4
    faces = [corners[[i, j, k]].mean(0) for i in range(12) for j in range(i) for k in range(j)
             if near[i, j] and near[i, k] and near[j, k]]
    hexagons = np.array(faces) / np.linalg.norm(faces[0])
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    # The two numbers in `black` make pentagon and hexagon meet where a ball's seams are.
    five = np.sort(unit @ f32(corners).T, 1)[:, -1]
    six = np.sort(unit @ f32(hexagons).T, 1)
    black = step(five - 1.0092 * six[:, -1] + 0.028, 0.0, 0.008)
    seam = step(-(six[:, -1] - six[:, -2]), -0.012, 0.008)
    color = mixed(f32([[0.93, 0.93, 0.92]]), f32([[0.35, 0.35, 0.36]]), seam)
    return mixed(color, f32([[0.03, 0.03, 0.035]]), black)


def soccer_ball(rng: np.random.Generator) -> Model:
    """A soccer ball of black and white leather."""
    ball = sphere(rng.uniform(0.08, 0.1), 40, 64)
    return standing('soccer ball', Part(ball.turned('x', rng.uniform(0, 360)), soccer_leather,
                                        0.25))


def basketball_rubber(points: np.ndarray) -> np.ndarray:
    """Orange with the black seams of a basketball, on a sphere of any size."""
    x, y, z = (points / np.linalg.norm(points, axis=1, keepdims=True)).T
    curve = np.abs(np.abs(x) - 0.58 - 0.16 * (z * z - y * y))
    line = np.minimum(np.minimum(np.abs(y), np.abs(z)), curve)
    grain = 0.85 + 0.25 * noise(points, 0.0025, 8)
    orange = f32([0.80, 0.36, 0.11]) * grain[:, None]
    return mixed(orange, f32([[0.05, 0.04, 0.04]]), step(-line, -0.022, 0.012))


def basketball(rng: np.random.Generator) -> Model:
    """A basketball."""
    ball = sphere(rng.uniform(0.085, 0.105), 40, 64).turned('x', rng.uniform(0, 360))
    return standing('basketball', Part(ball.turned('y', rng.uniform(0, 360)), basketball_rubber,
                                       0.15))

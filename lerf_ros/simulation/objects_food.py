# SPDX-License-Identifier: Apache-2.0
"""Fruit and other food."""

from __future__ import annotations

import numpy as np

from lerf_ros.simulation.meshes import (
    Mesh,
    arc,
    cylinder,
    joined,
    lathe,
    rotation,
    smooth_profile,
    tube,
)
from lerf_ros.simulation.models import Model, Part, pose, standing
from lerf_ros.simulation.textures import Color, f32, mixed, mottled, noise, solid, step


def banana_peel(ends: np.ndarray) -> Color:
    """Yellow with brown specks, darker towards the two ends (2, 3)."""
    def color(points: np.ndarray) -> np.ndarray:
        near = np.minimum(*(np.linalg.norm(points - e, axis=1) for e in ends))
        base = f32([0.95, 0.80, 0.18]) * (0.92 + 0.12 * noise(points, 0.02))[:, None]
        base = mixed(base, f32([[0.62, 0.66, 0.2]]), 0.7 * step(-near, -0.03, 0.03))
        base = mixed(base, f32([[0.25, 0.16, 0.07]]), step(-near, -0.012, 0.01))
        return mixed(base, f32([[0.4, 0.25, 0.1]]),
                     0.8 * step(noise(points, 0.006, 5), 0.86, 0.05))
    return color


def banana_mesh(size: float) -> tuple:
    """One banana in the xy plane, and its two ends (2, 3)."""
    path = arc(size, 20, 150, 40, 'xy')
    t = np.linspace(0, 1, 40)
    radius = size * 0.17 * np.minimum(1, np.minimum((t + 0.08) * 5, (1.05 - t) * 4)) ** 0.7
    radius[-5:] = size * 0.045
    return tube(path, radius, sides=10), path[[0, -1]]


def banana(rng: np.random.Generator) -> Model:
    """A banana lying on its side."""
    mesh, ends = banana_mesh(rng.uniform(0.1, 0.115))
    return standing('banana', Part(mesh, banana_peel(ends), 0.25))


def pineapple(rng: np.random.Generator) -> Model:
    """A pineapple standing upright with its crown of leaves."""
    r, h = rng.uniform(0.048, 0.055), rng.uniform(0.12, 0.14)
    body = lathe(smooth_profile([(0, 0), (0.7 * r, 0.004), (r, 0.3 * h), (0.97 * r, 0.65 * h),
                                 (0.6 * r, 0.97 * h), (0, h)], 60), 96)
    v = body.vertices
    angle, z = np.arctan2(v[:, 1], v[:, 0]), v[:, 2] / h

    def diamonds(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        a, b = 8 * angle / (2 * np.pi) + 6 * z, 8 * angle / (2 * np.pi) - 6 * z
        return np.maximum(np.abs(a - np.round(a)), np.abs(b - np.round(b))) * 2
    bump = 1 - 0.09 * diamonds(angle, z) ** 2
    body = Mesh(v * np.stack([bump, bump, np.ones_like(bump)], 1), body.triangles)

    def color(points: np.ndarray) -> np.ndarray:
        d = diamonds(np.arctan2(points[:, 1], points[:, 0]), points[:, 2] / h)
        rind = mixed(f32([[0.85, 0.58, 0.15]]), f32([[0.33, 0.25, 0.08]]), step(d, 0.78, 0.3))
        rind = mixed(rind, f32([[0.35, 0.2, 0.08]]), step(-d, -0.22, 0.1))
        return rind * (0.85 + 0.3 * noise(points, 0.01))[:, None]
    leaves = []
    for k in range(36):
        lean = 70 * (1 - k / 36) + 4
        size = h * (0.5 + 0.35 * k / 36)
        t = np.linspace(0, 1, 8)
        tilt = np.radians(lean) * (0.4 + 0.9 * t)
        path = np.stack([np.cumsum(np.sin(tilt)), 0 * t, np.cumsum(np.cos(tilt))], 1) * size / 8
        leaf = tube(path, 0.009 * (1 - t) ** 0.6 + 0.0004, 6)
        leaves.append(leaf.turned('z', 137.5 * k).moved((0, 0, 0.95 * h)))
    green = mottled((0.20, 0.38, 0.13), (0.42, 0.55, 0.25), 0.02)
    return standing('pineapple', Part(body, color, 0.15), Part(joined(leaves), green, 0.15))


def pretzel(rng: np.random.Generator) -> Model:
    """A soft pretzel with salt."""
    s = rng.uniform(0.085, 0.1)
    knots = np.array([(-0.35, -0.72), (-0.1, -0.45), (0.22, -0.02), (0.62, 0.35), (0.85, 0.1),
                      (0.8, -0.3), (0.45, -0.65), (0, -0.8), (-0.45, -0.65), (-0.8, -0.3),
                      (-0.85, 0.1), (-0.62, 0.35), (-0.22, -0.02), (0.1, -0.45), (0.35, -0.72)])
    knots[0], knots[-1] = (-0.48, -0.62), (0.48, -0.62)
    from scipy.interpolate import CubicSpline
    t = np.linspace(0, 1, len(knots))
    u = np.linspace(0, 1, 120)
    xy = CubicSpline(t, knots)(u)
    z = 0.1 * np.where(np.abs(u - 0.5) > 0.42, 1.0, 0) + 0.12 * np.cos(2 * np.pi * u)
    z += 0.07 * np.sin(6 * np.pi * u)
    radius = (0.10 + 0.06 * np.sin(np.pi * u) ** 2) * s
    mesh = tube(np.column_stack([xy, z]) * s, radius, 16)

    def color(points: np.ndarray) -> np.ndarray:
        crust = mixed(f32([[0.50, 0.22, 0.06]]), f32([[0.72, 0.40, 0.14]]), noise(points, 0.02))
        salt = step(noise(points, 0.0035, 7), 0.80, 0.04) * (points[:, 2] > 0.05 * s)
        return mixed(crust, f32([[0.96, 0.94, 0.9]]), salt)
    return standing('pretzel', Part(mesh, color, 0.4))


def bagel(rng: np.random.Generator) -> Model:
    """A bagel with seeds."""
    s = rng.uniform(0.9, 1.1)
    ring = tube(arc(0.038 * s, 0, 360, 61, 'xy')[:-1], 0.024 * s, 28, closed=True)

    def color(points: np.ndarray) -> np.ndarray:
        crust = mixed(f32([[0.66, 0.38, 0.14]]), f32([[0.84, 0.60, 0.30]]),
                      0.7 * noise(points, 0.025) + 0.5 * step(-points[:, 2], -0.004, 0.02))
        seeds = step(noise(points, 0.0035, 3), 0.80, 0.05) * (points[:, 2] > 0.003)
        return mixed(crust, f32([[0.95, 0.9, 0.75]]), seeds)
    return standing('bagel', Part(ring, color, 0.4))


def pizza(rng: np.random.Generator) -> Model:
    """A small pizza with salami."""
    r = rng.uniform(0.10, 0.12)
    crust = tube(arc(r * 0.93, 0, 360, 81, 'xy')[:-1] + (0, 0, 0.008), 0.0095, 14, closed=True)
    base = cylinder(r * 0.94, 0.001, 0.010, 64)
    slices = rng.uniform(-0.7, 0.7, (200, 2)) * r
    kept: list[np.ndarray] = []
    for spot in slices:
        if np.hypot(*spot) < 0.75 * r and all(np.hypot(*(spot - k)) > 0.38 * r for k in kept):
            kept.append(spot)

    def color(points: np.ndarray) -> np.ndarray:
        sauce = mixed(f32([[0.93, 0.74, 0.36]]), f32([[0.75, 0.20, 0.07]]),
                      step(noise(points, 0.014, 1), 0.62, 0.2))
        return mixed(sauce, f32([[0.97, 0.90, 0.66]]),
                     0.8 * step(noise(points, 0.009, 4), 0.6, 0.15))
    meat = [cylinder(0.15 * r, 0.010, 0.0125, 24).moved((*spot, 0)) for spot in kept]
    salami = mottled((0.60, 0.10, 0.07), (0.78, 0.28, 0.18), 0.004)
    dough = mottled((0.80, 0.58, 0.30), (0.62, 0.36, 0.14), 0.02)
    return standing('pizza', Part(crust, dough, 0.1), Part(base, color, 0.3),
                    Part(joined(meat), salami, 0.3))


def bell_pepper(rng: np.random.Generator) -> Model:
    """A bell pepper: four lobes and a green stalk."""
    s = rng.uniform(0.055, 0.065)
    name = str(rng.choice(['red', 'yellow', 'green']))
    tint = {'red': (0.78, 0.06, 0.04), 'yellow': (0.95, 0.72, 0.06), 'green': (0.2, 0.5, 0.1)}[name]
    body = lathe(smooth_profile([(0, -0.85 * s), (0.3 * s, -0.95 * s), (0.62 * s, -0.8 * s),
                                 (0.8 * s, 0), (0.95 * s, 0.6 * s), (0.75 * s, 0.95 * s),
                                 (0.35 * s, 0.98 * s), (0, 0.8 * s)], 40), 96)
    v = body.vertices
    lobes = 1 - 0.16 * np.abs(np.cos(2 * np.arctan2(v[:, 1], v[:, 0]))) ** 5
    body = Mesh(v * np.stack([lobes, lobes, np.ones_like(lobes)], 1), body.triangles)
    stalk = tube(np.array([[0, 0, 0.75], [0, 0, 1.1], [0.12, 0, 1.4]]) * s,
                 np.array([0.2, 0.11, 0.12]) * s, 10)
    return standing(f'{name} bell pepper', Part(body, solid(tint), 0.9),
                    Part(stalk, solid((0.3, 0.5, 0.15)), 0.2))


def corn(rng: np.random.Generator) -> Model:
    """A corn cob lying on its side."""
    r, h = rng.uniform(0.025, 0.028), rng.uniform(0.17, 0.2)
    body = lathe(smooth_profile([(0, 0), (0.85 * r, 0.01), (r, 0.3 * h), (0.85 * r, 0.75 * h),
                                 (0.4 * r, 0.97 * h), (0, h)], 120), 112)
    v = body.vertices

    def kernel(p: np.ndarray) -> np.ndarray:
        a = np.arctan2(p[:, 1], p[:, 0]) * 14 / (2 * np.pi)
        b = p[:, 2] / 0.0075 + 0.5 * (np.floor(a) % 2)
        return np.maximum(np.abs(a - np.floor(a) - 0.5), np.abs(b - np.floor(b) - 0.5)) * 2
    bump = 1.03 - 0.12 * kernel(v) ** 3
    body = Mesh(v * np.stack([bump, bump, np.ones_like(bump)], 1), body.triangles)

    def color(points: np.ndarray) -> np.ndarray:
        grain = mixed(f32([[0.98, 0.80, 0.22]]), f32([[0.93, 0.66, 0.12]]), noise(points, 0.01))
        return mixed(grain, f32([[0.62, 0.42, 0.08]]), 0.8 * step(kernel(points), 0.85, 0.2))
    husk = []
    for k in range(5):
        t = np.linspace(0, 1, 12)
        path = np.stack([(0.9 + 0.45 * t) * r, 0 * t, 0.6 * h * t - 0.01], 1)
        leaf = tube(path, 0.018 * np.sin(np.pi * (0.25 + 0.72 * t)), 8)
        husk.append(leaf.scaled((0.85, 1, 1)).turned('z', 180 + 45 * (k - 2)))
    husk.append(cylinder(0.008, -0.03, 0.01, 10))
    T = pose(rotation=rotation('y', 90))
    return standing('corn', Part(body, color, 0.4, T),
                    Part(joined(husk), mottled((0.5, 0.65, 0.25), (0.68, 0.76, 0.4), 0.01), 0.0, T))

# SPDX-License-Identifier: Apache-2.0
"""Toys, balls and instruments."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.simulation.meshes import (
    Mesh,
    arc,
    cylinder,
    grid,
    joined,
    lathe,
    prism,
    rounded_box,
    sphere,
    tube,
)
from lerf_ros.simulation.models import Model, Part, standing
from lerf_ros.simulation.textures import Color, f32, mixed, mottled, noise, solid, step, wood


def teddy_bear(rng: np.random.Generator) -> Model:
    """Builds a sitting teddy bear."""
    s = rng.uniform(0.9, 1.1)
    tone = f32([(0.55, 0.34, 0.16), (0.70, 0.50, 0.28), (0.42, 0.25, 0.13)][rng.integers(3)])
    fur = mottled(tone * 0.7, tone * 1.2, 0.004, 4)
    pale = mottled(tone * 1.25, np.minimum(tone * 1.6, 1), 0.004, 6)

    def ball(radius: tuple, centre: tuple) -> Mesh:
        return sphere(1.0, 20, 28).scaled(radius).moved(centre).scaled(s)
    body = [ball((0.062, 0.055, 0.07), (0, 0, 0.075)), ball((0.056, 0.052, 0.05), (0, 0.0, 0.18))]
    for side in (-1, 1):
        body += [ball((0.022, 0.012, 0.022), (side * 0.042, 0, 0.222)),
                 ball((0.022, 0.026, 0.045), (side * 0.067, -0.02, 0.1)),
                 ball((0.03, 0.055, 0.03), (side * 0.05, -0.07, 0.03))]
    snout = [ball((0.027, 0.022, 0.02), (0, -0.047, 0.17)), ball((0.04, 0.02, 0.045),
                                                                  (0, -0.042, 0.08))]
    snout += [ball((0.021, 0.008, 0.021), (x * 0.05, -0.121, 0.032)) for x in (-1, 1)]
    dark = [ball((0.010, 0.008, 0.007), (0, -0.068, 0.178))]
    dark += [ball((0.007, 0.006, 0.007), (x * 0.021, -0.046, 0.195)) for x in (-1, 1)]
    return standing('teddy bear', Part(joined(body), fur), Part(joined(snout), pale),
                    Part(joined(dark), solid((0.03, 0.02, 0.02)), 0.7))


def traffic_light(rng: np.random.Generator) -> Model:
    """Builds a toy traffic light with three lamps on each of its four sides."""
    s = rng.uniform(0.95, 1.1)
    case = rounded_box((0.07 * s, 0.07 * s, 0.19 * s), 0.006, 3).moved((0, 0, 0.19 * s))
    stand = joined([cylinder(0.012 * s, 0, 0.1 * s), cylinder(0.05 * s, 0, 0.012 * s)])
    parts = [Part(case, solid((0.06, 0.07, 0.06)), 0.3), Part(stand, solid((0.2, 0.2, 0.2)), 0.3)]
    lamps = ((0.245, (1.0, 0.08, 0.05)), (0.19, (1.0, 0.72, 0.05)), (0.135, (0.1, 0.85, 0.3)))
    for height, tint in lamps:
        discs, hoods = [], []
        for side in range(4):
            lamp = cylinder(0.022 * s, 0, 0.004).turned('x', 90).moved((0, -0.035 * s, height * s))
            hood = tube(arc(0.025 * s, 10, 170, 16) + (0, -0.043 * s, height * s), 0.003, 6)
            discs.append(lamp.turned('z', 90 * side))
            hoods.append(hood.turned('z', 90 * side))
        parts += [Part(joined(discs), solid(tint), 0.5),
                  Part(joined(hoods), solid((0.04, 0.04, 0.04)))]
    return standing('traffic light', *parts)


def pumpkin_lantern(rng: np.random.Generator) -> Model:
    """Builds a jack-o'-lantern with a carved face on two sides."""
    r = rng.uniform(0.085, 0.1)
    skin = sphere(r, 40, 96)
    v = skin.vertices
    angle = np.arctan2(v[:, 1], v[:, 0])
    ribs = 1 - 0.09 * np.abs(np.cos(5 * angle)) ** 6 * np.sqrt(np.maximum(0, 1 - (v[:, 2] / r)**2))
    v = v * np.stack([ribs, ribs, np.full_like(ribs, 0.85)], 1)

    def color(points: np.ndarray) -> np.ndarray:
        x, y, z = (points / r).T
        x = np.where(y < 0, x, -x)
        tone = 0.9 + 0.2 * noise(points, 0.03, 2)
        peel = mixed(f32([[0.92, 0.45, 0.07]]), f32([[0.70, 0.28, 0.03]]),
                     np.abs(np.cos(5 * np.arctan2(y, x))) ** 8) * tone[:, None]
        eye = np.minimum(z - 0.12, 0.5 - z - 1.8 * np.abs(np.abs(x) - 0.34))
        nose = np.minimum(z + 0.12, 0.08 - z - 1.5 * np.abs(x))
        mouth = 0.12 - np.abs(z + 0.42 - 0.45 * x * x - 0.045 * np.sign(np.sin(16 * x)))
        mouth = np.minimum(mouth, 0.58 - np.abs(x))
        cut = np.maximum(np.maximum(eye, nose), mouth)
        return mixed(peel, f32([[0.10, 0.04, 0.01]]), step(cut, 0, 0.02))
    stem = tube(np.array([[0, 0, 0.7 * r], [0, 0, 0.95 * r], [0.1 * r, 0, 1.15 * r]]),
                np.array([0.2, 0.13, 0.12]) * r, 8)
    mesh = Mesh(v, skin.triangles)
    return standing("jack-o'-lantern", Part(mesh, color, 0.2),
                    Part(stem, solid((0.35, 0.38, 0.15))))


def body_outline(length: float, waist: float) -> np.ndarray:
    """Returns the outline (K, 2) of a guitar or violin body along y."""
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    y = np.cos(t)
    width = np.sqrt(np.maximum(1 - y * y, 0)) * (1 - waist * np.exp(-((y - 0.18) / 0.3) ** 2)
                                                - 0.2 * (y > 0) * y)
    return np.stack([np.sign(np.sin(t)) * width * 0.38, y * 0.5], 1) * length


def guitar(rng: np.random.Generator) -> Model:
    """Builds a small acoustic guitar lying on its back."""
    s = rng.uniform(0.95, 1.1) * 0.19
    tone = f32([(0.80, 0.56, 0.28), (0.72, 0.42, 0.18)][rng.integers(2)])
    outline = body_outline(s, 0.42)
    body = prism(outline, 0, 0.19 * s, 0.004)
    grain = wood(tone, tone * 0.85, 1, 0.008)

    def face(points: np.ndarray) -> np.ndarray:
        d = np.hypot(points[:, 0], points[:, 1] - 0.13 * s)
        up = points[:, 2] > 0.17 * s
        base = mixed(grain(points), f32([[0.25, 0.1, 0.04]]), ~up * 0.9)
        rosette = step(-np.abs(d - 0.155 * s), -0.012 * s, 0.004 * s)
        base = mixed(base, f32([[0.15, 0.08, 0.04]]), up * rosette)
        return mixed(base, f32([[0.04, 0.02, 0.01]]), up * step(-d, -0.125 * s, 0.004))
    neck = rounded_box((0.075 * s, 0.78 * s, 0.05 * s), 0.001).moved((0, 0.62 * s, 0.2 * s))
    head = rounded_box((0.12 * s, 0.2 * s, 0.05 * s), 0.002).moved((0, 1.1 * s, 0.19 * s))
    bridge = rounded_box((0.26 * s, 0.05 * s, 0.03 * s), 0.001).moved((0, -0.25 * s, 0.2 * s))
    strings = joined([tube(np.array([[x * s, -0.25 * s, 0.235 * s], [x * s, 1.05 * s, 0.235 * s]]),
                           0.0005, 4) for x in np.linspace(-0.028, 0.028, 6)])
    pegs = joined([cylinder(0.016 * s, 0, 0.05 * s, 10).turned('y', 90 * x).moved(
        (x * 0.06 * s, y * s, 0.19 * s)) for x in (-1, 1) for y in (1.04, 1.1, 1.16)])
    dark = solid((0.16, 0.08, 0.05))
    return standing('acoustic guitar', Part(body, face, 0.5), Part(neck, dark, 0.2),
                    Part(head, solid(tone * 0.5), 0.4), Part(bridge, dark),
                    Part(strings, solid((0.8, 0.78, 0.7)), 0.3),
                    Part(pegs, solid((0.85, 0.85, 0.85)), 0.6))


def drum(rng: np.random.Generator) -> Model:
    """Builds a snare drum."""
    r, h = rng.uniform(0.09, 0.11), rng.uniform(0.09, 0.11)
    tint = [(0.65, 0.07, 0.08), (0.08, 0.16, 0.5), (0.05, 0.05, 0.06)][rng.integers(3)]
    shell = cylinder(r, 0.004, h - 0.004, 64)
    hoops = joined([lathe([(r - 0.004, z), (r + 0.006, z), (r + 0.006, z + 0.014),
                           (r - 0.004, z + 0.014)], 64) for z in (0, h - 0.012)])
    skin = lathe([(0, h - 0.002), (r - 0.002, h - 0.002)], 64)
    rods = [tube(np.array([[r + 0.007, 0, 0.006], [r + 0.007, 0, h - 0.006]]), 0.003, 8)
            .turned('z', 45 * k) for k in range(8)]
    lugs = [rounded_box((0.012, 0.014, 0.03), 0.003).moved((r + 0.004, 0, h / 2))
            .turned('z', 45 * k) for k in range(8)]
    chrome = solid((0.75, 0.76, 0.78))
    return standing('drum', Part(shell, solid(tint), 0.6), Part(skin, solid((0.93, 0.92, 0.88))),
                    Part(joined([hoops, *rods, *lugs]), chrome, 0.9))


def piggy_bank(rng: np.random.Generator) -> Model:
    """Builds a pink china pig."""
    s = rng.uniform(0.95, 1.1)
    body = [sphere(1, 32, 40).scaled((0.085, 0.065, 0.062)).moved((0, 0, 0.075)),
            lathe([(0, 0), (0.022, 0), (0.024, 0.006), (0.027, 0.03), (0, 0.03)])
            .turned('y', -90).moved((0.105, 0, 0.075))]
    for x in (-1, 1):
        for y in (-1, 1):
            body.append(cylinder(0.016, 0, 0.04, 20).moved((x * 0.045, y * 0.032, 0)))
        ear = cylinder(0.022, 0, 0.035, 4, 0.0).scaled((0.5, 1, 1)).turned('x', -x * 25)
        body.append(ear.moved((0.055, x * 0.032, 0.118)))
    t = np.linspace(0, 1, 30)
    body.append(tube(np.stack([-0.083 - 0.02 * t, 0.01 * np.sin(14 * t),
                               0.085 + 0.01 * np.cos(14 * t)], 1), 0.004, 8))
    dark = [sphere(0.006, 10, 12).moved((0.078, y * 0.025, 0.098)) for y in (-1, 1)]
    dark += [sphere(0.005, 10, 12).moved((0.106, y * 0.008, 0.075)) for y in (-1, 1)]
    dark.append(rounded_box((0.034, 0.005, 0.006), 0.001).moved((0, 0, 0.136)))
    pink = f32((0.95, 0.62, 0.66))
    return standing('piggy bank', Part(joined(body).scaled(s), solid(pink), 0.6),
                    Part(joined(dark).scaled(s), solid((0.08, 0.03, 0.04)), 0.3))


def umbrella(rng: np.random.Generator) -> Model:
    """Builds a small open umbrella standing on its handle in a foot, of two colours."""
    r, h = rng.uniform(0.13, 0.15), 0.24
    pair = [((0.80, 0.08, 0.10), (0.95, 0.93, 0.9)), ((0.1, 0.25, 0.65), (0.95, 0.8, 0.15)),
            ((0.1, 0.5, 0.3), (0.95, 0.9, 0.85))][rng.integers(3)]
    rings = np.linspace(0.02, 1, 14)
    angle = np.arange(96) * 2 * np.pi / 96
    gore = np.abs(np.sin(4 * angle))
    a, q = np.meshgrid(angle, rings)
    wave = np.abs(np.sin(4 * a))
    radius = r * q * (1 - 0.1 * (1 - (1 - wave) ** 2) * q * q)
    z = h + 0.35 * r * (1 - q * q) + 0.02 * r * gore[None] * q
    cloth = grid(np.stack([radius * np.cos(a), radius * np.sin(a), z], -1), wrap_columns=True)
    stick = tube(np.array([[0, 0, 0.0], [0, 0, h + 0.42 * r]]), 0.004, 10)
    foot = cylinder(0.05, 0, 0.012, 32)

    def color(points: np.ndarray) -> np.ndarray:
        panel = np.floor(np.arctan2(points[:, 1], points[:, 0]) / (np.pi / 4)).astype(int) % 2
        return f32(pair)[panel]
    return standing('umbrella', Part(cloth, color, 0.1),
                    Part(joined([stick, foot]), solid((0.2, 0.13, 0.08)), 0.3))


def tennis_felt(radius: float) -> Color:
    """Returns yellow felt with the white seam of a tennis ball."""
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
    """Builds a tennis ball, of the larger kind that is sold as a toy."""
    r = rng.uniform(0.055, 0.065)
    ball = sphere(r).turned('x', rng.uniform(0, 360)).turned('z', rng.uniform(0, 360))
    return standing('tennis ball', Part(ball, tennis_felt(r)))


def icosahedron() -> np.ndarray:
    """Returns the 12 unit vertices (12, 3) of an icosahedron."""
    g = (1 + 5 ** 0.5) / 2
    corners = [(0, s, t * g) for s in (-1, 1) for t in (-1, 1)]
    points = np.array([np.roll(c, k) for c in corners for k in range(3)], float)
    return points / np.linalg.norm(points[0])


def soccer_leather(points: np.ndarray) -> np.ndarray:
    """Returns black pentagons and white hexagons with grey seams, on a sphere of any size."""
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
    """Builds a soccer ball of black and white leather."""
    ball = sphere(rng.uniform(0.08, 0.1), 40, 64)
    return standing('soccer ball', Part(ball.turned('x', rng.uniform(0, 360)), soccer_leather,
                                        0.25))


def basketball_rubber(points: np.ndarray) -> np.ndarray:
    """Returns orange with the black seams of a basketball, on a sphere of any size."""
    x, y, z = (points / np.linalg.norm(points, axis=1, keepdims=True)).T
    curve = np.abs(np.abs(x) - 0.58 - 0.16 * (z * z - y * y))
    line = np.minimum(np.minimum(np.abs(y), np.abs(z)), curve)
    grain = 0.85 + 0.25 * noise(points, 0.0025, 8)
    orange = f32([0.80, 0.36, 0.11]) * grain[:, None]
    return mixed(orange, f32([[0.05, 0.04, 0.04]]), step(-line, -0.022, 0.012))


def basketball(rng: np.random.Generator) -> Model:
    """Builds a basketball."""
    ball = sphere(rng.uniform(0.085, 0.105), 40, 64).turned('x', rng.uniform(0, 360))
    return standing('basketball', Part(ball.turned('y', rng.uniform(0, 360)), basketball_rubber,
                                       0.15))

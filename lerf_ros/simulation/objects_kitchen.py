# SPDX-License-Identifier: Apache-2.0
"""Objects of the kitchen and the dining table, and food."""

from __future__ import annotations

import cv2
import numpy as np

from lerf_ros.simulation.meshes import (
    Mesh,
    arc,
    cylinder,
    joined,
    lathe,
    rotation,
    rounded_box,
    smooth_profile,
    tube,
)
from lerf_ros.simulation.models import Model, Part, pose, standing
from lerf_ros.simulation.textures import (
    Color,
    f32,
    from_image,
    mixed,
    mottled,
    noise,
    solid,
    step,
    wood,
)

MUG_COLORS = {'white mug': (0.93, 0.92, 0.90), 'red mug': (0.75, 0.08, 0.07)}
COFFEE = (0.13, 0.06, 0.03)


def coffee_mug(rng: np.random.Generator) -> Model:
    """Builds a straight mug with a handle, half full of coffee."""
    name = str(rng.choice(sorted(MUG_COLORS)))
    r, h, wall = rng.uniform(0.046, 0.052), rng.uniform(0.105, 0.12), 0.004
    body = lathe([(0, 0), (r - 0.005, 0), (r, 0.006), (r, h - 0.002), (r - wall / 2, h),
                  (r - wall, h - 0.002), (r - wall, 0.01), (0, 0.01)])
    handle = tube(arc(0.034, -88, 88, 28) * (0.95, 1, 1) + (r - 0.003, 0, h * 0.5),
                  0.0068, sides=14)
    color = solid(MUG_COLORS[name])
    drink = lathe([(0, h * 0.82), (r - wall, h * 0.82)])
    return standing(name, Part(body, color, 0.6), Part(handle, color, 0.6),
                    Part(drink, solid(COFFEE), 0.5))


def label(rng: np.random.Generator, paper: tuple, ink: tuple, height: int = 220,
          width: int = 512) -> np.ndarray:
    """Returns a paper label (height, width, 3) in 0..1 with a frame, a drawing and lines."""
    back, tint = (tuple(round(255 * c) for c in rgb) for rgb in (paper, ink))
    image = np.full((height, width, 3), back, np.uint8)
    for x0 in range(0, width, width // 2):
        x1, middle = x0 + width // 2, x0 + width // 4
        cv2.rectangle(image, (x0 + 8, 8), (x1 - 8, height - 8), tint, 2)
        cv2.ellipse(image, (middle, height // 3), (46, 30), 0, 0, 360, tint, -1)
        cv2.ellipse(image, (middle, height // 3), (30, 18), 0, 0, 360, back, 3)
        cv2.putText(image, 'Chateau', (middle - 92, height // 3 + 72), cv2.FONT_HERSHEY_TRIPLEX,
                    1.3, tint, 2, cv2.LINE_AA)
        for k in range(3):
            half = int(rng.integers(40, 90))
            y = height // 3 + 92 + 14 * k
            cv2.line(image, (middle - half, y), (middle + half, y), tint, 2)
    return image.astype(np.float32) / 255


def bottle_color(glass: tuple, capsule: tuple, neck_z: float, low: float, high: float,
                 picture: np.ndarray) -> Color:
    """Returns glass with a capsule above neck_z and a label round it between two heights."""
    def around(points: np.ndarray) -> np.ndarray:
        angle = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5
        return np.stack([angle, (high - points[:, 2]) / (high - low)], 1)
    paper = from_image(picture, around)

    def color(points: np.ndarray) -> np.ndarray:
        z = points[:, 2]
        base = np.broadcast_to(f32(glass), (len(points), 3))
        base = mixed(base, f32(capsule)[None], step(z, neck_z, 0.001))
        return mixed(base, paper(points), step(z, low, 0.001) * step(-z, -high, 0.001))
    return color


def wine_bottle(rng: np.random.Generator) -> Model:
    """Builds a Bordeaux bottle, dark glass with a label."""
    r, h = rng.uniform(0.037, 0.041), rng.uniform(0.27, 0.3)
    shoulder = smooth_profile([(r, 0.60 * h), (0.97 * r, 0.64 * h), (0.6 * r, 0.70 * h),
                               (0.38 * r, 0.76 * h), (0.36 * r, 0.94 * h)], 24)
    body = lathe([(0, 0), (r * 0.9, 0), (r, 0.006), *shoulder, (0.4 * r, 0.942 * h),
                  (0.4 * r, 0.975 * h), (0.36 * r, 0.98 * h), (0.36 * r, h), (0, h)])
    glass = ((0.02, 0.05, 0.025), (0.05, 0.02, 0.015))[rng.integers(2)]
    capsule = ((0.35, 0.02, 0.05), (0.55, 0.45, 0.2), (0.05, 0.05, 0.06))[rng.integers(3)]
    color = bottle_color(glass, capsule, 0.82 * h, 0.16 * h, 0.46 * h,
                         label(rng, (0.93, 0.9, 0.8), (0.3, 0.08, 0.08)))
    return standing('wine bottle', Part(body, color, 0.7))


def teapot(rng: np.random.Generator) -> Model:
    """Builds a china teapot with a blue band."""
    s = rng.uniform(0.95, 1.1)
    tint = f32([(0.15, 0.3, 0.6), (0.6, 0.12, 0.12), (0.1, 0.42, 0.35)][rng.integers(3)])
    body = lathe(smooth_profile([(0, 0), (0.04, 0), (0.045, 0.006), (0.078, 0.05), (0.07, 0.09),
                                 (0.04, 0.112), (0.036, 0.115)], 40))
    lid = lathe(smooth_profile([(0.04, 0.114), (0.038, 0.12), (0.02, 0.132), (0.006, 0.135),
                                (0.011, 0.146), (0.008, 0.153), (0, 0.154)], 30))
    t = np.linspace(0, 1, 24)
    spout = tube(np.stack([0.062 + 0.07 * t ** 0.9, 0 * t, 0.045 + 0.07 * t + 0.012 * np.sin(
        5 * t - 2.5)], 1), 0.018 - 0.011 * t, 14)
    handle = tube(arc(0.038, 75, 285, 30) * (1.1, 1, 1) + (-0.068, 0, 0.068), 0.0065, 12)

    def color(points: np.ndarray) -> np.ndarray:
        z = points[:, 2] / s
        band = step(-np.abs(z - 0.068), -0.014, 0.001)
        angle = np.arctan2(points[:, 1], points[:, 0]) * 9 / np.pi
        dots = np.hypot(angle - np.round(angle), (z - 0.068) * 60) < 0.35
        white = np.broadcast_to(f32([0.94, 0.93, 0.9]), points.shape)
        return mixed(mixed(white, tint[None], band), f32([[0.94, 0.93, 0.9]]), band * dots)
    plain = solid((0.94, 0.93, 0.9))
    return standing('teapot', Part(joined([body, lid]).scaled(s), color, 0.7),
                    Part(joined([spout, handle]).scaled(s), plain, 0.7))


def frying_pan(rng: np.random.Generator) -> Model:
    """Builds a black frying pan."""
    r = rng.uniform(0.095, 0.11)
    body = lathe([(0, 0), (0.8 * r, 0), (r, 0.035), (1.02 * r, 0.037), (0.985 * r, 0.038),
                  (0.78 * r, 0.004), (0, 0.004)], 72)
    handle = tube(np.array([[r * 0.97, 0, 0.03], [r + 0.03, 0, 0.04], [r + 0.14, 0, 0.048],
                            [r + 0.16, 0, 0.048]]), np.array([0.008, 0.009, 0.012, 0.008]), 12)
    return standing('frying pan', Part(body, solid((0.07, 0.07, 0.075)), 0.45),
                    Part(handle, solid((0.05, 0.045, 0.045)), 0.3))


def candle(rng: np.random.Generator) -> Model:
    """Builds a burning candle on a brass holder."""
    r, h = rng.uniform(0.022, 0.028), rng.uniform(0.15, 0.19)
    wax = lathe([(0, 0.02), (r, 0.02), (r, h), (r * 0.9, h + 0.002), (r * 0.75, h - 0.004),
                 (0, h - 0.006)])
    holder = lathe(smooth_profile([(0, 0), (0.06, 0), (0.063, 0.006), (0.055, 0.01), (0.035, 0.012),
                                   (0.034, 0.034), (0.03, 0.034), (0, 0.02)], 40))
    ring = tube(arc(0.02, 0, 360, 25)[:-1] + (0.075, 0, 0.012), 0.004, 8, closed=True)
    wick = cylinder(0.0015, h - 0.006, h + 0.012, 8)
    flame = lathe(smooth_profile([(0, h + 0.004), (0.008, h + 0.014), (0.006, h + 0.03),
                                  (0, h + 0.05)], 20), 24)
    wax_color = [(0.95, 0.92, 0.82), (0.75, 0.1, 0.08), (0.9, 0.85, 0.65)][rng.integers(3)]

    def fire(points: np.ndarray) -> np.ndarray:
        return mixed(f32([[2.2, 2.0, 1.3]]), f32([[2.2, 1.3, 0.3]]),
                     step(points[:, 2], h + 0.03, 0.03))
    return standing('candle', Part(wax, solid(wax_color), 0.3),
                    Part(joined([holder, ring]), solid((0.72, 0.55, 0.22)), 0.8),
                    Part(wick, solid((0.1, 0.08, 0.06))), Part(flame, fire))


def hourglass(rng: np.random.Generator) -> Model:
    """Builds a sandglass between two wooden plates."""
    s = rng.uniform(0.95, 1.15)
    bulbs = lathe(smooth_profile([(0.03, 0.012), (0.042, 0.03), (0.04, 0.06), (0.008, 0.094),
                                  (0.008, 0.098), (0.04, 0.132), (0.042, 0.162), (0.03, 0.18)],
                                 60), 48)
    plates = joined([cylinder(0.055, z, z + 0.012, 48) for z in (0, 0.18)])
    posts = joined([lathe(smooth_profile([(0.004, 0.01), (0.007, 0.05), (0.004, 0.096),
                                          (0.007, 0.14), (0.004, 0.182)], 30), 12)
                    .moved((0.046, 0, 0)).turned('z', 120 * k) for k in range(3)])

    def glass(points: np.ndarray) -> np.ndarray:
        z = points[:, 2] / s
        sand = ((z < 0.05) | ((z > 0.094) & (z < 0.135))).astype(np.float32)
        grain = f32([[0.86, 0.66, 0.36]]) * (0.9 + 0.2 * noise(points, 0.002))[:, None]
        return mixed(np.broadcast_to(f32([0.80, 0.86, 0.88]), points.shape), grain, sand)
    brown = wood((0.5, 0.28, 0.13), (0.34, 0.17, 0.08), 0, 0.01)
    return standing('hourglass', Part(bulbs.scaled(s), glass, 0.9),
                    Part(joined([plates, posts]).scaled(s), brown, 0.4))


def toaster(rng: np.random.Generator) -> Model:
    """Builds a toaster with two slices of bread."""
    s = rng.uniform(0.85, 1.0)
    body = rounded_box((0.24, 0.13, 0.16), 0.03, 6).moved((0, 0, 0.092))
    slots = joined([rounded_box((0.16, 0.026, 0.006), 0.002).moved((0, y, 0.171))
                    for y in (-0.028, 0.028)])
    foot = rounded_box((0.225, 0.12, 0.02), 0.005).moved((0, 0, 0.01))
    lever = joined([rounded_box((0.02, 0.04, 0.012), 0.004).moved((0.128, 0, 0.12)),
                    rounded_box((0.004, 0.008, 0.09), 0.001).moved((0.12, 0, 0.1)),
                    cylinder(0.014, 0, 0.012).turned('y', 90).moved((0.118, -0.03, 0.05))])
    bread = joined([rounded_box((0.11, 0.014, 0.07), 0.005, 4).moved((0, y, 0.18))
                    for y in (-0.028, 0.028)])
    shell = [(0.78, 0.79, 0.8), (0.7, 0.08, 0.08), (0.85, 0.9, 0.86)][rng.integers(3)]
    dark = solid((0.06, 0.06, 0.06))
    return standing('toaster', Part(body.scaled(s), solid(shell), 0.9), Part(slots.scaled(s), dark),
                    Part(foot.scaled(s), dark, 0.2), Part(lever.scaled(s), dark, 0.3),
                    Part(bread.scaled(s), mottled((0.75, 0.5, 0.24), (0.55, 0.3, 0.1), 0.02)))


def coffeepot(rng: np.random.Generator) -> Model:
    """Builds an enamel coffee pot."""
    s = rng.uniform(0.95, 1.1)
    tint = [(0.1, 0.2, 0.42), (0.6, 0.08, 0.08), (0.75, 0.76, 0.78)][rng.integers(3)]
    body = lathe([(0, 0), (0.065, 0), (0.068, 0.005), (0.045, 0.15), (0.046, 0.153), (0.03, 0.165),
                  (0.012, 0.172), (0.006, 0.176), (0.011, 0.184), (0.009, 0.192), (0, 0.194)])
    spout = tube(np.array([[0.055, 0, 0.05], [0.075, 0, 0.08], [0.09, 0, 0.12], [0.105, 0, 0.15]]),
                 np.array([0.018, 0.014, 0.01, 0.007]), 14)
    handle = tube(arc(0.05, 80, 280, 30) * (0.95, 1, 1) + (-0.05, 0, 0.09), 0.006, 12)
    return standing('coffeepot', Part(joined([body, spout]).scaled(s), solid(tint), 0.8),
                    Part(handle.scaled(s), solid((0.05, 0.05, 0.05)), 0.3))


def bucket(rng: np.random.Generator) -> Model:
    """Builds a bucket with its handle up."""
    r = rng.uniform(0.075, 0.085)
    h = 1.9 * r
    body = lathe([(0, 0), (0.72 * r, 0), (0.74 * r, 0.003), (r, h), (1.04 * r, h),
                  (1.04 * r, h + 0.004), (0.97 * r, h + 0.003), (0.71 * r, 0.005), (0, 0.005)])
    bail = tube(arc(1.03 * r, 0, 180, 40) + (0, 0, 0.93 * h), 0.003, 8)
    grip = tube(arc(1.03 * r, 75, 105, 8) + (0, 0, 0.93 * h), 0.007, 10)
    tint = [(0.12, 0.3, 0.72), (0.8, 0.12, 0.1), (0.65, 0.67, 0.68)][rng.integers(3)]
    return standing('bucket', Part(body, solid(tint), 0.4), Part(bail, solid((0.7, 0.7, 0.7)), 0.8),
                    Part(grip, solid((0.9, 0.88, 0.8)), 0.2))


def banana_peel(ends: np.ndarray) -> Color:
    """Returns yellow with brown specks, darker towards the two ends (2, 3)."""
    def color(points: np.ndarray) -> np.ndarray:
        near = np.minimum(*(np.linalg.norm(points - e, axis=1) for e in ends))
        base = f32([0.95, 0.80, 0.18]) * (0.92 + 0.12 * noise(points, 0.02))[:, None]
        base = mixed(base, f32([[0.62, 0.66, 0.2]]), 0.7 * step(-near, -0.03, 0.03))
        base = mixed(base, f32([[0.25, 0.16, 0.07]]), step(-near, -0.012, 0.01))
        return mixed(base, f32([[0.4, 0.25, 0.1]]),
                     0.8 * step(noise(points, 0.006, 5), 0.86, 0.05))
    return color


def banana_mesh(size: float) -> tuple:
    """Returns one banana in the xy plane, and its two ends (2, 3)."""
    path = arc(size, 20, 150, 40, 'xy')
    t = np.linspace(0, 1, 40)
    radius = size * 0.17 * np.minimum(1, np.minimum((t + 0.08) * 5, (1.05 - t) * 4)) ** 0.7
    radius[-5:] = size * 0.045
    return tube(path, radius, sides=10), path[[0, -1]]


def banana(rng: np.random.Generator) -> Model:
    """Builds a banana lying on its side."""
    mesh, ends = banana_mesh(rng.uniform(0.1, 0.115))
    return standing('banana', Part(mesh, banana_peel(ends), 0.25))


def pineapple(rng: np.random.Generator) -> Model:
    """Builds a pineapple standing upright with its crown of leaves."""
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
    """Builds a soft pretzel with salt."""
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
    """Builds a bagel with seeds."""
    s = rng.uniform(0.9, 1.1)
    ring = tube(arc(0.038 * s, 0, 360, 61, 'xy')[:-1], 0.024 * s, 28, closed=True)

    def color(points: np.ndarray) -> np.ndarray:
        crust = mixed(f32([[0.66, 0.38, 0.14]]), f32([[0.84, 0.60, 0.30]]),
                      0.7 * noise(points, 0.025) + 0.5 * step(-points[:, 2], -0.004, 0.02))
        seeds = step(noise(points, 0.0035, 3), 0.80, 0.05) * (points[:, 2] > 0.003)
        return mixed(crust, f32([[0.95, 0.9, 0.75]]), seeds)
    return standing('bagel', Part(ring, color, 0.4))


def pizza(rng: np.random.Generator) -> Model:
    """Builds a small pizza with salami."""
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
    """Builds a bell pepper: four lobes and a green stalk."""
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
    """Builds a corn cob lying on its side."""
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

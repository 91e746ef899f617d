# SPDX-License-Identifier: Apache-2.0
"""Objects of kitchen and dining table."""

from __future__ import annotations

import cv2
import numpy as np

from lerf_ros.simulation.meshes import (
    arc,
    cylinder,
    joined,
    lathe,
    rounded_box,
    smooth_profile,
    tube,
)
from lerf_ros.simulation.models import Model, Part, standing
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
    """A straight mug with a handle, half full of coffee."""
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
    """A paper label (height, width, 3) in 0..1 with a frame, a drawing and lines of writing."""
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
    """Glass with a capsule above neck_z and a label round it between two heights."""
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
    """A Bordeaux bottle, dark glass with a label."""
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
    """A china teapot with a blue band."""
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
    """A black frying pan."""
    r = rng.uniform(0.095, 0.11)
    body = lathe([(0, 0), (0.8 * r, 0), (r, 0.035), (1.02 * r, 0.037), (0.985 * r, 0.038),
                  (0.78 * r, 0.004), (0, 0.004)], 72)
    handle = tube(np.array([[r * 0.97, 0, 0.03], [r + 0.03, 0, 0.04], [r + 0.14, 0, 0.048],
                            [r + 0.16, 0, 0.048]]), np.array([0.008, 0.009, 0.012, 0.008]), 12)
    return standing('frying pan', Part(body, solid((0.07, 0.07, 0.075)), 0.45),
                    Part(handle, solid((0.05, 0.045, 0.045)), 0.3))


def candle(rng: np.random.Generator) -> Model:
    """A burning candle on a brass holder."""
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
    """A sandglass between two wooden plates."""
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
    """A toaster with two slices of bread."""
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
    """An enamel coffee pot."""
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
    """A bucket with its handle up."""
    r = rng.uniform(0.075, 0.085)
    h = 1.9 * r
    body = lathe([(0, 0), (0.72 * r, 0), (0.74 * r, 0.003), (r, h), (1.04 * r, h),
                  (1.04 * r, h + 0.004), (0.97 * r, h + 0.003), (0.71 * r, 0.005), (0, 0.005)])
    bail = tube(arc(1.03 * r, 0, 180, 40) + (0, 0, 0.93 * h), 0.003, 8)
    grip = tube(arc(1.03 * r, 75, 105, 8) + (0, 0, 0.93 * h), 0.007, 10)
    tint = [(0.12, 0.3, 0.72), (0.8, 0.12, 0.1), (0.65, 0.67, 0.68)][rng.integers(3)]
    return standing('bucket', Part(body, solid(tint), 0.4), Part(bail, solid((0.7, 0.7, 0.7)), 0.8),
                    Part(grip, solid((0.9, 0.88, 0.8)), 0.2))

# SPDX-License-Identifier: Apache-2.0
"""Objects of a desk."""

from __future__ import annotations

import cv2
import numpy as np

from lerf_ros.simulation.meshes import (
    Mesh,
    cylinder,
    joined,
    lathe,
    rotation,
    rounded_box,
    sphere,
    tube,
)
from lerf_ros.simulation.models import Model, Part, pose, standing
from lerf_ros.simulation.textures import f32, from_image, mixed, solid

# Widths of the keys of each row, in units of the key pitch; a negative number is a gap.
KEY_ROWS = ((1, -0.5, *[1] * 4, -0.3, *[1] * 4, -0.3, *[1] * 3),
            (*[1] * 13, 2), (1.5, *[1] * 12, 1.5), (1.8, *[1] * 11, 2.2),
            (2.3, *[1] * 10, 2.7), (1.3, 1.3, 1.3, 6.2, 1.3, 1.3, 1.3, 1.0))


def keyboard(rng: np.random.Generator) -> Model:
    """A computer keyboard, dark or light."""
    pitch, dark = rng.uniform(0.0185, 0.0205), bool(rng.integers(2))
    keys = []
    for row, widths in enumerate(KEY_ROWS):
        x = 0.0
        for width in widths:
            if width > 0:
                key = rounded_box((width * pitch - 0.0028, pitch - 0.0028, 0.009), 0.0025)
                keys.append(key.moved((x + width * pitch / 2, -row * pitch, 0.0)))
            x += abs(width) * pitch
    length, depth = 15 * pitch + 0.018, 6 * pitch + 0.018
    tray = rounded_box((length, depth, 0.014), 0.004, 3).moved((7.5 * pitch, -2.5 * pitch, -0.009))
    case, cap = ((0.06, 0.06, 0.07), (0.17, 0.17, 0.18)) if dark else (
        (0.5, 0.5, 0.52), (0.93, 0.93, 0.92))
    return standing(f'{"black" if dark else "white"} keyboard', Part(tray, solid(case), 0.2),
                    Part(joined(keys), solid(cap), 0.15))


def screen_picture(rng: np.random.Generator) -> np.ndarray:
    """What a screen shows (300, 480, 3) in 0..1: a window with text on a blue ground."""
    image = np.zeros((300, 480, 3), np.uint8)
    image[:] = np.linspace((40, 90, 170), (90, 160, 220), 300)[:, None].astype(np.uint8)
    cv2.rectangle(image, (60, 40), (430, 250), (240, 242, 245), -1)
    cv2.rectangle(image, (60, 40), (430, 62), (70, 75, 90), -1)
    for k in range(11):
        cv2.line(image, (76, 80 + 15 * k), (int(rng.integers(180, 410)), 80 + 15 * k),
                 (90, 95, 105), 4)
    cv2.rectangle(image, (0, 280), (480, 300), (30, 34, 44), -1)
    for k in range(8):
        cv2.rectangle(image, (8 + 26 * k, 283), (24 + 26 * k, 297), (60 + 20 * k, 140, 200), -1)
    return image.astype(np.float32) / 255


def key_block(columns: int, rows: int, pitch: float) -> list:
    """A block of keys about the origin, their feet at z = 0."""
    return [rounded_box((pitch * 0.86, pitch * 0.86, 0.004), 0.0012).moved(
        ((x - (columns - 1) / 2) * pitch, (y - (rows - 1) / 2) * pitch, 0.0015))
        for x in range(columns) for y in range(rows)]


def laptop(rng: np.random.Generator) -> Model:
    """An open laptop."""
    w, d, lid = 0.27, 0.185, rng.uniform(100, 112)
    case = [(0.68, 0.69, 0.71), (0.12, 0.12, 0.13)][rng.integers(2)]
    base = rounded_box((w, d, 0.014), 0.004, 3)
    keys = joined(key_block(14, 5, 0.0175)).moved((0, 0.022, 0.007))
    pad = rounded_box((0.085, 0.05, 0.001), 0.0005).moved((0, -0.06, 0.0073))
    T = pose(0, d / 2, 0.006, rotation('x', lid - 90))
    back = rounded_box((w, 0.007, 0.185), 0.003, 3).moved((0, 0, 0.0925))
    screen = rounded_box((w - 0.014, 0.001, 0.165), 0.0004).moved((0, -0.0037, 0.096))
    shown = from_image(screen_picture(rng), lambda p: np.stack(
        [0.5 + p[:, 0] / (w - 0.014), 0.5 - (p[:, 2] - 0.096) / 0.165], 1))
    dark = solid((0.08, 0.08, 0.085))
    return standing('laptop', Part(base, solid(case), 0.3), Part(keys, dark, 0.1),
                    Part(pad, solid(f32(case) * 0.85), 0.2), Part(back, solid(case), 0.3, T),
                    Part(screen, lambda p: shown(p) * 1.15, 0.1, T))


def computer_mouse(rng: np.random.Generator) -> Model:
    """A computer mouse with a wheel and a cable."""
    s = rng.uniform(1.3, 1.5)
    tint = [(0.08, 0.08, 0.09), (0.9, 0.9, 0.88)][rng.integers(2)]
    shell = sphere(1, 32, 48)
    v = shell.vertices.copy()
    v[:, 2] = np.maximum(v[:, 2], -0.25)
    v = v * (0.031, 0.055, 0.027) * (1 + 0.12 * v[:, 1:2] * np.array([-1, 0, -1.2]))
    body = Mesh(v, shell.triangles).scaled(s)

    def color(points: np.ndarray) -> np.ndarray:
        x, y, z = (points / s).T
        line = ((np.abs(x) < 0.0009) & (y > 0.0)) | (np.abs(y) < 0.0007)
        groove = line & (z > 0.004)
        return mixed(np.broadcast_to(f32(tint), points.shape), f32(tint)[None] * 0.4, groove)
    wheel = cylinder(0.009, -0.004, 0.004, 24).turned('y', 90).moved((0, 0.03, 0.02)).scaled(s)
    t = np.linspace(0, 1, 30)
    cable = tube(np.stack([0.02 * np.sin(5 * t), 0.053 + 0.06 * t, -0.004 + 0 * t], 1) * s,
                 0.0022, 8)
    grey = solid((0.25, 0.25, 0.26))
    return standing('computer mouse', Part(body, color, 0.4), Part(wheel, grey, 0.2),
                    Part(cable, solid(tint), 0.2))


def remote_control(rng: np.random.Generator) -> Model:
    """A remote control with many coloured buttons."""
    s = rng.uniform(1.05, 1.2)
    body = rounded_box((0.05, 0.19, 0.018), 0.007, 5).scaled(s)
    keys = [k.moved((0, 0.0, 0.009)) for k in key_block(3, 4, 0.0125)]
    keys += [k.moved((0, -0.062, 0.009)) for k in key_block(3, 3, 0.0125)]
    ring = lathe([(0.008, 0.009), (0.017, 0.009), (0.017, 0.011), (0.008, 0.011)])
    ring = ring.moved((0, 0.05, 0))
    red = cylinder(0.006, 0.009, 0.0115, 20).moved((-0.014, 0.082, 0))
    tints = [(0.8, 0.1, 0.1), (0.1, 0.6, 0.2), (0.95, 0.8, 0.1), (0.15, 0.3, 0.8)]
    coloured = [Part(rounded_box((0.008, 0.005, 0.003), 0.001).moved(
        ((k - 1.5) * 0.0105, -0.033, 0.0095)).scaled(s), solid(c), 0.2)
        for k, c in enumerate(tints)]
    return standing('remote control', Part(body, solid((0.06, 0.06, 0.065)), 0.3),
                    Part(joined([*keys, ring]).scaled(s), solid((0.62, 0.62, 0.64)), 0.1),
                    Part(red.scaled(s), solid((0.85, 0.1, 0.1)), 0.3), *coloured)

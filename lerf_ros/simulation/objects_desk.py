# SPDX-License-Identifier: Apache-2.0
"""Objects of the desk, tools and household goods."""

from __future__ import annotations

import cv2
import numpy as np

from lerf_ros.simulation.meshes import (
    Mesh,
    cylinder,
    grid,
    joined,
    lathe,
    rotation,
    rounded_box,
    smooth_profile,
    sphere,
    tube,
)
from lerf_ros.simulation.models import Model, Part, pose, standing
from lerf_ros.simulation.textures import f32, from_image, mixed, noise, solid, step, wood

# Widths of the keys of each row, in units of the key pitch; a negative number is a gap.
KEY_ROWS = ((1, -0.5, *[1] * 4, -0.3, *[1] * 4, -0.3, *[1] * 3),
            (*[1] * 13, 2), (1.5, *[1] * 12, 1.5), (1.8, *[1] * 11, 2.2),
            (2.3, *[1] * 10, 2.7), (1.3, 1.3, 1.3, 6.2, 1.3, 1.3, 1.3, 1.0))


def keyboard(rng: np.random.Generator) -> Model:
    """Builds a computer keyboard, dark or light."""
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
    """Returns what a screen shows (300, 480, 3) in 0..1: a window with text on a blue ground."""
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
    """Returns a block of keys about the origin, their feet at z = 0."""
    return [rounded_box((pitch * 0.86, pitch * 0.86, 0.004), 0.0012).moved(
        ((x - (columns - 1) / 2) * pitch, (y - (rows - 1) / 2) * pitch, 0.0015))
        for x in range(columns) for y in range(rows)]


def laptop(rng: np.random.Generator) -> Model:
    """Builds an open laptop."""
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
    """Builds a computer mouse with a wheel and a cable."""
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
    """Builds a remote control with many coloured buttons."""
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


def hammer(rng: np.random.Generator) -> Model:
    """Builds a claw hammer lying on its side."""
    s = rng.uniform(0.95, 1.05)
    handle = tube(np.array([[0, -0.22, 0], [0, -0.2, 0], [0, -0.12, 0], [0, 0.02, 0]]),
                  np.array([0.013, 0.016, 0.014, 0.01]), 14).scaled(s)
    face = cylinder(0.016, 0.05, 0.07, 24).turned('y', 90)
    neck = cylinder(0.011, 0, 0.052, 20).turned('y', 90)
    middle = rounded_box((0.04, 0.03, 0.03), 0.005, 3)
    claws = [tube(np.array([[-0.01, 0.004 * k, 0], [-0.04, 0.006 * k + 0.004, 0],
                            [-0.07, 0.010 * k - 0.004, 0], [-0.09, 0.012 * k - 0.02, 0]]),
                  np.array([0.012, 0.010, 0.007, 0.003]), 10) for k in (-1, 1)]
    head = joined([face, neck, middle, *[c.turned('x', 90) for c in claws]]).scaled(s)
    return standing('hammer', Part(head, solid((0.35, 0.36, 0.38)), 0.8),
                    Part(handle, wood((0.85, 0.62, 0.34), (0.7, 0.45, 0.2), 1, 0.01), 0.3))


def screwdriver(rng: np.random.Generator) -> Model:
    """Builds a screwdriver with a fluted handle, lying."""
    tint = [(0.85, 0.12, 0.06), (0.95, 0.65, 0.05), (0.08, 0.3, 0.75)][rng.integers(3)]
    grip = lathe(smooth_profile([(0, 0), (0.013, 0.002), (0.018, 0.02), (0.017, 0.07),
                                 (0.011, 0.085), (0.014, 0.1), (0.006, 0.105), (0, 0.105)], 50), 60)
    v = grip.vertices
    flute = 1 - 0.12 * np.maximum(0, np.cos(6 * np.arctan2(v[:, 1], v[:, 0])))
    grip = Mesh(v * np.stack([flute, flute, np.ones_like(flute)], 1), grip.triangles)
    shaft = joined([cylinder(0.004, 0.1, 0.215, 16),
                    cylinder(0.004, 0.215, 0.232, 16, 0.0045).scaled((1.2, 0.35, 1))])
    T = pose(rotation=rotation('y', 90))

    def color(points: np.ndarray) -> np.ndarray:
        return mixed(np.broadcast_to(f32(tint), points.shape), f32([[0.05, 0.05, 0.05]]),
                     step(-np.abs(points[:, 2] - 0.085), -0.008, 0.001))
    return standing('screwdriver', Part(grip, color, 0.7, T),
                    Part(shaft, solid((0.7, 0.71, 0.73)), 0.9, T))


def dumbbell(rng: np.random.Generator) -> Model:
    """Builds a dumbbell with two discs a side."""
    s = rng.uniform(0.95, 1.1)
    bar = cylinder(0.013, -0.115, 0.115, 24)
    discs = []
    for side in (-1, 1):
        for z, r in ((0.062, 0.055), (0.086, 0.046)):
            mid = side * z
            discs.append(lathe([(0.01, mid - 0.011), (r - 0.004, mid - 0.011), (r, mid - 0.007),
                                (r, mid + 0.007), (r - 0.004, mid + 0.011), (0.01, mid + 0.011)]))
    T = pose(rotation=rotation('y', 90))
    return standing('dumbbell', Part(bar.scaled(s), solid((0.7, 0.7, 0.72)), 0.9, T),
                    Part(joined(discs).scaled(s), solid((0.07, 0.07, 0.075)), 0.35, T))


def toilet_paper(rng: np.random.Generator) -> Model:
    """Builds a roll of toilet paper with a loose end."""
    r, h = rng.uniform(0.056, 0.062), rng.uniform(0.1, 0.11)
    roll = lathe([(0.02, 0), (r - 0.003, 0), (r, 0.003), (r, h - 0.003), (r - 0.003, h),
                  (0.022, h), (0.02, h - 0.002), (0.02, 0)], 64)
    t = np.linspace(0, 1, 16)
    x, y = r + 0.0005 + 0.012 * t ** 2, -0.06 * t
    sheet = grid(np.stack([np.column_stack([x, y, np.full(16, z)]) for z in (0.001, h - 0.001)]))

    def paper(points: np.ndarray) -> np.ndarray:
        around = np.hypot(points[:, 0], points[:, 1])
        layers = 0.93 + 0.07 * np.sin(around / 0.0012)
        top = (np.abs(points[:, 2] - h / 2) > h / 2 - 0.002) & (around < r - 0.003)
        dots = 0.97 + 0.04 * noise(points, 0.003)
        white = f32([[0.96, 0.95, 0.94]]) * np.where(top, layers, dots)[:, None]
        return mixed(white, f32([[0.66, 0.5, 0.33]]), step(-around, -0.0225, 0.001))
    return standing('toilet paper', Part(roll, paper), Part(sheet, paper))


def clock_face() -> np.ndarray:
    """Returns a dial (512, 512, 3) in 0..1 with twelve numerals and two hands."""
    back, ink = (245, 243, 235), (20, 20, 22)
    image = np.full((512, 512, 3), back, np.uint8)
    for k in range(60):
        a = 2 * np.pi * k / 60
        d = np.array([np.sin(a), -np.cos(a)])
        inner = 215 if k % 5 else 205
        p, q = (tuple(int(v) for v in 256 + d * r) for r in (inner, 232))
        cv2.line(image, p, q, ink, 3 if k % 5 else 7, cv2.LINE_AA)
        if k % 5 == 0:
            text = str(k // 5 or 12)
            x, y = 256 + d * 172 - np.array([17 * len(text), -18])
            cv2.putText(image, text, (int(x), int(y)), cv2.FONT_HERSHEY_DUPLEX, 1.7, ink, 4,
                        cv2.LINE_AA)
    cv2.line(image, (256, 256), (160, 190), ink, 14, cv2.LINE_AA)
    cv2.line(image, (256, 256), (330, 100), ink, 9, cv2.LINE_AA)
    cv2.line(image, (256, 256), (280, 440), (200, 30, 30), 4, cv2.LINE_AA)
    cv2.circle(image, (256, 256), 14, ink, -1, cv2.LINE_AA)
    return image.astype(np.float32) / 255


def wall_clock(rng: np.random.Generator) -> Model:
    """Builds a round clock lying on its back."""
    r = rng.uniform(0.09, 0.11)
    tint = [(0.08, 0.08, 0.09), (0.6, 0.1, 0.1), (0.45, 0.28, 0.14)][rng.integers(3)]
    dial = lathe([(0, 0.022), (0.9 * r, 0.022)], 64)
    rim = lathe([(0, 0), (0.97 * r, 0), (r, 0.006), (0.99 * r, 0.03), (0.94 * r, 0.034),
                 (0.89 * r, 0.022)], 72)
    face = from_image(clock_face(), lambda p: np.stack(
        [0.5 + p[:, 0] / (1.8 * r), 0.5 - p[:, 1] / (1.8 * r)], 1))
    return standing('wall clock', Part(dial, face, 0.1), Part(rim, solid(tint), 0.6))


def table_lamp(rng: np.random.Generator) -> Model:
    """Builds a table lamp with a cloth shade."""
    s = rng.uniform(0.9, 1.05)
    foot = lathe(smooth_profile([(0, 0), (0.05, 0), (0.05, 0.01), (0.015, 0.02), (0.028, 0.06),
                                 (0.03, 0.09), (0.01, 0.12), (0.008, 0.17)], 50))
    shade = lathe([(0.095, 0.15), (0.06, 0.27), (0.058, 0.27), (0.093, 0.15)], 64)
    cloth = f32([(0.95, 0.88, 0.70), (0.93, 0.93, 0.9), (0.85, 0.55, 0.35)][rng.integers(3)])
    base = [(0.15, 0.3, 0.4), (0.5, 0.3, 0.12), (0.85, 0.85, 0.82)][rng.integers(3)]

    def glow(points: np.ndarray) -> np.ndarray:
        pleats = 0.96 + 0.04 * np.sin(60 * np.arctan2(points[:, 1], points[:, 0]))
        return cloth * (pleats * (1.25 - 1.5 * np.abs(points[:, 2] / s - 0.2)))[:, None]
    return standing('table lamp', Part(foot.scaled(s), solid(base), 0.6),
                    Part(shade.scaled(s), glow))

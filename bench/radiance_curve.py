# SPDX-License-Identifier: Apache-2.0
"""Shared by both sides of radiance_quality.py: the prepared images, and the curve of a training.

Needs NumPy alone, so that it also runs where lerf_ros is not installed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Returns colours (M, 3) in 0..1 of the M pixels with these flat indices in this image.
Render = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Posed images of one camera, and what is asked of whoever learns from them.

    images (N, H, W, 3) uint8; T_world_camera (N, 4, 4), OpenCV axes; directions (H * W, 3), unit
    viewing directions in the camera frame without the lens' distortion; held_out (N,) bool;
    pixels (M,) flat indices into H * W of all held-out images in a row: those that the points of
    the curve before the last are measured on. steps: when to measure. rays: in a step.
    """

    images: np.ndarray
    T_world_camera: np.ndarray
    directions: np.ndarray
    held_out: np.ndarray
    pixels: np.ndarray
    steps: np.ndarray
    rays: np.ndarray

    @property
    def pixels_per_image(self) -> int:
        return len(self.directions)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Problem:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def record_curve(problem: Problem, name: str, step: Callable[[int], None], render: Render,
                 path: Path, facts: dict[str, object], last: int = 0) -> None:
    """Trains, measures at `problem.steps` up to the step `last` (0: all of them), and writes what
    is known so far after each of them.

    Only the time of the steps counts, as wall seconds and as seconds of all threads together; the
    second is what can be compared where other programs share the processor.
    """
    points: list[dict[str, float]] = []
    walls: list[float] = []
    cpu_s = 0.0
    for until in (step for step in problem.steps.tolist() if not last or step <= last):
        while len(walls) < until:
            wall, cpu = time.perf_counter(), time.process_time()
            step(len(walls))
            walls.append(time.perf_counter() - wall)
            cpu_s += time.process_time() - cpu
        points.append({'step': until, 'wall_s': sum(walls), 'cpu_s': cpu_s,
                       **measure(problem, render, until == problem.steps[-1])})
        print(name, points[-1], flush=True)
        timing = step_timing(walls, cpu_s) if walls else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(
            {'name': name, **facts, **timing, 'points': points}, indent=1) + '\n')


def step_timing(walls: list[float], cpu_s: float) -> dict[str, float]:
    """Returns seconds of a step: the median, the 10th percentile (undisturbed), and of the CPU."""
    return {'step_s': float(np.median(walls)), 'step_s_best_tenth': float(np.quantile(walls, 0.1)),
            'step_cpu_s': cpu_s / len(walls)}


def measure(problem: Problem, render: Render, everything: bool) -> dict[str, float]:
    """Returns held-out PSNR, dB: from the error of all pixels, and as a mean over images."""
    errors = []
    size = problem.pixels_per_image
    for row, image in enumerate(np.flatnonzero(problem.held_out)):
        pixels = np.arange(size)
        if not everything:
            pixels = problem.pixels[problem.pixels // size == row] % size
        target = problem.images[image].reshape(-1, 3)[pixels] / 255.0
        errors.append(np.square(np.clip(render(int(image), pixels), 0, 1) - target).mean(-1))
    return {'psnr': psnr(np.concatenate(errors)),
            'psnr_of_images': float(np.mean([psnr(error) for error in errors])),
            'pixels': sum(len(error) for error in errors)}


def psnr(squared_errors: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio, dB, of squared errors of colours in 0..1."""
    return -10 * float(np.log10(max(squared_errors.mean(), 1e-10)))

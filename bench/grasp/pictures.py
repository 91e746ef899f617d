# SPDX-License-Identifier: Apache-2.0
"""Draws the planned grasps into keyframes of a map: a strip for each layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from results import NO_GRASP, SLIP, SUCCESS, WRONG, Attempt

from lerf_ros.config import GraspConfig
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import invert_pose, transform_points
from lerf_ros.query.answer import Grasp

# BGR
COLORS = {SUCCESS: (70, 200, 60), WRONG: (220, 60, 220), SLIP: (40, 120, 255),
          NO_GRASP: (60, 60, 230)}
GREY = (150, 150, 150)     # objects that cannot be lifted at all
VIEWS = 3


def save_strip(map_directory: Path, attempts: Sequence[Attempt], grasps: Sequence[Grasp | None],
               config: GraspConfig, path: Path) -> None:
    """Draws all grippers into VIEWS keyframes from different sides, with a legend."""
    frames = load_folder(map_directory).frames
    chosen = np.linspace(0, len(frames) / 2, VIEWS, endpoint=False).astype(int)
    views = [drawn(frames[int(k)], attempts, grasps, config) for k in chosen]
    strip = np.concatenate([*views, legend(attempts, views[0].shape[0])], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), strip, [cv2.IMWRITE_JPEG_QUALITY, 88])


def outline(grasp: Grasp, config: GraspConfig) -> list[np.ndarray]:
    """Returns lines (K, 3) in the world: the fork of the fingers, and the stem to the hand."""
    half, depth = grasp.opening_width / 2, config.finger_depth
    fork = [[0, half, 0], [0, half, -depth], [0, -half, -depth], [0, -half, 0]]
    stem = [[0, 0, -depth], [0, 0, -depth - 0.05]]
    return [transform_points(grasp.T_world_grasp, np.array(line, float)) for line in (fork, stem)]


def drawn(frame: Frame, attempts: Sequence[Attempt], grasps: Sequence[Grasp | None],
          config: GraspConfig) -> np.ndarray:
    """Returns the photograph (H, W, 3) BGR with all grippers, numbered as in the legend."""
    picture = frame.image[..., ::-1].copy()
    T_camera_world = invert_pose(frame.T_world_camera)
    for number, (attempt, grasp) in enumerate(zip(attempts, grasps, strict=True), 1):
        if grasp is None:
            continue
        for line in outline(grasp, config):
            pixels = frame.camera.project(transform_points(T_camera_world, line))
            if not np.isfinite(pixels).all():
                continue
            points = np.rint(pixels).astype(np.int32)[None]
            cv2.polylines(picture, points, False, (0, 0, 0), 5, cv2.LINE_AA)
            cv2.polylines(picture, points, False, color_of(attempt), 2, cv2.LINE_AA)
        write(picture, str(number), tuple(points[0][-1]), color_of(attempt))
    return picture


def legend(attempts: Sequence[Attempt], height: int) -> np.ndarray:
    """Returns a column (height, W, 3) BGR with number, name and outcome of each object."""
    column = np.full((height, 420, 3), 30, np.uint8)
    for number, a in enumerate(attempts, 1):
        text = f'{number} {a.query}: {a.outcome.replace("_", " ")}'
        if a.reason:
            text += f', {a.reason}'
        if not a.liftable:
            text += ' (not liftable)'
        cv2.putText(column, text, (10, 26 + 30 * (number - 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                    color_of(a), 1, cv2.LINE_AA)
    return column


def color_of(attempt: Attempt) -> tuple[int, int, int]:
    """Returns the colour of an outcome; grey where it does not count."""
    return COLORS[attempt.outcome] if attempt.liftable else GREY


def write(picture: np.ndarray, text: str, at: tuple[int, ...], color: tuple[int, ...]) -> None:
    """Draws text with a dark outline."""
    for thickness, shade in ((4, (0, 0, 0)), (1, color)):
        cv2.putText(picture, text, (int(at[0]) + 4, int(at[1])), cv2.FONT_HERSHEY_SIMPLEX, 0.55,
                    shade, thickness, cv2.LINE_AA)

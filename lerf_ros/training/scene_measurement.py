# SPDX-License-Identifier: Apache-2.0
"""Measures from frames where the scene is, and how far away the things in a frame are."""

from __future__ import annotations

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import depth_to_points, transform_points
from lerf_ros.geometry.scene_frame import (
    SceneFrame,
    measure_from_cameras,
    measure_from_focus,
    measure_from_points,
)


def measure_scene(frames: list[Frame], config: LerfConfig) -> SceneFrame:
    """Returns the scene frame: as configured, or from the frames' depth or optical axes.

    Where any frame has depth nothing is skipped: a map would lose what stands right before a
    camera, and depth tells where empty space is.
    """
    points = [p for p in (depth_points(frame) for frame in frames) if len(p)]
    cameras = np.stack([f.T_world_camera[:3, 3] for f in frames])
    if config.scene.measure == 'cameras':
        scene = measure_from_cameras(cameras)
    elif points:
        scene = measure_from_points(np.concatenate(points), cameras)
    else:
        lenses = [np.hypot(f.camera.width / f.camera.fx, f.camera.height / f.camera.fy)
                  for f in frames]
        scene = measure_from_focus([f.T_world_camera for f in frames], float(np.median(lenses)))
    x, y, z = config.scene.center or scene.center
    return SceneFrame((x, y, z), config.scene.radius or scene.radius,
                      0.0 if points else config.field.skipped)


def depth_points(frame: Frame, step: int = 16) -> np.ndarray:
    """Returns world points (N, 3) of every step-th pixel with known depth."""
    if frame.depth_m is None:
        return np.zeros((0, 3))
    points_camera = depth_to_points(frame.camera, frame.depth_m, frame.valid, step)
    return transform_points(frame.T_world_camera, points_camera)


def viewing_depth(frame: Frame, scene: SceneFrame) -> float:
    """Returns a frame's median z-depth, else its distance to the scene's centre; world units."""
    if frame.depth_m is not None:
        known = frame.depth_m[np.isfinite(frame.depth_m) & (frame.depth_m > 0)]
        if len(known):
            return float(np.median(known))
    return float(np.linalg.norm(frame.T_world_camera[:3, 3] - np.asarray(scene.center)))

# SPDX-License-Identifier: Apache-2.0
"""Scenes with a known truth, on which every method is judged alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.evaluation.views import EvalView
from lerf_ros.frames.frame import Frame
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.labels import SurfaceLabels, label_names
from lerf_ros.simulation.renderer import RenderedView, SceneRenderer
from lerf_ros.simulation.robot import noisy_depth, noisy_image
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.sensor import (
    DEPTH_NOISE,
    HEIGHT,
    IMAGE_NOISE,
    PATH_S,
    WIDTH,
    AutoExposure,
    expose,
    sensor_camera,
)
from lerf_ros.simulation.trajectory import hand_held_path

# An object's size in pixels is the one that it has in at least this many frames.
SEEN_IN = 5
# About what the demo keeps of its capture; the steps between them are all keyframes.
FRAMES = 48


@dataclass(frozen=True)
class TruthObject:
    """What is to be found.

    name: e.g. 'white mug'; query: what is asked for; group: what is easily taken for each other.
    box_min, box_max: (3,), world units; None where its place in the world is not known. pixels:
    side of a square with the area of its mask, the fifth largest of all frames (0 with fewer): it
    appears at least as large in five of them; NaN where most frames have no mask.
    """

    name: str
    query: str
    group: str
    box_min: np.ndarray | None
    box_max: np.ndarray | None
    pixels: float


class PointTruth(Protocol):
    """Knows what is where."""

    def at(self, points_world: np.ndarray) -> np.ndarray:
        """Labels (N,) int32 of points (N, 3), -1 where nothing known is."""


@dataclass(frozen=True)
class EvalScene:
    """Frames to map, and what is known of what they show.

    labels: for each frame (H, W) int32, indices of label_names: objects[k] has the label k, then
    come the names of the room; None where there are no masks. metric: whether the world unit is
    the metre. surfaces: what is at a point, where that is known. views: those that were labelled;
    without them some of the frames with labels are judged.
    """

    name: str
    frames: tuple[Frame, ...]
    labels: tuple[np.ndarray, ...] | None
    label_names: tuple[str, ...]
    objects: tuple[TruthObject, ...]
    metric: bool
    surfaces: PointTruth | None = None
    views: tuple[EvalView, ...] = ()


def simulated_scene(seed: int, frames: int = FRAMES, size: tuple[int, int] = (WIDTH, HEIGHT),
                    exposure: bool = False) -> EvalScene:
    """The evaluation layout of this seed as an RGB-D camera sees it on its way round the table.

    frames: views, evenly spaced on the path. size: (width, height) in pixels. Poses are exact;
    colours and depths have the noise of the simulated camera; with `exposure` brightness varies
    from view to view. The same on every call. Raises LerfError where open3d is missing.
    """
    tabletop = evaluation_layout(seed)
    views = list(rendered_views(tabletop, seed, frames, size))
    labels = tuple(view.labels for _, view in views)
    return EvalScene(f'layout{seed}', as_captured(views, seed, size, frames, exposure), labels,
                     label_names(tabletop), truth_objects(tabletop, labels), True,
                     SurfaceLabels(tabletop))


def rendered_views(tabletop: TabletopScene, seed: int, frames: int,
                   size: tuple[int, int]) -> Iterator[tuple[np.ndarray, RenderedView]]:
    """Pose T_world_camera (4, 4) and view, without noise, at each step of the path."""
    renderer, path = SceneRenderer(tabletop), hand_held_path(seed, tabletop, PATH_S)
    for k in range(frames):
        T_world_camera = path(k * PATH_S / frames)
        yield T_world_camera, renderer.render(sensor_camera(*size), T_world_camera)


def as_captured(views: list[tuple[np.ndarray, RenderedView]], seed: int, size: tuple[int, int],
                frames: int, exposure: bool) -> tuple[Frame, ...]:
    """Frames with the sensor's exposure and noise."""
    rng, gain, step_s = np.random.default_rng([seed, 11]), None, PATH_S / frames
    captured = []
    for k, (T_world_camera, view) in enumerate(views):
        image, gain = expose(view.image, gain, AutoExposure() if exposure else None, step_s)
        captured.append(Frame(int(k * step_s * 1e9), noisy_image(image, IMAGE_NOISE, rng),
                              sensor_camera(*size), T_world_camera,
                              noisy_depth(view.depth_m, DEPTH_NOISE, rng)))
    return tuple(captured)


def truth_objects(tabletop: TabletopScene,
                  labels: tuple[np.ndarray, ...]) -> tuple[TruthObject, ...]:
    """The objects with their sizes in the masks (H, W) of all frames."""
    count = len(tabletop.objects)
    areas = np.array([np.bincount(mask.ravel(), minlength=count)[:count] for mask in labels])
    return tuple(TruthObject(thing.name, thing.query, thing.group, thing.box_min, thing.box_max,
                             seen_side(areas[:, k])) for k, thing in enumerate(tabletop.objects))


def seen_side(areas_px: np.ndarray) -> float:
    """The side in pixels of a square as large as a mask in the fifth largest (F,) of its areas."""
    largest = np.sort(areas_px)[::-1]
    return float(np.sqrt(largest[SEEN_IN - 1])) if len(largest) >= SEEN_IN else 0.0


def label_points(points_world: np.ndarray, scene: EvalScene) -> np.ndarray:
    """Labels (N,) int32 of map points (N, 3), an object's or one of the room, -1 for none.

    Of simulated scenes that of the nearest surface within 1.5 cm. Raises LerfError for a scene
    of which that is unknown.
    """
    if scene.surfaces is None:
        raise LerfError(f'{scene.name}: the surfaces of its objects are not known')
    return scene.surfaces.at(points_world)

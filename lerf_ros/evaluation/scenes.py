# SPDX-License-Identifier: Apache-2.0
"""Scenes with known ground truth, on which all methods are evaluated alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.raycast import SurfaceLabels
from lerf_ros.simulation.renderer import RenderedView, SceneRenderer
from lerf_ros.simulation.scene import TabletopScene, label_names
from lerf_ros.simulation.sensor import (
    DEPTH_NOISE,
    HEIGHT,
    IMAGE_NOISE,
    WIDTH,
    AutoExposure,
    expose,
    noisy_depth,
    noisy_image,
    sensor_camera,
)
from lerf_ros.simulation.trajectory import PATH_S, hand_held_path

Size = tuple[int, int]   # width, height in pixels
SEEN_IN = 5              # the size of an object in pixels is reached in at least this many frames
FRAMES = 48              # about as many as the demo keeps; every step between them is a keyframe
MIN_PIXELS = 12          # smaller masks of an object in a view are not evaluated


@dataclass(frozen=True)
class TruthObject:
    """An object that is to be found.

    name: such as 'white mug'. query: the phrase that is asked for. group: objects of one group are
    easily confused. box_min, box_max: (3,), world units; None where the position is unknown.
    pixels: side of a square with the area of the fifth largest of its masks, so it appears at least
    as large in five frames; 0 in fewer frames, NaN where most frames have no mask.
    """

    name: str
    query: str
    group: str
    box_min: np.ndarray | None
    box_max: np.ndarray | None
    pixels: float


class PointTruth(Protocol):
    """The ground truth of points in space."""

    def at(self, points_world: np.ndarray) -> np.ndarray:
        """Returns labels (N,) int32 of points (N, 3), -1 where nothing is known."""


@dataclass(frozen=True)
class ViewTruth:
    """What a view shows: boxes (K, 4) in pixels and a mask (H, W) of each object, by its index.

    An object without a mask is known by its boxes alone.
    """

    boxes_px: Mapping[int, np.ndarray]
    masks: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class EvalView:
    """A camera in the world, T_world_camera (4, 4), and the ground truth of what it sees.

    truth: returns the ground truth of the view at another size. photo: (H, W, 3) uint8 RGB; None
    for a novel view.
    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    truth: Callable[[Size], ViewTruth]
    photo: np.ndarray | None = None


@dataclass(frozen=True)
class EvalScene:
    """Frames to map, and what is known of what they show.

    labels: for each frame (H, W) int32, indices into label_names; objects[k] has the label k, the
    names of the room follow; None without masks. metric: whether the world unit is the metre.
    point_truth: which label a point in space has, where that is known. views: the labelled views;
    without them, some of the frames that have labels are evaluated.
    """

    name: str
    frames: tuple[Frame, ...]
    labels: tuple[np.ndarray, ...] | None
    label_names: tuple[str, ...]
    objects: tuple[TruthObject, ...]
    metric: bool
    point_truth: PointTruth | None = None
    views: tuple[EvalView, ...] = ()


def simulated_scene(seed: int, frames: int = FRAMES, size: Size = (WIDTH, HEIGHT),
                    exposure: bool = False) -> EvalScene:
    """Renders the evaluation layout of this seed from an RGB-D camera on its path round the table.

    frames: number of views, evenly spaced on the path. Poses are exact, colours and depths have the
    noise of the simulated camera, and with `exposure` the brightness varies from view to view. The
    result is the same on every call. Raises LerfError where open3d is missing.
    """
    tabletop = evaluation_layout(seed)
    views = list(rendered_views(tabletop, seed, frames, size))
    labels = tuple(view.labels for _, view in views)
    return EvalScene(f'layout{seed}', as_captured(views, seed, size, frames, exposure), labels,
                     label_names(tabletop), truth_objects(tabletop, labels), True,
                     SurfaceLabels(tabletop))


def rendered_views(tabletop: TabletopScene, seed: int, frames: int,
                   size: Size) -> Iterator[tuple[np.ndarray, RenderedView]]:
    """Yields T_world_camera (4, 4) and the view without noise at each step of the path."""
    renderer, path = SceneRenderer(tabletop), hand_held_path(seed, tabletop, PATH_S)
    for k in range(frames):
        T_world_camera = path(k * PATH_S / frames)
        yield T_world_camera, renderer.render(sensor_camera(*size), T_world_camera)


def as_captured(views: list[tuple[np.ndarray, RenderedView]], seed: int, size: Size, frames: int,
                exposure: bool) -> tuple[Frame, ...]:
    """Returns frames with the exposure and the noise of the sensor."""
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
    """Returns the objects with their sizes in the masks (H, W) of all frames."""
    count = len(tabletop.objects)
    areas = np.array([np.bincount(mask.ravel(), minlength=count)[:count] for mask in labels])
    return tuple(TruthObject(thing.name, thing.query, thing.group, thing.box_min, thing.box_max,
                             seen_side(areas[:, k])) for k, thing in enumerate(tabletop.objects))


def seen_side(areas_px: np.ndarray) -> float:
    """Returns the side in pixels of a square with the fifth largest of the areas (F,) of masks."""
    largest = np.sort(areas_px)[::-1]
    return float(np.sqrt(largest[SEEN_IN - 1])) if len(largest) >= SEEN_IN else 0.0


def label_points(points_world: np.ndarray, scene: EvalScene) -> np.ndarray:
    """Returns labels (N,) int32 of map points (N, 3), of an object or the room; -1 for none.

    In simulated scenes a point gets the label of the nearest surface within 1.5 cm. Raises
    LerfError for a scene without ground truth of points.
    """
    if scene.point_truth is None:
        raise LerfError(f'{scene.name}: the surfaces of its objects are not known')
    return scene.point_truth.at(points_world)


def views_to_evaluate(scene: EvalScene, count: int, every: int = 0) -> tuple[EvalView, ...]:
    """Returns all labelled views, or else `count` frames that together show the most objects.

    every: takes only held-out frames, the last of every so many; 0 takes any frame.
    """
    return scene.views or tuple(
        EvalView(scene.frames[i].camera, scene.frames[i].T_world_camera,
                 partial(view_truth, scene, i), scene.frames[i].image)
        for i in most_showing(scene, count, every))


def view_truth(scene: EvalScene, frame: int, size: Size) -> ViewTruth:
    """Returns the ground truth of a frame at another size."""
    boxes, masks = {}, {}
    if scene.labels is not None:
        # OpenCV cannot resize 32-bit integers.
        labels = cv2.resize(scene.labels[frame].astype(np.float32), size,
                            interpolation=cv2.INTER_NEAREST)
        for i in range(len(scene.objects)):
            mask = labels == i
            if mask.sum() >= MIN_PIXELS:
                y, x = np.nonzero(mask)
                boxes[i] = np.array([[x.min(), y.min(), x.max(), y.max()]])
                masks[i] = mask
    return ViewTruth(boxes, masks)


def most_showing(scene: EvalScene, count: int, every: int = 0) -> tuple[int, ...]:
    """Chooses frames greedily, so that together they show the most objects.

    every: as in views_to_evaluate.
    """
    if scene.labels is None or count == 0:
        return ()
    frames = [i for i in range(len(scene.frames)) if not every or i % every == every - 1]
    seen = {i: np.bincount(scene.labels[i][scene.labels[i] >= 0].ravel(),
                           minlength=len(scene.objects))[:len(scene.objects)] > 0 for i in frames}
    times, chosen = np.zeros(len(scene.objects)), []
    for _ in range(min(count, len(frames))):
        # An object that k chosen frames already show is worth 1 / (k + 1).
        best = max((i for i in frames if i not in chosen),
                   key=lambda i: float((seen[i] / (times + 1)).sum()))
        chosen.append(best)
        times += seen[best]
    return tuple(sorted(chosen))

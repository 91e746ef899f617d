# SPDX-License-Identifier: Apache-2.0
"""Scenes with boxes in 3D and instance masks, in the transforms.json of an RGB-D folder.

The layout is that of the folder `apc_shelf_rgbd`. Beside nerfstudio's fields the file has
`objects`, each with `id` (its value in the masks), `name`, `query` (what a person would call it)
and the corners `aabb_min` and `aabb_max` of its box in the world of the poses. Each frame has
`mask_instance_path`, an image of one channel that holds ids, 0 where there is no object.

A map point belongs to the object whose box it lies in, so a bit of what the object stands on counts
as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.labels import read_json_object
from lerf_ros.evaluation.localization import points_in_box
from lerf_ros.evaluation.scenes import EvalScene, TruthObject, seen_side
from lerf_ros.frames.captures.posed_folder import PosedFolder
from lerf_ros.frames.frame import Frame

ROOM = 'shelf'    # the label of everything outside of the masks
BLUR_PX = 5
# Grey levels. In the shelf captures the pixels of the gripper vary by up to 15 (noise, exposure),
# 99 % of all others by more than 24.
STILL = 16.0
# Fractions of the longer side of the image: holes to fill, specks to drop, and a margin.
HOLE, SPECK, RIM = 0.05, 0.03, 0.012


@dataclass(frozen=True)
class BoxedObject:
    """An object: its value in the masks, its two names, and its box (3,) low and high, metres."""

    id: int
    name: str
    text: str
    low_world: np.ndarray
    high_world: np.ndarray


@dataclass(frozen=True)
class BoxedLabels:
    """The objects of a folder. mask_paths: by the name of the frame (its file_path), sorted."""

    objects: tuple[BoxedObject, ...]
    mask_paths: Mapping[str, Path]

    def ids(self, frame_name: str) -> np.ndarray:
        """Returns the id of the object at each pixel (H, W) of a frame, 0 where there is none."""
        path = self.mask_paths[frame_name]
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            raise DatasetError(f'{path} is no instance mask: an image of one channel is needed')
        return ids


def read_boxed_objects(folder: str | Path) -> BoxedLabels:
    """Reads objects and names of mask files; raises DatasetError that says what is wrong where."""
    path = Path(folder) / 'transforms.json'
    content = read_json_object(path)
    objects, frames = content.get('objects'), content.get('frames')
    if not isinstance(objects, list) or not objects:
        raise DatasetError(f'{path} has no list of objects with boxes')
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f'{path} has no list of frames')
    paths = dict(mask_of(path, i, frame) for i, frame in enumerate(frames))
    return BoxedLabels(tuple(parse_object(path, i, entry) for i, entry in enumerate(objects)),
                       dict(sorted(paths.items())))


def parse_object(path: Path, index: int, entry: dict[str, Any]) -> BoxedObject:
    """Parses one entry of the list of objects."""
    try:
        low, high = (np.array(entry[key], np.float64) for key in ('aabb_min', 'aabb_max'))
        thing = BoxedObject(int(entry['id']), str(entry['name']),
                            str(entry.get('query') or entry['name'].replace('_', ' ')), low, high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f'{path}: object {index} must have id, name, aabb_min and aabb_max '
                           f'({type(error).__name__}: {error})') from error
    if low.shape != (3,) or high.shape != (3,) or not (low <= high).all():
        raise DatasetError(f'{path}: the box of {thing.name} must go from aabb_min to aabb_max, '
                           'three numbers each')
    return thing


def mask_of(path: Path, index: int, frame: object) -> tuple[str, Path]:
    """Returns the name of a frame and the file of its instance mask."""
    name, mask = ((frame.get('file_path'), frame.get('mask_instance_path'))
                  if isinstance(frame, dict) else (None, None))
    if not isinstance(name, str) or not isinstance(mask, str):
        raise DatasetError(f'{path}: frame {index} needs file_path and mask_instance_path')
    file = path.parent / mask
    if not file.is_file():
        raise DatasetError(f'{path}: the mask {file} of {name} is not there')
    return name, file


@dataclass(frozen=True)
class BoxTruth:
    """Assigns points to the object whose box they lie in, the smallest one where boxes overlap."""

    objects: Sequence[BoxedObject]

    def at(self, points_world: np.ndarray) -> np.ndarray:
        """Returns the index (N,) int32 of the object at points (N, 3), -1 outside of all boxes."""
        labels = np.full(len(points_world), -1, np.int32)
        volumes = [np.prod(thing.high_world - thing.low_world) for thing in self.objects]
        for i in np.argsort(volumes)[::-1]:
            thing = self.objects[i]
            labels[points_in_box(points_world, thing.low_world, thing.high_world)] = i
        return labels


def boxed_scene(folder: Path, posed: PosedFolder, masked: bool) -> EvalScene:
    """Returns the scene of a folder; unless `masked`, pixels that show the robot are detected."""
    labelled, frames = read_boxed_objects(folder), tuple(posed.frames)
    if not masked:
        valid = robot_mask([frame.image for frame in frames])
        frames = tuple(replace(f, valid=valid if f.valid is None else f.valid & valid)
                       for f in frames)
    labels = tuple(label_image(labelled, name, frame)
                   for name, frame in zip(posed.names, frames, strict=True))
    count = len(labelled.objects)
    areas = np.array([np.bincount(image.ravel(), minlength=count)[:count] for image in labels])
    objects = tuple(TruthObject(thing.name.replace('_', ' '), thing.text, thing.text,
                                thing.low_world, thing.high_world, seen_side(areas[:, i]))
                    for i, thing in enumerate(labelled.objects))
    return EvalScene(folder.resolve().name, frames, labels,
                     (*(thing.query for thing in objects), ROOM), objects, posed.metric,
                     BoxTruth(labelled.objects))


def label_image(labelled: BoxedLabels, name: str, frame: Frame) -> np.ndarray:
    """Returns the label (H, W) int32 of each pixel of a frame: index of the object, or ROOM's."""
    ids = cv2.resize(labelled.ids(name), (frame.camera.width, frame.camera.height),
                     interpolation=cv2.INTER_NEAREST)
    labels = np.full(ids.shape, len(labelled.objects), np.int32)
    for i, thing in enumerate(labelled.objects):
        labels[ids == thing.id] = i
    return labels


def robot_mask(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns where (H, W) bool images (H, W, 3) uint8 of one size show anything but the robot.

    The camera must move: whatever fills the same pixels in all images is taken for the robot. Fewer
    than three images, or images of different sizes, give True everywhere.
    """
    shape = images[0].shape[:2]
    if len(images) < 3 or any(image.shape[:2] != shape for image in images):
        return np.ones(shape, bool)
    mean, square = np.zeros(images[0].shape), np.zeros(images[0].shape)
    for image in images:
        smooth = cv2.blur(image.astype(np.float64), (BLUR_PX, BLUR_PX))
        mean += smooth / len(images)
        square += smooth ** 2 / len(images)
    deviation = np.sqrt(np.maximum(square - mean ** 2, 0)).max(-1)
    still = (deviation < STILL).astype(np.uint8)
    # The border is replicated, so that the robot is not eroded at the edge of the image.
    pad = max(shape) // 10
    still = cv2.copyMakeBorder(still, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    for operation, part in ((cv2.MORPH_CLOSE, HOLE), (cv2.MORPH_OPEN, SPECK),
                            (cv2.MORPH_DILATE, RIM)):
        side = max(1, round(part * max(shape)))
        still = cv2.morphologyEx(still, operation, np.ones((side, side), np.uint8))
    return still[pad:-pad, pad:-pad] == 0

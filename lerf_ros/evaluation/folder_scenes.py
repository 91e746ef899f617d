# SPDX-License-Identifier: Apache-2.0
"""Scenes from folders of posed images (transforms.json) with labels of one of three kinds.

- LERF-OVS (or any label file of the two formats of labels.py): labelled images are frames of the
  folder with the same file name. Frames that were labelled are trained on unless their turn to be
  held out comes, as in LERF-OVS.
- LERF's own boxes: the label folder holds `keyframes.json`, whose cameras are novel views.
- Objects in transforms.json with boxes in 3D and instance masks (shelf.py). A map point is an
  object's when it lies in its box, so a bit of what the object stands on counts as well.

The first two know nothing in 3D: there are no hits and no 3D IoU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.judging import points_in_box
from lerf_ros.evaluation.labels import ImageLabels, read_labels
from lerf_ros.evaluation.lerf_views import nerfstudio_normalisation, read_keyframes, world_view
from lerf_ros.evaluation.scenes import EvalScene, TruthObject, seen_side
from lerf_ros.evaluation.shelf import ShelfLabels, ShelfObject, read_shelf_objects
from lerf_ros.evaluation.views import EvalView, labelled_truth
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.captures.posed_folder import PosedFolder
from lerf_ros.frames.captures.transforms_json import FILE_NAME, read_json
from lerf_ros.frames.frame import Frame

BLUR_PX = 5
# Levels of 255. On the shelf of an RGB-D arm the gripper varies by up to 15 (noise, exposure),
# 99 % of everything else by more than 24.
STILL = 16.0
# As parts of the image's longer side: holes that are filled, specks that are dropped, and a rim.
HOLE, SPECK, RIM = 0.05, 0.03, 0.012


def robot_mask(images: Sequence[np.ndarray]) -> np.ndarray:
    """Where (H, W) images (H, W, 3) uint8 of one size show anything but the robot, bool.

    The images must be of a camera that moves through its scene, at least three of them: a wall
    that fills the same pixels in all would be taken for the robot. Fewer give True everywhere.
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
    # With a border of its own colours, so that what reaches the edge is not worn off there.
    pad = max(shape) // 10
    still = cv2.copyMakeBorder(still, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    for operation, part in ((cv2.MORPH_CLOSE, HOLE), (cv2.MORPH_OPEN, SPECK),
                            (cv2.MORPH_DILATE, RIM)):
        side = max(1, round(part * max(shape)))
        still = cv2.morphologyEx(still, operation, np.ones((side, side), np.uint8))
    return still[pad:-pad, pad:-pad] == 0


LERF_CAMERAS = 'keyframes.json'
LABEL_FOLDER = 'labels'   # in the folder of the images, where no other place is named
ROOM = 'shelf'            # what is wherever no mask is
log = logging.getLogger(__name__)


def folder_scene(folder: str | Path, labels: str | Path | None = None,
                 mask_path: str | Path | None = None, max_side: int = 0) -> EvalScene:
    """The scene of a folder; of its three kinds the one that the labels are.

    labels: a label file, a folder of them, or a folder that holds one of the folder's name.
    mask_path: an image that is black where the robot shows in every image. max_side: larger
    images are shrunk to it; 0 leaves them. Raises DatasetError for what cannot be used.
    """
    folder = Path(folder)
    posed = load_folder(folder, mask_path=mask_path, max_side=max_side)
    for note in posed.notes:
        log.warning('%s: %s', folder, note)
    if labels is None and has_objects(folder):
        return boxed_scene(folder, posed, masked=mask_path is not None)
    path = label_path(folder, labels)
    lerf = path.is_dir() and (path / LERF_CAMERAS).is_file()
    frames, labelled = tuple(posed.frames), read_labels(path)
    texts = tuple(dict.fromkeys(text for image in labelled for text in image.texts()))
    if not texts:
        raise DatasetError(f'{path}: nothing is labelled')
    views = (novel_views(path / LERF_CAMERAS, labelled, texts, frames) if lerf else
             labelled_frames(path, labelled, texts, posed, frames))
    objects = tuple(TruthObject(text, text, text, None, None, math.nan) for text in texts)
    return EvalScene(folder.resolve().name, frames, None, (), objects, posed.metric, BoxTruth(()),
                     views)


def has_objects(folder: Path) -> bool:
    """Whether transforms.json holds objects; other layouts have none."""
    path = folder / FILE_NAME
    return path.is_file() and isinstance(read_json(path).get('objects'), list)


def label_path(folder: Path, labels: str | Path | None) -> Path:
    """Where the labels of a folder are; raises DatasetError where there are none."""
    if labels is None:
        path = folder / LABEL_FOLDER
        if not path.exists():
            raise DatasetError(
                f'{folder} has no folder {LABEL_FOLDER} and its transforms.json no objects: give '
                'the labels of its images with --labels')
        return path
    path = Path(labels)
    own = path / folder.resolve().name
    return own if own.is_dir() else path


def labelled_frames(path: Path, labelled: Sequence[ImageLabels], texts: Sequence[str],
                    posed: PosedFolder, frames: Sequence[Frame]) -> tuple[EvalView, ...]:
    """The frames that have labels. Raises DatasetError when none has, warns of labels left over."""
    rows = {Path(name).name: i for i, name in enumerate(posed.names)}
    views, unknown = [], []
    for image in labelled:
        row = rows.get(Path(image.image_name).name)
        if row is None:
            unknown.append(image.image_name)
            continue
        frame = frames[row]
        size = frame.camera.width, frame.camera.height
        views.append(EvalView(frame.camera, frame.T_world_camera,
                              labelled_truth(image, texts, size), frame.image))
    if not views:
        raise DatasetError(f'{path}: none of the labelled images ({", ".join(unknown[:3])}, ...) '
                           'is in transforms.json; they are known by their file names')
    if unknown:
        log.warning('%s: no image of transforms.json has the labels of %s', path,
                    ', '.join(unknown))
    return tuple(views)


def novel_views(cameras: Path, labelled: Sequence[ImageLabels], texts: Sequence[str],
                frames: Sequence[Frame]) -> tuple[EvalView, ...]:
    """LERF's views, each with the label file of its turn; DatasetError where numbers differ."""
    keyframes = read_keyframes(cameras)
    if len(keyframes) != len(labelled):
        raise DatasetError(f'{cameras} has {len(keyframes)} keyframes, but there are '
                           f'{len(labelled)} label files: one for each is needed')
    normalisation = nerfstudio_normalisation([frame.T_world_camera for frame in frames])
    views = []
    for keyframe, image in zip(keyframes, labelled):
        view = world_view(keyframe, normalisation)
        size = view.camera.width, view.camera.height
        views.append(EvalView(view.camera, view.T_scene_camera,
                              labelled_truth(image, texts, size)))
    return tuple(views)


@dataclass(frozen=True)
class BoxTruth:
    """A point is the object's in whose box it lies; where boxes meet, the smaller one's."""

    objects: Sequence[ShelfObject]

    def at(self, points_world: np.ndarray) -> np.ndarray:
        """The index (N,) int32 of the object at each point (N, 3), -1 outside of all boxes."""
        labels = np.full(len(points_world), -1, np.int32)
        volumes = [np.prod(thing.high_world - thing.low_world) for thing in self.objects]
        for i in np.argsort(volumes)[::-1]:
            thing = self.objects[i]
            labels[points_in_box(points_world, thing.low_world, thing.high_world)] = i
        return labels


def boxed_scene(folder: Path, posed: PosedFolder, masked: bool) -> EvalScene:
    """A folder with boxes and instance masks; without a mask the robot's own parts are found."""
    shelf, frames = read_shelf_objects(folder), tuple(posed.frames)
    if not masked:
        valid = robot_mask([frame.image for frame in frames])
        frames = tuple(replace(f, valid=valid if f.valid is None else f.valid & valid)
                       for f in frames)
    labels = tuple(label_image(shelf, name, frame)
                   for name, frame in zip(posed.names, frames, strict=True))
    areas = np.array([np.bincount(image.ravel(), minlength=len(shelf.objects))
                      [:len(shelf.objects)] for image in labels])
    objects = tuple(TruthObject(thing.name.replace('_', ' '), thing.text, thing.text,
                                thing.low_world, thing.high_world, seen_side(areas[:, i]))
                    for i, thing in enumerate(shelf.objects))
    return EvalScene(folder.resolve().name, frames, labels,
                     (*(thing.query for thing in objects), ROOM), objects, posed.metric,
                     BoxTruth(shelf.objects))


def label_image(shelf: ShelfLabels, name: str, frame: Frame) -> np.ndarray:
    """The label (H, W) int32 at each pixel of a frame: index of the object, or the room's."""
    ids = cv2.resize(shelf.ids(name), (frame.camera.width, frame.camera.height),
                     interpolation=cv2.INTER_NEAREST)
    labels = np.full(ids.shape, len(shelf.objects), np.int32)
    for i, thing in enumerate(shelf.objects):
        labels[ids == thing.id] = i
    return labels

# SPDX-License-Identifier: Apache-2.0
"""Scenes from captures on disk with labels of one of three kinds.

- Label files of LERF-OVS or labelme (labels.py): the labelled images are frames of the folder with
  the same file name. As in LERF-OVS, they are trained on unless they are held out.
- LERF's own boxes: the label folder holds `keyframes.json`, whose cameras are novel views.
- Objects with boxes in 3D and instance masks in transforms.json (boxed_scene.py).

The first two have no ground truth in 3D: there are no hits and no 3D IoU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.boxed_scene import BoxTruth, boxed_scene
from lerf_ros.evaluation.labels import ImageLabels, read_labels
from lerf_ros.evaluation.lerf_views import nerfstudio_normalisation, read_keyframes, world_view
from lerf_ros.evaluation.localization import resized_boxes
from lerf_ros.evaluation.scenes import EvalScene, EvalView, Size, TruthObject, ViewTruth
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.captures.posed_folder import PosedFolder
from lerf_ros.frames.captures.transforms_json import FILE_NAME, read_json
from lerf_ros.frames.frame import Frame

LERF_CAMERAS = 'keyframes.json'
LABEL_FOLDER = 'labels'   # in the folder of the capture, unless another one is given
log = logging.getLogger(__name__)


def folder_scene(folder: str | Path, labels: str | Path | None = None,
                 mask_path: str | Path | None = None, max_side: int = 0) -> EvalScene:
    """Reads the scene of a folder; the labels decide which of the three kinds it is.

    labels: a label file, a folder of label files, or a folder that holds such a folder with the
    name of the capture. mask_path: an image that is black where the robot itself is visible in
    every image. max_side: shrinks larger images to it; 0 keeps them. Raises DatasetError for
    unusable files.
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
    """Returns whether transforms.json lists objects; other layouts have none."""
    path = folder / FILE_NAME
    return path.is_file() and isinstance(read_json(path).get('objects'), list)


def label_path(folder: Path, labels: str | Path | None) -> Path:
    """Returns where the labels of a folder are; raises DatasetError where there are none."""
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
    """Returns the frames that have labels; raises DatasetError when none has.

    Labels without an image are named in a warning.
    """
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
    """Returns LERF's views, with the label files in the same order.

    Raises DatasetError where there are not as many views as label files.
    """
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


def labelled_truth(labels: ImageLabels, texts: Sequence[str],
                   own_size: Size) -> Callable[[Size], ViewTruth]:
    """Returns the ground truth of a labelled image as a function of the size of the view.

    Objects are numbered as their phrases in `texts`. own_size: of the labelled image, where the
    labels do not say it.
    """
    labelled_size = labels.size or own_size

    def truth(size: Size) -> ViewTruth:
        boxes, masks = {}, {}
        for i, text in enumerate(texts):
            if text in labels.texts():
                boxes[i] = resized_boxes(labels.boxes(text), labelled_size, size)
                mask = labels.mask(text)
                if mask is not None:
                    masks[i] = cv2.resize(mask.astype(np.uint8), size,
                                          interpolation=cv2.INTER_NEAREST).astype(bool)
        return ViewTruth(boxes, masks)

    return truth

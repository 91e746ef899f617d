# SPDX-License-Identifier: Apache-2.0
"""Objects with boxes in 3D and instance masks, in the transforms.json of an RGB-D folder.

The layout of the folder `apc_shelf_rgbd`: beside what nerfstudio knows, the file has `objects`,
each with `id` (its value in the masks), `name`, `query` (what a person would call it) and the
corners `aabb_min` and `aabb_max` of its box in the world of the poses; each frame has
`mask_instance_path`, a one-channel image of ids, 0 where no object is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.labels import read_json_object


@dataclass(frozen=True)
class ShelfObject:
    """An object: its value in the masks, its two names, its box (3,) low and high, metres."""

    id: int
    name: str
    text: str
    low_world: np.ndarray
    high_world: np.ndarray


@dataclass(frozen=True)
class ShelfLabels:
    """The objects of a folder; mask_paths by the frames' names (their file_path), in order."""

    objects: tuple[ShelfObject, ...]
    mask_paths: Mapping[str, Path]

    def ids(self, frame_name: str) -> np.ndarray:
        """The id of the object at each pixel of a frame, (H, W), 0 where none is."""
        path = self.mask_paths[frame_name]
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            raise DatasetError(f'{path} is no instance mask: an image of one channel is needed')
        return ids


def read_shelf_objects(folder: str | Path) -> ShelfLabels:
    """Reads objects and mask files; raises DatasetError that names the file and what is wrong."""
    path = Path(folder) / 'transforms.json'
    content = read_json_object(path)
    objects, frames = content.get('objects'), content.get('frames')
    if not isinstance(objects, list) or not objects:
        raise DatasetError(f'{path} has no list of objects with boxes')
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f'{path} has no list of frames')
    paths = dict(mask_of(path, i, frame) for i, frame in enumerate(frames))
    return ShelfLabels(tuple(parse_object(path, i, entry) for i, entry in enumerate(objects)),
                       dict(sorted(paths.items())))


def parse_object(path: Path, index: int, entry: Any) -> ShelfObject:
    """One entry of the list of objects."""
    try:
        low, high = (np.array(entry[key], np.float64) for key in ('aabb_min', 'aabb_max'))
        thing = ShelfObject(int(entry['id']), str(entry['name']),
                            str(entry.get('query') or entry['name'].replace('_', ' ')), low, high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f'{path}: object {index} must have id, name, aabb_min and aabb_max '
                           f'({type(error).__name__}: {error})') from error
    if low.shape != (3,) or high.shape != (3,) or not (low <= high).all():
        raise DatasetError(f'{path}: the box of {thing.name} must go from aabb_min to aabb_max, '
                           'three numbers each')
    return thing


def mask_of(path: Path, index: int, frame: Any) -> tuple[str, Path]:
    """A frame's name and the file of its instance mask."""
    name, mask = ((frame.get('file_path'), frame.get('mask_instance_path'))
                  if isinstance(frame, dict) else (None, None))
    if not isinstance(name, str) or not isinstance(mask, str):
        raise DatasetError(f'{path}: frame {index} needs file_path and mask_instance_path')
    file = path.parent / mask
    if not file.is_file():
        raise DatasetError(f'{path}: the mask {file} of {name} is not there')
    return name, file

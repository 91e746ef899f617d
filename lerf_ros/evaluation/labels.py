# SPDX-License-Identifier: Apache-2.0
"""Reads the labels of images: LERF's own boxes, and the masks of LERF-OVS.

LERF-OVS (LangSplat's labels, the JSON of the tool ISAT): one file per image with `info` (name,
width, height) and `objects`, each with `category`, `bbox` (two opposite corners, as four numbers
or two pairs, in any order) and `segmentation` (one polygon of pairs). A category may occur
several times: any of its boxes is right, and its mask is the union.

LERF's localization labels: per scene `keyframes.json` (the cameras) and `0_rgb.json`,
`1_rgb.json`, ... in the order of the keyframes, in labelme's JSON: `shapes`, each with `label` and
`points`, two opposite corners in any order. The files themselves were not available: this follows
a public evaluation that reads them (gtangg12/efficient-lerf). Two points are uncertain. Some shapes
may be polygons; then their bounding box is used. And that evaluation scales views of 1080 x 1920 by
a quarter to fit the boxes, whereas labelme writes `imageWidth` and `imageHeight`, which are
returned as `size`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.file_finder import natural_key

# Files beside the label files that hold no labels of an image.
NOT_LABELS = ('keyframes.json', 'transforms.json')


@dataclass(frozen=True)
class LabelledObject:
    """A labelled object: box_px (4,) x, y, x, y, the low corner first; polygon_px (P, 2)."""

    text: str
    box_px: np.ndarray
    polygon_px: np.ndarray | None


@dataclass(frozen=True)
class ImageLabels:
    """The labels of one image. size: (width, height) in pixels; None if the file does not say."""

    image_name: str
    size: tuple[int, int] | None
    objects: tuple[LabelledObject, ...]

    def texts(self) -> tuple[str, ...]:
        """Returns each phrase once, in the order of the file."""
        return tuple(dict.fromkeys(thing.text for thing in self.objects))

    def boxes(self, text: str) -> np.ndarray:
        """Returns the boxes (K, 4) of a phrase."""
        found = [thing.box_px for thing in self.objects if thing.text == text]
        return np.stack(found) if found else np.empty((0, 4))

    def mask(self, text: str) -> np.ndarray | None:
        """Returns the union (H, W) bool of the polygons of a phrase; None without any or a size.

        Corners are truncated to whole pixels, and edges belong to the mask, as in LERF-OVS.
        """
        polygons = [thing.polygon_px for thing in self.objects
                    if thing.text == text and thing.polygon_px is not None]
        if not polygons or self.size is None:
            return None
        mask = np.zeros((self.size[1], self.size[0]), np.uint8)
        for polygon in polygons:    # one by one: where they overlap they do not cancel
            cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
        return mask.astype(bool)


def read_labels(path: str | Path) -> tuple[ImageLabels, ...]:
    """Reads one label file, or all of a folder in natural order of their names (2 before 10).

    The format, LERF-OVS or labelme, is detected for each file. Raises DatasetError that says which
    file is wrong, and why.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted((p for p in path.glob('*.json') if p.name not in NOT_LABELS),
                       key=lambda p: natural_key(p.name))
        if not files:
            raise DatasetError(f'{path} holds no label file: one .json per image is expected')
        return tuple(read_label_file(p) for p in files)
    return (read_label_file(path),)


def read_label_file(path: Path) -> ImageLabels:
    """Reads the labels of one image, in either format."""
    content = read_json_object(path)
    if isinstance(content.get('objects'), list):
        info = content.get('info')
        if not isinstance(info, dict) or not isinstance(info.get('name'), str):
            raise DatasetError(f'{path}: info.name, the name of the image, is missing')
        things = [parse_object(path, i, thing, 'category', 'bbox', 'segmentation')
                  for i, thing in enumerate(content['objects'])]
        return ImageLabels(info['name'], parse_size(info, 'width', 'height'), tuple(things))
    if isinstance(content.get('shapes'), list):
        name = content.get('imagePath')
        things = [parse_object(path, i, thing, 'label', 'points', 'points')
                  for i, thing in enumerate(content['shapes'])]
        return ImageLabels(name if isinstance(name, str) and name else path.stem,
                           parse_size(content, 'imageWidth', 'imageHeight'), tuple(things))
    raise DatasetError(f'{path} is no label file that is known: it has neither a list `objects` '
                       '(LERF-OVS) nor a list `shapes` (labelme)')


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object; raises DatasetError for any other file."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DatasetError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise DatasetError(f'{path} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise DatasetError(f'{path} must hold a JSON object, not {type(content).__name__}')
    return content


def parse_object(path: Path, index: int, thing: object, text_key: str, box_key: str,
                 polygon_key: str) -> LabelledObject:
    """Parses one entry of the list of labels."""
    where = f'{path}: label {index}'
    thing = thing if isinstance(thing, dict) else {}
    text = thing.get(text_key)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f'{where} has no {text_key}')
    corners = parse_points(thing.get(box_key), f'{where} ({text}): {box_key}')
    box = np.concatenate([corners.min(0), corners.max(0)])
    polygon = thing.get(polygon_key)
    points = parse_points(polygon, f'{where} ({text}): {polygon_key}') if polygon else None
    # Two corners are a rectangle of labelme, not a polygon.
    return LabelledObject(text.strip(), box, points if points is not None and len(points) > 2
                          else None)


def parse_points(values: object, where: str) -> np.ndarray:
    """Parses at least two points (P, 2) float64 from pairs or from a flat list of numbers."""
    try:
        numbers = np.array(values, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        numbers = np.empty((0, 2))
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        raise DatasetError(f'{where} must be at least two points x, y in pixels')
    return numbers


def parse_size(fields: Mapping[str, Any], width: str, height: str) -> tuple[int, int] | None:
    """Returns width and height in pixels if both are given and positive."""
    size = (fields.get(width), fields.get(height))
    if all(isinstance(side, (int, float)) and side >= 1 for side in size):
        return int(size[0]), int(size[1])    # type: ignore[arg-type]
    return None

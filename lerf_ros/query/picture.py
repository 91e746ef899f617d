# SPDX-License-Identifier: Apache-2.0
"""Pictures instead of phrases: crops of a map's keyframes, and the encoder that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lerf_ros.errors import BadImageError, DatasetError
from lerf_ros.frames.image_files import read_color
from lerf_ros.query.request import KeyframeCrop, QueryRequest

SMALLEST_PX = 8   # a picture with a shorter side shows nothing


def picture_of(request: QueryRequest, map_directory: Path) -> np.ndarray | None:
    """The picture (H, W, 3) uint8 RGB that a request asks with; None when it asks in words.

    Raises BadImageError for a picture that cannot be used, and for a keyframe or a crop of it
    that does not exist.
    """
    if request.crop is not None:
        return crop_of_keyframe(request.crop, map_directory)
    if request.image is None:
        return None
    image = request.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise BadImageError(f'the picture has shape {image.shape} and type {image.dtype}: '
                            'height x width x 3 of 8 bits (RGB) is needed')
    return checked_size(image)


def crop_of_keyframe(crop: KeyframeCrop, map_directory: Path) -> np.ndarray:
    """Those pixels (height, width, 3) uint8 RGB of the stored keyframe; raises BadImageError."""
    file = map_directory / 'images' / f'{crop.keyframe:06d}.png'
    try:
        image = read_color(file)
    except DatasetError as error:
        raise BadImageError(f'keyframe {crop.keyframe} has no image in the map: keyframes count '
                            f'from 0 ({error})') from error
    height, width = image.shape[:2]
    if (crop.x < 0 or crop.y < 0 or crop.width <= 0 or crop.height <= 0
            or crop.x + crop.width > width or crop.y + crop.height > height):
        raise BadImageError(
            f'the crop {crop.width} x {crop.height} at ({crop.x}, {crop.y}) is not inside of '
            f'keyframe {crop.keyframe}, which has {width} x {height} pixels')
    return checked_size(image[crop.y:crop.y + crop.height, crop.x:crop.x + crop.width])


def checked_size(image: np.ndarray) -> np.ndarray:
    """The image; BadImageError when it is too small to show anything."""
    if min(image.shape[:2]) < SMALLEST_PX:
        raise BadImageError(f'the picture has {image.shape[1]} x {image.shape[0]} pixels: at '
                            f'least {SMALLEST_PX} x {SMALLEST_PX} are needed')
    return image

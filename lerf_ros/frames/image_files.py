# SPDX-License-Identifier: Apache-2.0
"""Reads colour images and masks, on disk or in a zip archive."""

from __future__ import annotations

import io
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image

from lerf_ros.errors import DatasetError
from lerf_ros.geometry.camera import PinholeCamera

File: TypeAlias = 'Path | zipfile.Path'
# Opacity below which a pixel shows the background, or a colour that is meaningless.
OPAQUE = 0.95
HEIC_ENDINGS = ('.heic', '.heif')
HEIC_BRANDS = (b'heic', b'heix', b'heim', b'hevc', b'hevx', b'mif1', b'msf1')
# Largest value that counts as black in JPEG masks, whose compression adds noise.
JPEG_BLACK = 127


@dataclass(frozen=True)
class MaskFile:
    """A mask file; black parts are ignored, or white ones if `white_ignored` is set."""

    path: File
    white_ignored: bool = False


def suffix(file: File) -> str:
    """Returns the ending of a file's name in lower case, with its dot."""
    return PurePosixPath(file.name).suffix.lower()


def read_bytes(file: File) -> bytes:
    """Reads a file; raises DatasetError if that fails or the file is empty."""
    try:
        data = file.read_bytes()
    except (OSError, KeyError) as error:
        raise DatasetError(f'{file} cannot be read: {error}') from error
    if not data:
        raise DatasetError(f'{file} is empty (0 bytes): copy it again or delete it')
    return data


def decode_image(file: File) -> np.ndarray:
    """Decodes an image, (H, W) or (H, W, C), with OpenCV's channel order and the file's own type.

    It is not rotated by the orientation tag, because poses and intrinsics are not rotated either.
    Raises DatasetError for a truncated image, and for a format that must be converted first.
    """
    data = read_bytes(file)
    if suffix(file) in HEIC_ENDINGS or (data[4:8] == b'ftyp' and data[8:12] in HEIC_BRANDS):
        return decode_heic(file, data)
    check_whole(file, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8),
                             cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DatasetError(f'{file} is not an image that OpenCV can read: {error.err}') from error
    if image is None:
        raise DatasetError(f'{file} is not an image that OpenCV can read: convert it to PNG or '
                           'JPEG, or copy it again where it is damaged')
    return image


def check_whole(file: File, data: bytes) -> None:
    """Raises DatasetError for an image with too many pixels, and for a truncated one.

    Decoders fill the missing part of a JPEG with grey, which would be trained on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data)):
                pass
        except Image.DecompressionBombError as error:
            raise DatasetError(f'{file} has more pixels than a camera: {error} Shrink it, or copy '
                               'it again where its header is damaged') from error
        except (OSError, ValueError, SyntaxError):
            return   # Pillow does not know the format; OpenCV may
    jpeg, png = data[:3] == b'\xff\xd8\xff', data[:4] == b'\x89PNG'
    if (jpeg and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda')) or (
            png and b'IEND' not in data):
        raise DatasetError(f'{file} is cut off: its end is missing, copy it again or delete it')


def image_size(file: File) -> tuple[int, int]:
    """Returns width and height of an image, from its header if possible."""
    try:
        with file.open('rb') as stream, Image.open(stream) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        height, width = decode_image(file).shape[:2]
        return width, height


def has_alpha(file: File) -> bool:
    """Returns whether the header of an image declares transparency."""
    if suffix(file) in ('.jpg', '.jpeg'):
        return False
    try:
        with file.open('rb') as stream, Image.open(stream) as image:
            return image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def decode_heic(file: File, data: bytes) -> np.ndarray:
    """Decodes an HEIC image to (H, W, 3) BGR; raises DatasetError without pillow-heif."""
    try:
        import pillow_heif
    except ImportError as error:
        raise DatasetError(
            f'{file} is an HEIC image: pip install pillow-heif, or convert the images to JPEG '
            '(heif-convert, or the camera setting "most compatible")') from error
    try:
        picture = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True).to_pillow()
        return np.asarray(picture.convert('RGB'))[..., ::-1]
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DatasetError(f'{file} is no HEIC image, or it is damaged: {error}') from error


def read_color(file: File) -> np.ndarray:
    """Reads an image as (H, W, 3) uint8 RGB, without regard to an alpha channel."""
    return read_image(file)[0]


def read_image(file: File) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads an image as (H, W, 3) uint8 RGB, and where it is opaque.

    The latter is (H, W) bool, or None if it is opaque everywhere. Grey images become RGB, and 16
    bits become 8. Raises DatasetError for a file that is not such an image.
    """
    image = decode_image(file)
    if image.dtype != np.uint8:
        image = to_8_bits(file, image)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), None
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None
    if image.shape[2] != 4:
        raise DatasetError(f'{file} has {image.shape[2]} channels: 1, 3 or 4 are needed')
    opaque = image[..., 3] >= OPAQUE * 255
    if not opaque.any():
        raise DatasetError(f'{file} is transparent everywhere: its alpha channel hides all of it, '
                           'delete the image or the channel')
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), None if opaque.all() else opaque


def to_8_bits(file: File, image: np.ndarray) -> np.ndarray:
    """Converts 16 bits to 8; raises DatasetError for other types, and for 10 or 12 bits."""
    if image.dtype != np.uint16:
        raise DatasetError(f'{file} holds numbers of type {image.dtype}: a picture has 8 or 16 '
                           'bits, so tone-map it and write PNG')
    largest = image.reshape(*image.shape[:2], -1)[..., :3].max()
    if 0 < largest <= 4095:
        raise DatasetError(f'{file} has 16 bits, but its largest value is {largest}: it holds '
                           '10 or 12 bits and would be black; stretch the images to 16 bits')
    return ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def read_mask(mask: MaskFile) -> np.ndarray:
    """Reads a mask as (H, W) bool, False where the image is to be ignored; raises DatasetError."""
    image = decode_image(mask.path)
    channels = image.reshape(*image.shape[:2], -1)
    if mask.white_ignored:
        return ~np.any(channels[..., :3] > 0, axis=-1)
    black = JPEG_BLACK if suffix(mask.path) in ('.jpg', '.jpeg') else 0
    valid = np.any(channels[..., :3] > black, axis=-1)
    # A cut-out is white with a transparent background.
    return valid & (channels[..., 3] > 0) if channels.shape[-1] == 4 else valid


def shrink(array: np.ndarray, camera: PinholeCamera, interpolation: int) -> np.ndarray:
    """Resizes an array (H, W, ...) to the camera's size."""
    return cv2.resize(array, (camera.width, camera.height), interpolation=interpolation)

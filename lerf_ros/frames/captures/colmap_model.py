# SPDX-License-Identifier: Apache-2.0
"""COLMAP's cameras and images, from its text and its binary files (colmap.github.io/format.html).

pycolmap reads them as well, but it is a build of all of COLMAP; of the documented format two short
tables are needed, and its points are not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.intrinsics import UNDISTORT, parse_camera
from lerf_ros.geometry.camera import PinholeCamera

# By number: the model and the names of its parameters in transforms.json's words.
MODELS = (
    ('SIMPLE_PINHOLE', 'f cx cy'), ('PINHOLE', 'fl_x fl_y cx cy'),
    ('SIMPLE_RADIAL', 'f cx cy k1'), ('RADIAL', 'f cx cy k1 k2'),
    ('OPENCV', 'fl_x fl_y cx cy k1 k2 p1 p2'), ('OPENCV_FISHEYE', 'fl_x fl_y cx cy k1 k2 k3 k4'),
    ('FULL_OPENCV', 'fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 k5 k6'), ('FOV', 'fl_x fl_y cx cy omega'),
    ('SIMPLE_RADIAL_FISHEYE', 'f cx cy k1'), ('RADIAL_FISHEYE', 'f cx cy k1 k2'),
    ('THIN_PRISM_FISHEYE', 'fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 sx1 sy1'))
PARAMETERS = dict(MODELS)


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its camera's number and the world in camera axes (OpenCV's)."""

    name: str
    camera: int
    wxyz: tuple[float, ...]
    position: tuple[float, ...]


@dataclass(frozen=True)
class ColmapModel:
    """Cameras by number, and images in order of their names."""

    cameras: dict[int, PinholeCamera]
    images: tuple[ColmapImage, ...]


def read_model(folder: Path) -> ColmapModel:
    """Reads a folder of cameras and images, .bin or .txt; raises DatasetError."""
    end = '.bin' if (folder / 'images.bin').is_file() else '.txt'
    cameras, images = folder / f'cameras{end}', folder / f'images{end}'
    try:
        if end == '.bin':
            return ColmapModel(dict(binary_cameras(cameras)), in_order(binary_images(images)))
        return ColmapModel(dict(text_cameras(cameras)), in_order(text_images(images)))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{folder} is no model of COLMAP: {error}') from error
    except (struct.error, ValueError, IndexError) as error:
        raise DatasetError(f'{folder}: cameras{end} or images{end} is damaged or of another '
                           f'version of COLMAP ({error}); write it again with colmap '
                           'model_converter') from error


def in_order(images: Iterator[ColmapImage]) -> tuple[ColmapImage, ...]:
    """Images in order of their names."""
    return tuple(sorted(images, key=lambda image: image.name))


def camera_of(model: str, width: int, height: int, parameters: list[float],
              name: str) -> PinholeCamera:
    """A camera of COLMAP's in this package's terms; raises DatasetError for unknown lenses."""
    names = PARAMETERS.get(model, '').split()
    if names and len(names) != len(parameters):
        raise ValueError(f'{model} has {len(names)} parameters, not {len(parameters)}')
    fields: dict[str, Any] = {'camera_model': model, 'w': width, 'h': height,
                              **dict(zip(names, parameters))}
    if 'f' in fields:
        fields['fl_x'] = fields['fl_y'] = fields.pop('f')
    return parse_camera(fields, name)


def binary_cameras(path: Path) -> Iterator[tuple[int, PinholeCamera]]:
    """Number, model, width, height and parameters of each."""
    data = path.read_bytes()
    (count,), at = struct.unpack_from('<Q', data), 8
    for _ in range(count):
        number, model, width, height = struct.unpack_from('<iiQQ', data, at)
        if not 0 <= model < len(MODELS):
            raise DatasetError(f'{path}: camera {number} has model {model}, which is not known; '
                               f'{UNDISTORT}')
        name, names = MODELS[model]
        parameters = struct.unpack_from(f'<{len(names.split())}d', data, at + 24)
        at += 24 + 8 * len(parameters)
        yield number, camera_of(name, width, height, list(parameters), f'{path}: camera {number}')


def binary_images(path: Path) -> Iterator[ColmapImage]:
    """Number, quaternion, position, camera and name of each; the points in it are passed over."""
    data = path.read_bytes()
    (count,), at = struct.unpack_from('<Q', data), 8
    for _ in range(count):
        fields = struct.unpack_from('<i7di', data, at)
        end = data.index(b'\0', at + 64)
        (points,) = struct.unpack_from('<Q', data, end + 1)
        yield ColmapImage(data[at + 64:end].decode(), fields[8], fields[1:5], fields[5:8])
        at = end + 9 + 24 * points


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are no comments, empty ones among them."""
    return (line for line in path.read_text('utf-8').splitlines() if not line.startswith('#'))


def text_cameras(path: Path) -> Iterator[tuple[int, PinholeCamera]]:
    """The same from a text file."""
    for line in filter(str.strip, lines(path)):
        number, model, width, height, *parameters = line.split()
        yield int(number), camera_of(model, int(width), int(height), [float(p) for p in parameters],
                                     f'{path}: camera {number}')


def text_images(path: Path) -> Iterator[ColmapImage]:
    """The same from a text file, where each image has a second line for its points."""
    rows = iter(lines(path))
    for row in rows:
        if not row.strip():
            continue   # the end of the file; an image without points has an empty second line
        words = row.split(maxsplit=9)   # names may have spaces
        numbers = tuple(float(word) for word in words[1:8])
        yield ColmapImage(words[9].strip(), int(words[8]), numbers[:4], numbers[4:])
        next(rows, None)

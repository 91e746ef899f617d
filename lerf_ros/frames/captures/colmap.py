# SPDX-License-Identifier: Apache-2.0
"""Reads COLMAP's workspace: a sparse model, the images beside it, and masks if there are any.

    sparse/0/cameras.bin, images.bin (or .txt)    of several models the one with most images
    images/NAME                                   as the model names them
    masks/NAME.png                                black where an image is ignored

Lengths are in the unit of the model. Dense depth (stereo/depth_maps) is not read. pycolmap reads
the same files but is a build of all of COLMAP; of the documented format
(colmap.github.io/format.html) only two short tables are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.file_finder import FileFinder
from lerf_ros.frames.captures.intrinsics import UNDISTORT, parse_camera
from lerf_ros.frames.captures.pose_matrices import pose_of_quaternion
from lerf_ros.frames.captures.posed_folder import (
    STAMP_STEP_NS,
    Capture,
    FrameEntry,
    Notes,
    first_names,
)
from lerf_ros.frames.captures.transforms_json import FEWEST_LEFT, MOST_MISSING
from lerf_ros.frames.image_files import MaskFile
from lerf_ros.geometry.camera import PinholeCamera, invert_pose

# Folders of a capture that may hold models, and folders next to a model that may hold images.
PLACES = ('sparse', 'colmap/sparse', 'dense/sparse', '.')
IMAGE_FOLDERS = ('images', 'input', 'rgb', 'color', '.')
# Camera models by their number: name and parameters, as transforms.json calls them.
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
    """A registered image: its camera's number and the pose T_camera_world with OpenCV axes.

    wxyz: the rotation as a quaternion. position: the translation.
    """

    name: str
    camera: int
    wxyz: tuple[float, ...]
    position: tuple[float, ...]


@dataclass(frozen=True)
class ColmapModel:
    """Cameras by number, and images in the order of their names."""

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
    """Sorts images by name."""
    return tuple(sorted(images, key=lambda image: image.name))


def camera_of(model: str, width: int, height: int, parameters: list[float],
              name: str) -> PinholeCamera:
    """Converts a camera of COLMAP; raises DatasetError for a lens that is not supported."""
    names = PARAMETERS.get(model, '').split()
    if names and len(names) != len(parameters):
        raise ValueError(f'{model} has {len(names)} parameters, not {len(parameters)}')
    fields: dict[str, object] = {'camera_model': model, 'w': width, 'h': height,
                                 **dict(zip(names, parameters))}
    if 'f' in fields:
        fields['fl_x'] = fields['fl_y'] = fields.pop('f')
    return parse_camera(fields, name)


def binary_cameras(path: Path) -> Iterator[tuple[int, PinholeCamera]]:
    """Yields number and camera from cameras.bin."""
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
    """Yields the images in images.bin; the points in them are skipped."""
    data = path.read_bytes()
    (count,), at = struct.unpack_from('<Q', data), 8
    for _ in range(count):
        fields = struct.unpack_from('<i7di', data, at)
        end = data.index(b'\0', at + 64)
        (points,) = struct.unpack_from('<Q', data, end + 1)
        yield ColmapImage(data[at + 64:end].decode(), fields[8], fields[1:5], fields[5:8])
        at = end + 9 + 24 * points


def lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file without comments but with empty lines."""
    return (line for line in path.read_text('utf-8').splitlines() if not line.startswith('#'))


def text_cameras(path: Path) -> Iterator[tuple[int, PinholeCamera]]:
    """Yields number and camera from cameras.txt."""
    for line in filter(str.strip, lines(path)):
        number, model, width, height, *parameters = line.split()
        yield int(number), camera_of(model, int(width), int(height), [float(p) for p in parameters],
                                     f'{path}: camera {number}')


def text_images(path: Path) -> Iterator[ColmapImage]:
    """Yields the images in images.txt, where each has a second line for its points."""
    rows = iter(lines(path))
    for row in rows:
        if not row.strip():
            continue   # end of the file; the second line of an image without points is empty too
        words = row.split(maxsplit=9)   # names may have spaces
        numbers = tuple(float(word) for word in words[1:8])
        yield ColmapImage(words[9].strip(), int(words[8]), numbers[:4], numbers[4:])
        next(rows, None)


def models(folder: Path) -> list[Path]:
    """Returns the folders of models of a capture, from the first location that holds any."""
    for place in PLACES:
        base = folder / place
        found = [p for p in (base, *sorted(base.glob('[0-9]*')))
                 if any((p / f'images{end}').is_file() and (p / f'cameras{end}').is_file()
                        for end in ('.bin', '.txt'))]
        if found:
            return found
    return []


def is_colmap(folder: Path) -> bool:
    """Returns whether a folder holds a model of COLMAP."""
    return bool(models(folder))


def read_colmap(folder: Path) -> Capture:
    """Reads the images of the largest model in the order of their names; raises DatasetError."""
    notes, read = Notes(), {path: read_model(path) for path in models(folder)}
    path, model = max(read.items(), key=lambda item: len(item[1].images))
    if len(read) > 1:
        notes.add(f'COLMAP made {len(read)} models of these images, which do not fit together: '
                  f'{path} is read, it has most images ({len(model.images)})')
    if (folder / 'stereo' / 'depth_maps').is_dir():
        notes.add("COLMAP's dense depth (stereo/depth_maps) is not read")
    images = find_images(folder, path, model, notes)
    entries = tuple(entry(folder, model, image, file, i)
                    for i, (image, file) in enumerate(images))
    return Capture(entries, tuple(image.name for image, _ in images), False, notes.lines())


def find_images(folder: Path, path: Path, model: ColmapModel,
                notes: Notes) -> list[tuple[ColmapImage, Path]]:
    """Finds the files of the images, in the folder that holds most of them.

    Raises DatasetError if too many are missing.
    """
    names = [image.name for image in model.images]
    bases = [base / name for base in (folder, path.parent, path.parent.parent)
             for name in IMAGE_FOLDERS]
    base = max(bases, key=lambda b: sum((b / name).is_file() for name in names))
    finder = FileFinder(base)
    found = [(image, finder.find(image.name)) for image in model.images]
    missing = [image.name for image, file in found if file is None]
    if len(missing) > MOST_MISSING * len(names) or len(names) - len(missing) < FEWEST_LEFT:
        raise DatasetError(f'{path} has {len(names)} images, of which {len(missing)} are not in '
                           f'{folder / IMAGE_FOLDERS[0]} or beside it ({first_names(missing)})'
                           if missing else f'{path} has {len(names)} images: two are needed')
    for name in missing:
        notes.add('images that do not exist are left out', name)
    return [(image, file) for image, file in found if file is not None]


def entry(folder: Path, model: ColmapModel, image: ColmapImage, file: Path,
          index: int) -> FrameEntry:
    """Builds the entry of one image, with its camera, pose and mask."""
    if image.camera not in model.cameras:
        raise DatasetError(f'{image.name}: camera {image.camera} is missing in the model')
    w, x, y, z = image.wxyz
    T_camera_world = pose_of_quaternion((x, y, z, w), image.position, image.name)
    mask = folder / 'masks' / f'{image.name}.png'
    return FrameEntry(file, model.cameras[image.camera], invert_pose(T_camera_world),
                      index * STAMP_STEP_NS,
                      masks=(MaskFile(mask),) if mask.is_file() else ())

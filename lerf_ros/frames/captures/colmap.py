# SPDX-License-Identifier: Apache-2.0
"""Reads COLMAP's workspace: a sparse model, the images beside it, and masks where there are any.

    sparse/0/cameras.bin, images.bin (or .txt)    of several models the one with most images
    images/NAME                                   as the model names them
    masks/NAME.png                                black where an image is ignored

Lengths are in the model's own unit. Dense depth (stereo/depth_maps) is not read.
"""

from __future__ import annotations

from pathlib import Path

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.colmap_model import ColmapImage, ColmapModel, read_model
from lerf_ros.frames.captures.file_finder import FileFinder
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
from lerf_ros.geometry.camera import invert_pose

# Where models are below a capture, and the folders that images have beside them.
PLACES = ('sparse', 'colmap/sparse', 'dense/sparse', '.')
IMAGE_FOLDERS = ('images', 'input', 'rgb', 'color', '.')


def models(folder: Path) -> list[Path]:
    """The folders of models below a capture, in the first place that has any."""
    for place in PLACES:
        base = folder / place
        found = [p for p in (base, *sorted(base.glob('[0-9]*')))
                 if any((p / f'images{end}').is_file() and (p / f'cameras{end}').is_file()
                        for end in ('.bin', '.txt'))]
        if found:
            return found
    return []


def is_colmap(folder: Path) -> bool:
    """Whether a folder holds a model of COLMAP."""
    return bool(models(folder))


def read_colmap(folder: Path) -> Capture:
    """Reads the images of the largest model in order of their names; raises DatasetError."""
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
    """The files of the images, from the folder that holds most of them; DatasetError where too
    many are missing."""
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
    """One image with its camera, its pose and its mask."""
    if image.camera not in model.cameras:
        raise DatasetError(f'{image.name}: camera {image.camera} is missing in the model')
    w, x, y, z = image.wxyz
    T_camera_world = pose_of_quaternion((x, y, z, w), image.position, image.name)
    mask = folder / 'masks' / f'{image.name}.png'
    return FrameEntry(file, model.cameras[image.camera], invert_pose(T_camera_world),
                      index * STAMP_STEP_NS,
                      masks=(MaskFile(mask),) if mask.is_file() else ())

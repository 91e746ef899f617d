# SPDX-License-Identifier: Apache-2.0
"""Reads transforms.json, the layout of nerfstudio, instant-ngp and NeRFCapture.

Poses are camera-to-world with OpenGL axes. `depth_file_path` is nerfstudio's depth: integers are
millimetres unless `depth_unit_scale_factor` is given. `depth_path` is instant-ngp's depth, in units
of `integer_depth_scale`. As in other tools, listed images that do not exist are left out, up to a
fraction of MOST_MISSING.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.file_finder import FileFinder, natural_key
from lerf_ros.frames.captures.intrinsics import merged_fields, number, parse_camera
from lerf_ros.frames.captures.known_fields import check_fields
from lerf_ros.frames.captures.pose_matrices import parse_pose
from lerf_ros.frames.captures.posed_folder import (
    STAMP_STEP_NS,
    Capture,
    FrameEntry,
    Notes,
    first_names,
    scaled_pose,
)
from lerf_ros.frames.depth_files import DepthFile
from lerf_ros.frames.image_files import MaskFile, image_size
from lerf_ros.geometry.camera import opengl_to_opencv

FILE_NAME = 'transforms.json'
# The file of training images in Blender's synthetic scenes.
BLENDER_NAME = 'transforms_train.json'
# Fraction of the listed images that may be missing, and number that must be left.
MOST_MISSING, FEWEST_LEFT = 0.5, 2


def read_transforms(path: Path, most_missing: float = MOST_MISSING) -> Capture:
    """Reads a transforms.json, in the order of the file names; no image is decoded.

    most_missing: the fraction of listed images that may be missing. Raises DatasetError, which
    names the frame, for what cannot be used.
    """
    content, notes, finder = read_json(path), Notes(), FileFinder(path.parent)
    check_fields({k: v for k, v in content.items() if k != 'frames'}, path.name, notes)
    frames = wanted_frames(content, frames_by_name(content), notes)
    images = find_images(path, finder, frames, most_missing, notes)
    entries = [parse_frame(finder, content, frames[i], i, notes, image)
               for i, image in images.items()]
    if finder.moved:
        notes.add('files are not where the capture says and were found by the end of their paths '
                  f'below {path.parent}: {finder.moved[0]} and {len(finder.moved) - 1} others')
    unscale = 1.0 / applied_scale(content, notes)
    entries = [replace(e, T_world_camera=scaled_pose(e.T_world_camera, unscale)) for e in entries]
    has_depth = all(entry.depth is not None for entry in entries)
    return Capture(tuple(entries), tuple(str(frames[i]['file_path']) for i in images),
                   bool(content.get('metric', has_depth)), notes.lines())


def posed_images(folder: str | Path, most: int) -> list[FrameEntry]:
    """Returns the entries of at most `most` images of a folder, evenly spread; reads no image.

    folder: holds a transforms.json. Raises DatasetError.
    """
    path = Path(folder) / FILE_NAME
    content, finder = read_json(path), FileFinder(path.parent)
    frames = frames_by_name(content)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), most)).astype(int))
    return [parse_frame(finder, content, frames[i], i) for i in chosen.tolist()]


def frames_by_name(content: Mapping[str, object]) -> list[dict[str, object]]:
    """Returns the frames of transforms.json in the order of their file names."""
    frames = content['frames']
    assert isinstance(frames, list)     # read_json checked it
    return sorted(frames, key=lambda frame: str(frame.get('file_path', '')))


def read_json(path: Path) -> dict[str, object]:
    """Reads transforms.json; raises DatasetError if it is missing or has no list of frames."""
    try:
        content = json.loads(path.read_bytes())   # any Unicode encoding
    except OSError as error:
        raise DatasetError(f'{path} cannot be read ({error.strerror}): the folder must be in '
                           "nerfstudio's layout") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path} is not JSON: {error}') from error
    frames = content.get('frames') if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise DatasetError(f'{path} has no list of frames')
    return content


def wanted_frames(content: Mapping[str, object], frames: Sequence[dict[str, object]],
                  notes: Notes) -> list[dict[str, object]]:
    """Returns the frames without those that the file excludes by `n_frames` and `is_bad`."""
    kept = list(frames)
    count = content.get('n_frames')
    if isinstance(count, int) and 0 < count < len(kept):
        first = sorted(kept, key=lambda f: natural_key(str(f.get('file_path', ''))))[:count]
        kept = [frame for frame in kept if any(frame is f for f in first)]
        notes.add(f'n_frames = {count}: the other {len(frames) - count} images are left out')
    bad = [frame for frame in kept if frame.get('is_bad') is True]
    for frame in bad:
        notes.add('images that the file calls bad (is_bad) are left out',
                  str(frame.get('file_path')))
    kept = [frame for frame in kept if frame.get('is_bad') is not True]
    if not kept:
        raise DatasetError('all images are called bad (is_bad): none is left')
    return kept


def find_images(path: Path, finder: FileFinder, frames: Sequence[Mapping[str, object]],
                most_missing: float, notes: Notes) -> dict[int, Path]:
    """Finds the image of each frame, by the frame's number; missing images are left out.

    Raises DatasetError if too many are missing, and for two frames with the same image.
    """
    found: dict[int, Path] = {}
    missing: list[str] = []
    for i, frame in enumerate(frames):
        name = frame.get('file_path')
        if not isinstance(name, str) or not name:
            raise DatasetError(f'frame {i} of {path} has no file_path')
        image = finder.find(name)
        if image is None:
            missing.append(name)
        else:
            found[i] = image
    if len(missing) > most_missing * len(frames) or (missing and len(found) < FEWEST_LEFT):
        raise DatasetError(
            f'{path} lists {len(frames)} images, {len(missing)} of them do not exist below '
            f'{path.parent}, or several files could be meant ({first_names(missing)}): at most '
            f'{most_missing:.0%} may be missing')
    for name in missing:
        notes.add('images that do not exist are left out', name)
    return without_repeated(found, frames, notes)


def without_repeated(found: Mapping[int, Path], frames: Sequence[Mapping[str, object]],
                     notes: Notes) -> dict[int, Path]:
    """Returns each image once; raises DatasetError for one with two poses or two names."""
    users: defaultdict[Path, list[int]] = defaultdict(list)
    for i, image in found.items():
        users[image.resolve()].append(i)
    for image, numbers in users.items():
        first = frames[numbers[0]]
        for i in numbers[1:]:
            if any(frames[i].get(k) != first.get(k) for k in ('file_path', 'transform_matrix')):
                raise DatasetError(
                    f'{first["file_path"]} and {frames[i]["file_path"]} are both {image}, with a '
                    'pose each: name the images so that they can be told apart')
            notes.add('images that are listed twice are taken once', str(first['file_path']))
    return {numbers[0]: found[numbers[0]] for numbers in users.values()}


def parse_frame(finder: FileFinder, content: Mapping[str, object], frame: Mapping[str, object],
                index: int, notes: Notes | None = None, image: Path | None = None) -> FrameEntry:
    """Builds the entry of a frame, whose own fields take precedence over those of the file.

    image: the file of the image, if it was found before. Raises DatasetError.
    """
    notes = Notes() if notes is None else notes
    name = str(frame.get('file_path', f'frame {index}'))
    check_fields(frame, name, notes)
    image = finder.existing(name, 'the image', colour=True) if image is None else image
    fields = merged_fields(content, frame)
    camera = parse_camera(fields, name, partial(image_size, image), notes)
    radius = fields.get('fisheye_crop_radius')
    matrix = frame.get('transform_matrix', frame.get('transform_matrix_start'))
    return FrameEntry(
        image, camera, opengl_to_opencv(parse_pose(matrix, name, notes)),
        stamp_of(frame, name, index),
        depth_of(finder, fields, name, notes), masks_of(finder, frame, image, name),
        crop_radius_px=None if radius is None else number(fields, 'fisheye_crop_radius', name))


def stamp_of(frame: Mapping[str, object], name: str, index: int) -> int:
    """Returns the stamp of a frame in nanoseconds; integers stay exact."""
    stamp = frame.get('stamp_ns', index * STAMP_STEP_NS)
    return stamp if isinstance(stamp, int) else int(number(frame, 'stamp_ns', name))


def depth_of(finder: FileFinder, fields: Mapping[str, object], name: str,
             notes: Notes) -> DepthFile | None:
    """Returns the depth of a frame from the fields of nerfstudio or instant-ngp, if it has one."""
    for field, unit in (('depth_file_path', 'depth_unit_scale_factor'),
                        ('depth_path', 'integer_depth_scale')):
        written = fields.get(field)
        if not written:
            continue
        other = {'depth_unit_scale_factor', 'integer_depth_scale'} - {unit}
        if field == 'depth_path' and fields.get('enable_depth_loading') is False:
            notes.add('depth is not read, because enable_depth_loading is false')
            return None
        said = next((u for u in (unit, *other) if fields.get(u) is not None), None)
        if said is None and field == 'depth_path':
            raise DatasetError(f'{name}: depth_path is given without integer_depth_scale, the '
                               'length of a step: add it (millimetres: 0.001)')
        unit_m = None if said is None else number(fields, said, name)
        if unit_m is not None and unit_m <= 0:
            raise DatasetError(f'{name}: {said} = {unit_m:g}: must be positive')
        return DepthFile(finder.existing(str(written), f'the depth of {name}'), unit_m)
    return None


def masks_of(finder: FileFinder, frame: Mapping[str, object], image: Path,
             name: str) -> tuple[MaskFile, ...]:
    """Returns the masks that a frame names, and instant-ngp's dynamic_mask next to the image."""
    named = [frame[key] for key in ('mask_path', 'mask_file_path') if frame.get(key)]
    masks = [MaskFile(finder.existing(str(mask), f'the mask of {name}')) for mask in named]
    dynamic = image.with_name(f'dynamic_mask_{image.stem}.png')
    return (*masks, MaskFile(dynamic, white_ignored=True)) if dynamic.is_file() else tuple(masks)


def applied_scale(content: Mapping[str, object], notes: Notes) -> float:
    """Returns the factor by which nerfstudio's tools had multiplied the positions."""
    scale = number(content, 'applied_scale', FILE_NAME, 1.0)
    transform = content.get('applied_transform')
    if transform is not None:
        try:
            scale *= abs(np.linalg.det(np.array(transform, np.float64)[:3, :3])) ** (1 / 3)
        except (IndexError, TypeError, ValueError, ArithmeticError,
                np.linalg.LinAlgError) as error:
            raise DatasetError(f'{FILE_NAME}: applied_transform is not a matrix of three rows of '
                               'numbers') from error
    if not 0 < scale < np.inf:
        raise DatasetError(f'{FILE_NAME}: applied_scale and applied_transform scale the world by '
                           f'{scale:g}: must be positive')
    if abs(scale - 1) <= 1e-4:
        return 1.0
    notes.add(f'positions were scaled by {scale:.6g} when the file was written (applied_scale): '
              'they are divided by it again')
    return float(scale)

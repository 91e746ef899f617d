# SPDX-License-Identifier: Apache-2.0
"""Reads Record3D's captures: the `.r3d` archive, the same unpacked, and the export EXR + RGBD.

    metadata, rgbd/0.jpg, rgbd/0.depth, rgbd/0.conf    .r3d; depth as float32 metres in LZFSE
    metadata.json, rgb/0.jpg, depth/0.exr              EXR + RGBD

The metadata hold `poses` (ARKit; qx, qy, qz, qw, x, y, z in metres), `K` column by column,
`perFrameIntrinsicCoeffs` (fx, fy, cx, cy), the sizes w, h of images and dw, dh of depth, and
`frameTimestamps` in seconds. Confidence is 0 (low) to 2. The package `record3d` streams from the
device over a cable and reads no files.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.intrinsics import number as number_of
from lerf_ros.frames.captures.intrinsics import parse_camera
from lerf_ros.frames.captures.pose_matrices import from_arkit, pose_of_quaternion
from lerf_ros.frames.captures.posed_folder import STAMP_STEP_NS, Capture, FrameEntry, Notes
from lerf_ros.frames.depth_files import FLOAT_UNIT_M, DepthFile
from lerf_ros.frames.image_files import File, image_size, suffix
from lerf_ros.geometry.camera import PinholeCamera

ARCHIVE = '.r3d'
METADATA_NAMES = ('metadata', 'metadata.json')
# Names of the folders of images and of depth.
LAYOUTS = (('rgbd', 'rgbd'), ('rgb', 'depth'))
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png')


class Metadata(TypedDict, total=False):
    """The fields of the metadata that are read; they are checked where they are used."""

    poses: list[list[float]]
    K: list[float]
    perFrameIntrinsicCoeffs: list[list[float]]
    w: int
    h: int
    dw: int
    dh: int
    frameTimestamps: list[float]


def is_record3d(folder: Path) -> bool:
    """Returns whether a folder is an unpacked archive or an export of Record3D."""
    return any((folder / name).is_file() for name in METADATA_NAMES) and any(
        (folder / images).is_dir() for images, _ in LAYOUTS)


def read_record3d(path: Path) -> Capture:
    """Reads an archive or a folder in the order of the images' numbers; raises DatasetError."""
    root: File = path
    if path.is_file():
        try:
            root = zipfile.Path(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f'{path} is no archive of Record3D: {error}') from error
    metadata, notes = read_metadata(root, path), Notes()
    images, depths = next(((root / i, root / d) for i, d in LAYOUTS if (root / i).is_dir()),
                          (root / 'rgbd', root / 'rgbd'))
    files = {int(stem(f)): f for f in children(images)
             if suffix(f) in IMAGE_ENDINGS and stem(f).isdigit()}
    poses = metadata['poses']
    unposed = sorted(number for number in files if number >= len(poses))
    for number in unposed:
        notes.add('images without a pose are left out', files[number].name)
    if len(files) == len(unposed):
        raise DatasetError(f'{path} holds no image with a pose')
    beside = {f.name: f for f in children(depths)}
    entries = tuple(read_frame(metadata, files[number], beside, number)
                    for number in sorted(files) if number < len(poses))
    names = tuple(f'{images.name}/{e.image_path.name}' for e in entries)
    return Capture(entries, names, True, notes.lines())


def read_metadata(root: File, path: Path) -> Metadata:
    """Reads the metadata; raises DatasetError if they are missing or hold no poses."""
    for name in METADATA_NAMES:
        if (root / name).is_file():
            try:
                content = json.loads((root / name).read_bytes())
            except (OSError, ValueError) as error:
                raise DatasetError(f'{path}: {name} is not JSON: {error}') from error
            if isinstance(content, dict) and isinstance(content.get('poses'), list):
                return cast(Metadata, content)
    raise DatasetError(f'{path} has no metadata with poses: export it from Record3D again')


def read_frame(metadata: Metadata, image: File, beside: Mapping[str, File],
               number: int) -> FrameEntry:
    """Builds the entry of one image, with the depth of the same number if there is one."""
    name = str(image)
    pose = metadata['poses'][number]
    if not isinstance(pose, list) or len(pose) != 7:
        raise DatasetError(f'{name}: its pose is not a quaternion and a position (7 numbers)')
    T = from_arkit(pose_of_quaternion(pose[:4], pose[4:], name))
    height, width = metadata.get('dh'), metadata.get('dw')
    known = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    depth = next((beside[f'{number}{end}'] for end in ('.depth', '.exr')
                  if f'{number}{end}' in beside), None)
    stamps = metadata.get('frameTimestamps')
    stamp_ns = (int(number_of({'frameTimestamps': stamps[number]}, 'frameTimestamps', name) * 1e9)
                if isinstance(stamps, list) and number < len(stamps) else number * STAMP_STEP_NS)
    return FrameEntry(image, camera_of(metadata, image, number), T, stamp_ns, None
                      if depth is None else DepthFile(depth, FLOAT_UNIT_M,
                                                      beside.get(f'{number}.conf'), known))


def camera_of(metadata: Metadata, image: File, number: int) -> PinholeCamera:
    """Returns the intrinsics of one image at its actual size; raises DatasetError."""
    try:
        coefficients = metadata.get('perFrameIntrinsicCoeffs')
        if coefficients and number < len(coefficients):
            fx, fy, cx, cy = coefficients[number][:4]
        else:
            K = metadata['K']
            fx, fy, cx, cy = K[0], K[4], K[6], K[7]
        fields = {'fl_x': fx, 'fl_y': fy, 'cx': cx, 'cy': cy, 'w': metadata['w'],
                  'h': metadata['h']}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DatasetError(f'{image}: the metadata hold no intrinsics '
                           f'({type(error).__name__} {error})') from error
    camera = parse_camera(fields, str(image))
    width, height = image_size(image)
    same_proportions = width * camera.height == height * camera.width
    # Intrinsics refer to w and h; some versions write larger images.
    return camera.resized(width, height) if same_proportions else camera


def children(folder: File) -> list[File]:
    """Returns the content of a folder, on disk or in an archive; empty if there is none."""
    return list(folder.iterdir()) if folder.is_dir() else []


def stem(file: File) -> str:
    """Returns the name of a file without its ending."""
    return file.name.rsplit('.', 1)[0]

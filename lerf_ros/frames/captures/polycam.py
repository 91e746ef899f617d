# SPDX-License-Identifier: Apache-2.0
"""Reads Polycam's raw data export, as github.com/PolyCam/polyform documents it.

    keyframes/images, cameras                        a JPEG and a JSON for each, named by stamp
    keyframes/corrected_images, corrected_cameras    optimised ones, if the session was short
    keyframes/depth, confidence                      PNG, millimetres; 0 low, 127 medium, 255 high

Cameras hold fx, fy, cx, cy, width, height and the rows t_00 to t_23 of an ARKit pose, in metres.
Undistortion leaves a black border in corrected images, which is ignored as in nerfstudio.
"""

from __future__ import annotations

import json
from pathlib import Path

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.intrinsics import number, parse_camera
from lerf_ros.frames.captures.pose_matrices import from_arkit, parse_pose
from lerf_ros.frames.captures.posed_folder import STAMP_STEP_NS, Capture, FrameEntry, Notes
from lerf_ros.frames.depth_files import INTEGER_UNIT_M, DepthFile

FOLDER = 'keyframes'
CORRECTED, ORIGINAL = ('corrected_images', 'corrected_cameras'), ('images', 'cameras')
BORDER_PX = 15
INTRINSICS = {'w': 'width', 'h': 'height', 'fl_x': 'fx', 'fl_y': 'fy', 'cx': 'cx', 'cy': 'cy'}


def is_polycam(folder: Path) -> bool:
    """Returns whether a folder is an export of Polycam's raw data."""
    return any((folder / FOLDER / cameras).is_dir() for _, cameras in (CORRECTED, ORIGINAL))


def read_polycam(folder: Path) -> Capture:
    """Reads the keyframes in the order of their stamps; raises DatasetError."""
    keyframes, notes = folder / FOLDER, Notes()
    corrected = all((keyframes / part).is_dir() for part in CORRECTED)
    images, cameras = CORRECTED if corrected else ORIGINAL
    if not corrected:
        notes.add('Polycam did not correct this capture (session too long, or exported before '
                  'processing): poses are those of the telephone')
    entries: list[FrameEntry] = []
    names: list[str] = []
    for path in sorted((keyframes / cameras).glob('*.json')):
        image = next((p for p in sorted((keyframes / images).glob(f'{path.stem}.*'))), None)
        if image is None:
            notes.add('keyframes without an image are left out', path.stem)
            continue
        entries.append(read_keyframe(keyframes, path, image, len(entries), corrected))
        names.append(f'{FOLDER}/{images}/{image.name}')
    if not entries:
        raise DatasetError(f'{keyframes / cameras} holds no camera with an image in '
                           f'{keyframes / images}: export raw data from Polycam again')
    return Capture(tuple(entries), tuple(names), True, notes.lines())


def read_keyframe(keyframes: Path, path: Path, image: Path, index: int,
                  corrected: bool) -> FrameEntry:
    """Builds the entry of one keyframe from the JSON file of its camera; raises DatasetError."""
    try:
        fields = json.loads(path.read_bytes())
        rows = [[fields[f't_{i}{j}'] for j in range(4)] for i in range(3)]
        camera = parse_camera({ours: fields[theirs] for ours, theirs in INTRINSICS.items()},
                              str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no camera of Polycam's: "
                           f'{type(error).__name__} {error}') from error
    stamp_ns = (int(number(fields, 'timestamp', str(path))) * 1000 if 'timestamp' in fields else
                int(path.stem) * 1000 if path.stem.isdigit() else index * STAMP_STEP_NS)
    depth, confidence = (keyframes / part / f'{path.stem}.png' for part in ('depth', 'confidence'))
    return FrameEntry(
        image, camera, from_arkit(parse_pose(rows, str(path))), stamp_ns,
        DepthFile(depth, INTEGER_UNIT_M, confidence if confidence.is_file() else None)
        if depth.is_file() else None, border_px=BORDER_PX if corrected else 0)

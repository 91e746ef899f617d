# SPDX-License-Identifier: Apache-2.0
"""Opens captures on disk: recognises the layout and calls its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.colmap import is_colmap, read_colmap
from lerf_ros.frames.captures.polycam import is_polycam, read_polycam
from lerf_ros.frames.captures.posed_folder import (
    Capture,
    FrameEntry,
    LazyFrames,
    Notes,
    PosedFolder,
)
from lerf_ros.frames.captures.record3d import ARCHIVE, is_record3d, read_record3d
from lerf_ros.frames.captures.transforms_json import (
    BLENDER_NAME,
    FILE_NAME,
    MOST_MISSING,
    read_transforms,
)
from lerf_ros.frames.image_files import MaskFile, has_alpha

LAYOUTS = (f'{FILE_NAME} (nerfstudio, instant-ngp, NeRFCapture), keyframes/cameras (raw data of '
           'Polycam), metadata and rgbd or rgb (Record3D), sparse/0 (COLMAP)')
# Layouts that are not read, by a file that identifies them, and what converts them.
CONVERTERS = {
    'meta_data.json': 'a capture of SDFStudio: its camtoworld has OpenCV axes; write '
                      f'{FILE_NAME} with the columns of y and z negated',
    'poses_bounds.npy': 'a capture of LLFF: run colmap on its images, or imgs2poses',
    'cameras.xml': "an export of Metashape's: ns-process-data metashape",
    'reconstruction.json': "an export of OpenSfM's or ODM's: ns-process-data odm",
    'cameras.sfm': "a scene of Meshroom's: export it to COLMAP or run mr2nerf",
    'database.db': 'a database of COLMAP without a model: run colmap mapper',
    'metadata.yaml': 'a rosbag2: play it with the replay node (-p bag:=PATH)'}
FILE_CONVERTERS = {
    '.zip': 'an archive: unpack it and give the folder',
    '.mp4': 'a video: ns-process-data video makes a capture of it',
    '.mov': 'a video: ns-process-data video makes a capture of it',
    '.bag': 'a ROS 1 bag: rosbags-convert, then the replay node (-p bag:=PATH)',
    '.mcap': 'a bag: play it with the replay node (-p bag:=PATH)',
    '.db3': 'a bag: play its folder with the replay node (-p bag:=PATH)',
    '.ply': 'a cloud without images', '.glb': 'a mesh without images',
    '.csv': "an export of RealityCapture's: ns-process-data realitycapture"}


def load_folder(folder: str | Path, scale: float = 1.0, mask_path: str | Path | None = None,
                max_side: int = 0, most_missing: float = MOST_MISSING) -> PosedFolder:
    """Opens a capture of any known layout; images, depth and masks are read on access.

    folder: the folder of the capture, its transforms.json or another file of this layout, or an
    archive of Record3D. scale: multiplies the translations, for captures that are not in metres
    (depth always is). mask_path: one image for all frames, black where the robot sees itself.
    max_side: larger images are shrunk to it, in pixels; 0 leaves them. most_missing: the fraction
    of listed images that may be missing. Raises DatasetError for what cannot be used.
    """
    path = Path(folder)
    capture = read_capture(path, most_missing).scaled(scale)
    if mask_path is not None:
        if not Path(mask_path).is_file():
            raise DatasetError(f'the mask {mask_path} does not exist')
        capture = capture.with_masks([MaskFile(Path(mask_path))])
    entries = capture.entries
    transparency = alpha_note(capture)
    return PosedFolder(
        LazyFrames(entries, max_side), capture.metric, capture.names,
        (*capture.notes, *transparency), any(e.depth is not None for e in entries),
        bool(transparency) or any(e.masks or e.border_px or e.crop_radius_px for e in entries),
        path.parent if path.suffix.lower() == '.json' else path, files_of(path, entries))


def files_of(path: Path, entries: Iterable[FrameEntry]) -> tuple[Path, ...]:
    """Returns the files of a capture, once each; for those in an archive, the archive."""
    files = {file for entry in entries for file in entry.files() if isinstance(file, Path)}
    return (*sorted(files), *([path] if path.is_file() else []))


def read_capture(path: Path, most_missing: float) -> Capture:
    """Reads a path with the reader of its layout; raises DatasetError if there is none."""
    if path.is_file():
        return file_reader(path)(path, most_missing)
    if not path.is_dir():
        raise DatasetError(f'{path} is not a folder: give one that holds {LAYOUTS}')
    if (path / FILE_NAME).is_file():
        return read_transforms(path / FILE_NAME, most_missing)
    for recognised, read in ((is_polycam, read_polycam), (is_record3d, read_record3d),
                             (is_colmap, read_colmap)):
        if recognised(path):
            return read(path)
    if (path / BLENDER_NAME).is_file():
        return noted(read_transforms(path / BLENDER_NAME, most_missing),
                     f'{BLENDER_NAME} is read; images for validation and tests are left out')
    archives = sorted(path.glob(f'*{ARCHIVE}'))
    if len(archives) == 1:
        return read_record3d(archives[0])
    for name, way_out in CONVERTERS.items():
        if (path / name).is_file():
            raise DatasetError(f'{path} holds {name}, {way_out}')
    raise DatasetError(f'{path} is no capture that can be read: {FILE_NAME} cannot be read (No '
                       f'such file), and there is none of {LAYOUTS}')


def file_reader(path: Path) -> Callable[[Path, float], Capture]:
    """Returns the reader of a file; raises DatasetError that names a converter if there is none."""
    ending = path.suffix.lower()
    if ending == '.json':
        return read_transforms
    if ending == ARCHIVE:
        return lambda file, _: read_record3d(file)
    raise DatasetError(f'{path} is {FILE_CONVERTERS.get(ending, "no capture")}; a folder is '
                       f'needed that holds {LAYOUTS}')


def noted(capture: Capture, text: str) -> Capture:
    """Returns the capture with a further note."""
    return replace(capture, notes=(*capture.notes, text))


def alpha_note(capture: Capture) -> tuple[str, ...]:
    """Returns a note that names the images whose transparency counts as a mask, if any."""
    notes = Notes()
    for entry, name in zip(capture.entries, capture.names):
        if has_alpha(entry.image_path):
            notes.add('images have an alpha channel: what is transparent in them is ignored', name)
    return notes.lines()

# SPDX-License-Identifier: Apache-2.0
"""Reads folders of posed images in nerfstudio's layout (transforms.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np

from lerf_ros.camera import FISHEYE, PINHOLE, PinholeCamera, opengl_to_opencv
from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.keyframes.frame import Frame
from lerf_ros.keyframes.image_files import read_color, read_depth, read_mask, shrink

FILE_NAME = 'transforms.json'
# Images without a stamp are taken to be this far apart (10 Hz).
STAMP_STEP_NS = 100_000_000
# Millimetres, as in nerfstudio.
DEPTH_UNIT_M = 1e-3
PINHOLE_MODELS = ('SIMPLE_PINHOLE', 'PINHOLE', 'SIMPLE_RADIAL', 'RADIAL', 'OPENCV',
                  'FULL_OPENCV')
FISHEYE_MODEL = 'OPENCV_FISHEYE'
# The distortion in the file's words, in the order of PinholeCamera.
LENS_FIELDS = {PINHOLE: ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6', 's1', 's2', 's3', 's4',
                         'tau_x', 'tau_y'),
               FISHEYE: ('k1', 'k2', 'k3', 'k4')}


@dataclass(frozen=True)
class FrameEntry:
    """One frame of the file, not read yet; paths are absolute."""

    image_path: Path
    camera: PinholeCamera
    T_world_camera: np.ndarray
    stamp_ns: int
    depth_path: Path | None
    depth_unit_m: float
    mask_paths: tuple[Path, ...]

    def read(self, max_side: int) -> Frame:
        """Reads image, depth and masks; raises DatasetError that names the file and the reason."""
        camera = self.camera
        image = self._checked(self.image_path, read_color(self.image_path))
        depth = (None if self.depth_path is None else
                 self._checked(self.depth_path, read_depth(self.depth_path, self.depth_unit_m)))
        valid = None
        for path in self.mask_paths:
            mask = self._checked(path, read_mask(path))
            valid = mask if valid is None else valid & mask
        if 0 < max_side < max(camera.width, camera.height):
            ratio = max_side / max(camera.width, camera.height)
            camera = camera.resized(max(round(camera.width * ratio), 1),
                                    max(round(camera.height * ratio), 1))
            image = shrink(image, camera, cv2.INTER_AREA)
            # Averages of depth or of a mask across an edge would be places that do not exist.
            depth = None if depth is None else shrink(depth, camera, cv2.INTER_NEAREST)
            valid = None if valid is None else shrink(
                valid.astype(np.uint8), camera, cv2.INTER_NEAREST).astype(bool)
        try:
            return Frame(self.stamp_ns, image, camera, self.T_world_camera, depth, valid)
        except FrameError as error:
            raise DatasetError(f'{self.image_path}: {error}') from error

    def _checked(self, path: Path, array: np.ndarray) -> np.ndarray:
        if array.shape[:2] != (self.camera.height, self.camera.width):
            raise DatasetError(
                f'{path} has {array.shape[1]}x{array.shape[0]} pixels, but w and h in {FILE_NAME} '
                f'are {self.camera.width}x{self.camera.height}')
        return array


class LazyFrames(Sequence[Frame]):
    """Frames that are read from disk when asked for, and not kept."""

    def __init__(self, entries: Sequence[FrameEntry], max_side: int) -> None:
        self._entries = tuple(entries)
        self._max_side = max_side

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> LazyFrames: ...

    def __getitem__(self, index: int | slice) -> Frame | LazyFrames:
        if isinstance(index, slice):
            return LazyFrames(self._entries[index], self._max_side)
        return self._entries[index].read(self._max_side)


@dataclass(frozen=True)
class PosedFolder:
    """Posed images in order of their file names.

    metric: True when translations are metres. names: file names as written in the file.
    """

    frames: Sequence[Frame]
    metric: bool
    names: tuple[str, ...]


def load_folder(folder: str | Path, scale: float = 1.0, mask_path: str | Path | None = None,
                max_side: int = 0) -> PosedFolder:
    """Reads transforms.json; images, depth and masks are read when a frame is asked for.

    scale: multiplies the translations, for captures that are not in metres (depth always is).
    mask_path: one image for all frames, black where the robot sees itself. max_side: larger
    images are shrunk to it; 0 leaves them. Raises DatasetError for what cannot be used.
    """
    folder = Path(folder)
    content = read_json(folder)
    masks = () if mask_path is None else (existing(Path(mask_path), 'the mask'),)
    if not scale > 0:
        raise DatasetError(f'scale = {scale}: must be positive')
    frames = frames_by_name(content)
    entries = [parse_frame(folder, content, frame, i, scale, masks)
               for i, frame in enumerate(frames)]
    has_depth = all(entry.depth_path is not None for entry in entries)
    metric = scale != 1.0 or bool(content.get('metric', has_depth))
    return PosedFolder(LazyFrames(entries, max_side), metric,
                       tuple(str(frame['file_path']) for frame in frames))


def posed_images(folder: str | Path, most: int) -> list[FrameEntry]:
    """Where the images of a folder are and from where they were taken; no image is read.

    At most `most` of them, evenly chosen in the order of their names. Raises DatasetError.
    """
    folder = Path(folder)
    content = read_json(folder)
    frames = frames_by_name(content)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), most)).astype(int))
    return [parse_frame(folder, content, frames[i], i, 1.0, ()) for i in chosen.tolist()]


def frames_by_name(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The frames of transforms.json in order of their file names."""
    return sorted(content['frames'], key=lambda frame: str(frame.get('file_path', '')))


def read_json(folder: Path) -> dict[str, Any]:
    """The content of transforms.json; raises DatasetError where it is missing or no such file."""
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise DatasetError(f'{folder} is not a folder: give one that holds {FILE_NAME}')
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise DatasetError(f'{path} cannot be read ({error.strerror}): the folder must be in '
                           "nerfstudio's layout") from error
    except ValueError as error:
        raise DatasetError(f'{path} is not JSON: {error}') from error
    frames = content.get('frames') if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise DatasetError(f'{path} has no list of frames')
    return content


def parse_frame(folder: Path, content: Mapping[str, Any], frame: Mapping[str, Any], index: int,
                scale: float, masks: tuple[Path, ...]) -> FrameEntry:
    """One entry of the list of frames; a frame's own fields win over the file's."""
    name = frame.get('file_path')
    if not isinstance(name, str) or not name:
        raise DatasetError(f'frame {index} of {folder / FILE_NAME} has no file_path')
    merged = {**{k: v for k, v in content.items() if k != 'frames'}, **frame}
    T = opengl_to_opencv(parse_pose(frame.get('transform_matrix'), name))
    T[:3, 3] *= scale
    depth, mask = frame.get('depth_file_path'), frame.get('mask_path')
    if mask:
        masks = (*masks, existing(folder / mask, f'the mask of {name}'))
    return FrameEntry(
        existing(folder / name, 'the image'), parse_camera(merged, name), T,
        int(frame.get('stamp_ns', index * STAMP_STEP_NS)),
        existing(folder / depth, f'the depth of {name}') if depth else None,
        number(merged, 'depth_unit_scale_factor', name, DEPTH_UNIT_M), masks)


def parse_pose(matrix: Any, name: str) -> np.ndarray:
    """A (4, 4) camera-to-world matrix with OpenGL axes; the last row may be missing."""
    try:
        T = np.array(matrix, np.float64)
    except (TypeError, ValueError):
        T = np.empty(0)
    if T.shape == (3, 4):
        T = np.vstack([T, [0.0, 0.0, 0.0, 1.0]])
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise DatasetError(f'{name}: transform_matrix must be a finite 4x4 matrix')
    return T


def camera_fields(camera: PinholeCamera) -> dict[str, Any]:
    """Intrinsics, lens and its model as a frame of transforms.json holds them."""
    # With k4 to k6 only OpenCV's full model says what is meant.
    return {'w': camera.width, 'h': camera.height, 'fl_x': camera.fx, 'fl_y': camera.fy,
            'cx': camera.cx, 'cy': camera.cy,
            'camera_model': FISHEYE_MODEL if camera.model == FISHEYE else 'FULL_OPENCV',
            **dict(zip(LENS_FIELDS[camera.model], camera.distortion, strict=False))}


def parse_camera(fields: Mapping[str, Any], name: str) -> PinholeCamera:
    """Intrinsics and distortion; raises DatasetError for a lens that is not known."""
    model = str(fields.get('camera_model', 'OPENCV'))
    if model not in (*PINHOLE_MODELS, FISHEYE_MODEL):
        raise DatasetError(
            f'{name}: camera model {model} is not supported, only '
            f'{", ".join(PINHOLE_MODELS)} and {FISHEYE_MODEL}; '
            'undistort the images to a pinhole camera first (OpenCV or COLMAP do it)')
    try:
        return PinholeCamera(
            int(number(fields, 'w', name)), int(number(fields, 'h', name)),
            number(fields, 'fl_x', name), number(fields, 'fl_y', name),
            number(fields, 'cx', name), number(fields, 'cy', name),
            distortion(fields, model, name), FISHEYE if model == FISHEYE_MODEL else PINHOLE)
    except FrameError as error:
        raise DatasetError(f'{name}: {error}') from error


def distortion(fields: Mapping[str, Any], model: str, name: str) -> tuple[float, ...]:
    """The lens in PinholeCamera's order, k1, k2, p1, p2, k3, ...; of a fisheye k1 to k4."""
    if model == 'FULL_OPENCV':
        values = tuple(number(fields, key, name, 0.0) for key in LENS_FIELDS[PINHOLE])
        return values if any(values[8:]) else values[:8]    # what beyond 8 is ours alone
    names = ('k1', 'k2', 'k3', 'k4', 'p1', 'p2')
    listed = fields.get('distortion_params')
    if listed is not None:
        if not isinstance(listed, list) or len(listed) != len(names):
            raise DatasetError(
                f'{name}: distortion_params must be the six numbers {", ".join(names)}')
        fields = dict(zip(names, listed))
    k1, k2, k3, k4, p1, p2 = (number(fields, key, name, 0.0) for key in names)
    if model == FISHEYE_MODEL:
        return k1, k2, k3, k4
    if k4 != 0.0:
        # nerfstudio's k4 multiplies r^8; OpenCV's k4 divides.
        raise DatasetError(f'{name}: k4 = {k4} (a polynomial of eighth degree) is not supported: '
                           'calibrate with k1, k2, k3, p1, p2 or undistort the images')
    return k1, k2, p1, p2, k3


def number(fields: Mapping[str, Any], key: str, name: str, default: float | None = None) -> float:
    """A finite number; raises DatasetError that names frame and field where there is none."""
    value = fields.get(key, default)
    if value is None:
        raise DatasetError(f'{name}: {key} is missing, for the frame and for the file')
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise DatasetError(f'{name}: {key} = {value!r} is not a number')
    return float(value)


def existing(path: Path, what: str) -> Path:
    """The path, if there is a file; else DatasetError."""
    if not path.is_file():
        raise DatasetError(f'{what} {path} does not exist')
    return path

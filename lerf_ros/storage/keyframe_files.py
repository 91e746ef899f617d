# SPDX-License-Identifier: Apache-2.0
"""Keyframes on disk: each is durable on its own, and together they are a nerfstudio folder.

    keyframes/000012.json     one entry of transforms.json, with checksums; written last of all
    images/, depth/, masks/   its pictures
    transforms.json           all entries, for other tools; written again with every snapshot
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lerf_ros.camera import OPENGL_TO_OPENCV
from lerf_ros.errors import DatasetError, MapUnreadableError
from lerf_ros.keyframes.frame import Frame, Keyframe
from lerf_ros.keyframes.nerfstudio import DEPTH_UNIT_M, camera_fields, parse_frame
from lerf_ros.storage.durable import (
    check_file,
    flush,
    read_sealed,
    sealed,
    sha256,
    write_file,
    write_json,
)

COMMON = {'depth_unit_scale_factor': DEPTH_UNIT_M}
FOLDER = 'keyframes'


class KeyframeFiles:
    """Adds, reads and removes the keyframes of one map; one writer, any number of readers."""

    def __init__(self, path: Path, metric: bool = False) -> None:
        self.path, self.metric = path, metric
        self._records: dict[int, dict[str, Any]] = {}
        self._on_disk: set[int] | None = None   # not looked at yet

    @property
    def count(self) -> int:
        """How many are on the disk, as far as this writer knows."""
        if self._on_disk is None:
            self._on_disk = set(self.indices())
        return len(self._on_disk)

    def add(self, keyframe: Keyframe) -> None:
        """Stores one keyframe, in time that does not grow with the map.

        It is on the disk when this returns. Raises OSError when it cannot be written.
        """
        entry, pictures = describe(keyframe)
        for name, data in pictures.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path / name, data)
        record = {'index': keyframe.index, 'frame': entry,
                  'files': {name: sha256(self.path / name) for name in pictures}}
        folder = self.path / FOLDER
        if not folder.is_dir():
            folder.mkdir(parents=True)
            flush(self.path)
        write_json(self._record_path(keyframe.index), sealed(record))
        self._records[keyframe.index] = record
        if self._on_disk is not None:
            self._on_disk.add(keyframe.index)

    def indices(self) -> list[int]:
        """Numbers of all keyframes that are on the disk, ascending."""
        folder = self.path / FOLDER
        return sorted(int(p.stem) for p in folder.glob('*.json') if p.stem.isdigit()) \
            if folder.is_dir() else []

    def __contains__(self, index: object) -> bool:
        """Whether the record of a keyframe is whole."""
        try:
            return isinstance(index, int) and bool(self.record(index))
        except MapUnreadableError:
            return False

    def read(self, index: int) -> Keyframe:
        """A keyframe as it was stored; MapUnreadableError when it is damaged or not there."""
        self.verify(index)
        try:
            entry = parse_frame(self.path, COMMON, self.record(index)['frame'], index, 1.0, ())
            return Keyframe(index, entry.read(0))
        except DatasetError as error:
            raise MapUnreadableError(f'keyframe {index}: {error}') from error

    def verify(self, index: int) -> None:
        """MapUnreadableError unless record and pictures are as they were written."""
        for name, expected in self.record(index)['files'].items():
            check_file(self.path / name, expected)

    def record(self, index: int) -> dict[str, Any]:
        """Entry and checksums of a keyframe; MapUnreadableError when they are damaged."""
        if index not in self._records:
            record = read_sealed(self._record_path(index))
            if not isinstance(record.get('files'), Mapping) or 'frame' not in record:
                raise MapUnreadableError(f'{self._record_path(index)} is no record of a keyframe')
            self._records[index] = record
        return self._records[index]

    def pose(self, index: int) -> tuple[int, np.ndarray]:
        """Stamp (ns) and T_world_camera (4, 4) of a keyframe. Raises MapUnreadableError."""
        frame = self.record(index)['frame']
        try:
            return int(frame['stamp_ns']), np.array(frame['transform_matrix']) @ OPENGL_TO_OPENCV
        except (KeyError, TypeError, ValueError) as error:
            raise MapUnreadableError(f'keyframe {index} has no {error}') from error

    def set_pose(self, index: int, T_world_camera: np.ndarray) -> None:
        """Stores a better pose (4, 4). Raises OSError, MapUnreadableError without a record."""
        record = self.record(index)
        pose = np.asarray(T_world_camera) @ OPENGL_TO_OPENCV
        record = {**record, 'frame': {**record['frame'], 'transform_matrix': pose.tolist()}}
        write_json(self._record_path(index), sealed(record))
        self._records[index] = record

    def remove(self, index: int) -> None:
        """Forgets a keyframe, its record first: a picture without a record is no keyframe."""
        names = self.record(index)['files']
        self._record_path(index).unlink(missing_ok=True)
        flush(self.path / FOLDER)
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        self._records.pop(index, None)
        self._on_disk = None

    def clear(self) -> None:
        """Forgets all keyframes."""
        for index in self.indices():
            try:
                self.remove(index)
            except MapUnreadableError:   # a damaged record names no pictures
                self._record_path(index).unlink(missing_ok=True)
        self._records.clear()
        self._on_disk = None

    def write_transforms(self) -> None:
        """Writes transforms.json of all keyframes that can be read."""
        frames = []
        for index in self.indices():
            try:
                frames.append(self.record(index)['frame'])
            except MapUnreadableError:   # named where it is read for training
                continue
        model = {'camera_model': frames[0]['camera_model']} if frames else {}
        write_json(self.path / 'transforms.json',
                   {**model, **COMMON, 'metric': self.metric, 'frames': frames})

    def _record_path(self, index: int) -> Path:
        return self.path / FOLDER / f'{index:06d}.json'


def describe(keyframe: Keyframe) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A keyframe's entry in nerfstudio's terms, and its pictures (PNG) by file name."""
    frame, name = keyframe.frame, f'{keyframe.index:06d}.png'
    pose = np.asarray(frame.T_world_camera) @ OPENGL_TO_OPENCV
    entry: dict[str, Any] = {
        'file_path': f'images/{name}', 'stamp_ns': frame.stamp_ns,
        'transform_matrix': pose.tolist(), **camera_fields(frame.camera)}
    pictures = {f'images/{name}': png(frame.image[..., ::-1])}
    if frame.depth_m is not None:
        pictures[f'depth/{name}'] = png(depth_units(frame.depth_m))
        entry['depth_file_path'] = f'depth/{name}'
    if frame.valid is not None:
        pictures[f'masks/{name}'] = png(frame.valid.astype(np.uint8) * 255)
        entry['mask_path'] = f'masks/{name}'
    return entry, pictures


def as_stored(frame: Frame) -> Frame:
    """The frame as it will be read back: depth in whole millimetres, 0 where there is none.

    What is trained on is what is stored, so that a restart finds the same features again.
    """
    if frame.depth_m is None:
        return frame
    depth_m = depth_units(frame.depth_m).astype(np.float32) * np.float32(DEPTH_UNIT_M)
    return Frame(frame.stamp_ns, frame.image, frame.camera, frame.T_world_camera, depth_m,
                 frame.valid)


def depth_units(depth_m: np.ndarray) -> np.ndarray:
    """(H, W) uint16 millimetres; what is not finite, negative or beyond 65.5 m is unknown, 0."""
    units = np.rint(np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0) / DEPTH_UNIT_M)
    return np.where((units > 0) & (units <= 65535), units, 0).astype(np.uint16)


def png(image: np.ndarray) -> bytes:
    """A PNG; the fastest compression, because a robot has more disk than time."""
    encoded, data = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert encoded, image.shape
    return data.tobytes()

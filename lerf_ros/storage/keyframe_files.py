# SPDX-License-Identifier: Apache-2.0
"""Keyframes on disk: each is durable on its own, and together they are a nerfstudio folder.

    keyframes/000012.json     its record: an entry of transforms.json, with checksums; renamed last
    images/, depth/, masks/   its pictures
    transforms.json           all entries, for other tools; written again with every snapshot

A picture is ours when a record with a valid checksum names it. The record is on the disk, under
another name, before its pictures come and after they go: so what a kill leaves is known as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.errors import DatasetError, MapUnreadableError
from lerf_ros.frames.captures.file_finder import FileFinder
from lerf_ros.frames.captures.intrinsics import camera_fields
from lerf_ros.frames.captures.transforms_json import parse_frame
from lerf_ros.frames.depth_files import INTEGER_UNIT_M
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import OPENGL_TO_OPENCV
from lerf_ros.storage.durable import (
    OURS,
    PARTIAL,
    JsonObject,
    check_file,
    commit,
    flush,
    is_file,
    is_folder,
    partial_path,
    prepare,
    read_sealed,
    sealed,
    sha256_of,
    write_file,
    write_json,
)

COMMON = {'depth_unit_scale_factor': INTEGER_UNIT_M}
FOLDER, PICTURES = 'keyframes', ('images', 'depth', 'masks')
MOVES_KEPT = 20         # of a keyframe; its pose as it was taken is kept in any case
NUMBER = re.compile(r'[0-9]{6,18}')
PICTURE = re.compile(rf'(?:{"|".join(PICTURES)})/[0-9]{{6,18}}\.png')


class KeyframeFiles:
    """Adds, reads and removes the keyframes of one map; one writer, any number of readers."""

    def __init__(self, path: Path, metric: bool = False, first: int = 0) -> None:
        """first: the lowest index of this map; files with lower ones belong to somebody else."""
        self.path, self.metric, self.first = path, metric, first
        self._records: dict[int, JsonObject] = {}
        self._on_disk: set[int] | None = None   # not looked at yet

    @property
    def count(self) -> int:
        """The number of keyframes on the disk, as far as this writer knows."""
        if self._on_disk is None:
            self._on_disk = set(self.indices())
        return len(self._on_disk)

    def add(self, keyframe: Keyframe) -> None:
        """Stores one keyframe, in time that does not grow with the map.

        It is on the disk when this returns. Raises OSError when it cannot be written:
        FileExistsError where a file of somebody else has its name.
        """
        entry, pictures = describe(keyframe)
        place = self._record_path(keyframe.index)
        for folder in {place.parent, *((self.path / name).parent for name in pictures)}:
            if not folder.is_dir():
                folder.mkdir(parents=True)
                flush(self.path)
        self._settle(place)
        for path in (place, *(self.path / name for name in pictures)):
            if os.path.lexists(path):
                raise FileExistsError(f'{path} was not written by lerf_ros: move it away')
        record = {'index': keyframe.index, 'frame': entry,
                  'files': {name: sha256_of(data) for name, data in pictures.items()}}
        prepared = prepare(place, json.dumps(sealed(record), indent=1).encode())
        for name, data in pictures.items():
            write_file(self.path / name, data)
        commit(prepared, place)
        self._records[keyframe.index] = record
        if self._on_disk is not None:
            self._on_disk.add(keyframe.index)

    def indices(self) -> list[int]:
        """Returns the indices of all keyframes on the disk, ascending."""
        found = _numbers(self.path / FOLDER, '.json')
        return sorted(number for number in found if number >= self.first)

    def free_index(self) -> int:
        """Returns the index from which on no keyframe has a file; removes what a kill left."""
        for partial in list((self.path / FOLDER).glob(f'{PARTIAL}*.json')):
            self._settle(partial.with_name(partial.name[len(PARTIAL):]))
        taken = [_numbers(self.path / FOLDER, '.json'),
                 *(_numbers(self.path / name, '.png') for name in PICTURES)]
        return max((self.first - 1, *(n for numbers in taken for n in numbers))) + 1

    def own_files(self) -> Iterator[Path]:
        """Yields the files of all keyframes with a whole record, also of partly written ones."""
        for index in _numbers(self.path / FOLDER, '.json'):
            with contextlib.suppress(MapUnreadableError):
                yield from self._pictures(read_sealed(self._record_path(index)))
                yield self._record_path(index)
        for folder in (FOLDER, *PICTURES):
            if is_folder(self.path / folder):
                yield from filter(is_file, (self.path / folder).glob(f'{OURS}*'))

    def __contains__(self, index: object) -> bool:
        """Returns whether the record of a keyframe is whole."""
        try:
            return isinstance(index, int) and bool(self.record(index))
        except MapUnreadableError:
            return False

    def read(self, index: int) -> Keyframe:
        """Reads a keyframe; MapUnreadableError when it is damaged or missing."""
        self.verify(index)
        try:
            entry = parse_frame(FileFinder(self.path), COMMON, self.record(index)['frame'],
                                index)
            return Keyframe(index, entry.read(0))
        except DatasetError as error:
            raise MapUnreadableError(f'keyframe {index}: {error}') from error

    def verify(self, index: int) -> None:
        """Raises MapUnreadableError unless record and pictures are as they were written."""
        for name, expected in self.record(index)['files'].items():
            check_file(self.path / name, expected)

    def record(self, index: int) -> JsonObject:
        """Reads a keyframe's entry and checksums; MapUnreadableError when they are damaged."""
        if index not in self._records:
            record = read_sealed(self._record_path(index))
            if not isinstance(record.get('files'), Mapping) or 'frame' not in record:
                raise MapUnreadableError(f'{self._record_path(index)} is no record of a keyframe')
            self._records[index] = record
        return self._records[index]

    def pose(self, index: int) -> tuple[int, np.ndarray]:
        """Reads stamp (ns) and T_world_camera (4, 4) of a keyframe. Raises MapUnreadableError."""
        frame = self.record(index)['frame']
        try:
            return int(frame['stamp_ns']), np.array(frame['transform_matrix']) @ OPENGL_TO_OPENCV
        except (KeyError, TypeError, ValueError) as error:
            raise MapUnreadableError(f'keyframe {index} has no {error}') from error

    def has_depth(self, index: int) -> bool:
        """Returns whether a keyframe has a depth image. Raises MapUnreadableError."""
        return any(name.startswith('depth/') for name in self.record(index)['files'])

    def stamp(self, index: int) -> int:
        """Reads the stamp of a keyframe, ns, from the disk; 0 where it is no more, or damaged."""
        try:
            return int(read_sealed(self._record_path(index))['frame']['stamp_ns'])
        except (MapUnreadableError, KeyError, TypeError, ValueError):
            return 0

    def newest_pose(self) -> np.ndarray | None:
        """Reads T_world_camera (4, 4) of the newest keyframe that is whole; None without one."""
        for index in reversed(self.indices()):
            with contextlib.suppress(MapUnreadableError):
                return self.pose(index)[1]
        return None

    def set_pose(self, index: int, T_world_camera: np.ndarray, move: int) -> None:
        """Stores a better pose (4, 4), and the one before it under the number of the move.

        Raises OSError, and MapUnreadableError without a record.
        """
        record = self.record(index)
        before = record['frame']['transform_matrix']
        moves = [*record.get('moves', []), {'move': move, 'before': before}][-MOVES_KEPT:]
        self._write_pose(index, (np.asarray(T_world_camera) @ OPENGL_TO_OPENCV).tolist(),
                         {'original': record.get('original', before), 'moves': moves})

    def undo_move(self, index: int) -> None:
        """Restores the pose from before the keyframe's newest move. Raises as `set_pose`."""
        *moves, newest = self.record(index)['moves']
        self._write_pose(index, newest['before'], {'moves': moves})

    def before_newest_move(self) -> tuple[int, dict[int, np.ndarray]]:
        """Returns the number of the newest move, 0 for none, and the poses (4, 4) before it."""
        newest = {}
        for index in self.indices():
            # A damaged record is named where it is read for training.
            with contextlib.suppress(MapUnreadableError):
                if moves := self.record(index).get('moves'):
                    newest[index] = moves[-1]
        number = max((move['move'] for move in newest.values()), default=0)
        return number, {index: np.array(move['before']) @ OPENGL_TO_OPENCV
                        for index, move in newest.items() if move['move'] == number}

    def _write_pose(self, index: int, matrix: list[list[float]], more: JsonObject) -> None:
        record = self.record(index)
        record = {**record, **more, 'frame': {**record['frame'], 'transform_matrix': matrix}}
        write_json(self._record_path(index), sealed(record))
        self._records[index] = record

    def remove(self, index: int) -> None:
        """Removes a keyframe, its record first: pictures without a record are no keyframe.

        Raises MapUnreadableError for a damaged record, which does not tell its pictures.
        """
        self.record(index)
        place = self._record_path(index)
        os.replace(place, partial_path(place))
        flush(place.parent)
        self._settle(place)
        self._records.pop(index, None)
        self._on_disk = None

    def _settle(self, place: Path) -> None:
        """Deletes a record that is not in its place, with its pictures.

        Where a record is in that place as well, the pictures belong to it and stay.
        """
        partial = partial_path(place)
        if not is_file(partial):
            return
        if not place.exists():
            with contextlib.suppress(MapUnreadableError):
                for path in self._pictures(read_sealed(partial)):
                    path.unlink(missing_ok=True)
        partial.unlink()

    def _pictures(self, record: JsonObject) -> Iterator[Path]:
        """Yields the pictures that a record names and that have the checksums in it."""
        for name, stated in dict(record.get('files', {})).items():
            path = self.path / name
            if PICTURE.fullmatch(name) and is_folder(path.parent) and is_file(path):
                with contextlib.suppress(MapUnreadableError):
                    check_file(path, stated)
                    yield path

    def write_transforms(self) -> None:
        """Writes transforms.json with all keyframes that can be read."""
        frames = []
        for index in self.indices():
            try:
                frames.append(self.record(index)['frame'])
            except MapUnreadableError:   # it is named where it is read for training
                continue
        model = {'camera_model': frames[0]['camera_model']} if frames else {}
        write_json(self.path / 'transforms.json',
                   {**model, **COMMON, 'metric': self.metric, 'frames': frames})

    def transforms_are_ours(self) -> bool:
        """Returns whether transforms.json may be written: it is missing, or was written here."""
        path = self.path / 'transforms.json'
        if not os.path.lexists(path):
            return True
        try:
            content = json.loads(path.read_text())
            frames = content['frames']
            return is_file(path) and 'metric' in content and all(
                PICTURE.fullmatch(frame['file_path']) and 'stamp_ns' in frame for frame in frames)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _record_path(self, index: int) -> Path:
        return self.path / FOLDER / f'{index:06d}.json'


def _numbers(folder: Path, ending: str) -> Iterable[int]:
    """Returns the numbers in the names of a folder's files, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.stem) for path in folder.iterdir()
                  if path.suffix == ending and NUMBER.fullmatch(path.stem))


def describe(keyframe: Keyframe) -> tuple[JsonObject, dict[str, bytes]]:
    """Returns a keyframe's entry in nerfstudio's terms, and its pictures (PNG) by file name."""
    frame, name = keyframe.frame, f'{keyframe.index:06d}.png'
    pose = np.asarray(frame.T_world_camera) @ OPENGL_TO_OPENCV
    entry: JsonObject = {
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
    """Returns the frame as it will be read back: depth in whole millimetres, 0 where unknown.

    Training uses this frame, so that a restart computes the same features again.
    """
    if frame.depth_m is None:
        return frame
    depth_m = depth_units(frame.depth_m).astype(np.float32) * np.float32(INTEGER_UNIT_M)
    return Frame(frame.stamp_ns, frame.image, frame.camera, frame.T_world_camera, depth_m,
                 frame.valid)


def depth_units(depth_m: np.ndarray) -> np.ndarray:
    """Converts to (H, W) uint16 millimetres; 0 for what is not finite, negative or over 65.5 m."""
    units = np.rint(np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0) / INTEGER_UNIT_M)
    return np.where((units > 0) & (units <= 65535), units, 0).astype(np.uint16)


def png(image: np.ndarray) -> bytes:
    """Encodes a PNG with the fastest compression: a robot has more disk than time."""
    encoded, data = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert encoded, image.shape
    return data.tobytes()

# SPDX-License-Identifier: Apache-2.0
"""The map directory: the contract between the mapper, which writes it, and queries, which read it.

    MAP/meta.json                  format, map frame, metric or not, scene frame, encoder, settings
    MAP/transforms.json, images/, depth/, masks/     keyframes in nerfstudio's layout
    MAP/snapshots/000007/          manifest.json (checksums), field.safetensors, index.safetensors

Every file is written beside its place, flushed to the disk and renamed, a snapshot as a whole
folder: a reader sees all of it or nothing. Safetensors and JSON only, so that opening a map never
runs code from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import load_file, save_file

from lerf_ros.camera import OPENGL_TO_OPENCV
from lerf_ros.errors import MapUnreadableError
from lerf_ros.keyframes.frame import Keyframe
from lerf_ros.keyframes.nerfstudio import camera_fields

FORMAT_VERSION = 2
# Formats whose fields can still be read, so that their index can be built anew.
READABLE_FORMATS = (2,)
# What a map that waits for its first snapshot may hold before there is a meta.json.
KEYFRAME_CONTENT = {'images', 'depth', 'masks', 'transforms.json', '.transforms.json.partial',
                    '.meta.json.partial'}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: its number, its folder, and what its manifest says of it."""

    number: int
    path: Path
    info: Mapping[str, Any]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of NAME.safetensors; MapUnreadableError when the checksum does not hold."""
        file = f'{name}.safetensors'
        try:
            if _sha256(self.path / file) != self.info['files'][file]:
                raise MapUnreadableError(f'{self.path / file} is damaged: its checksum differs '
                                         'from the manifest; delete this snapshot folder')
            return load_file(self.path / file)
        except (OSError, KeyError, ValueError) as error:
            raise MapUnreadableError(f'{self.path / file} cannot be read: {error}') from error


class MapDirectory:
    """Reads and writes one map directory; one writer, any number of readers."""

    def __init__(self, path: str | Path, metric: bool = False,
                 formats: Collection[int] = (FORMAT_VERSION,)) -> None:
        """formats: those that are not refused."""
        self.path, self.formats = Path(path), formats
        self.metric = metric
        self._frames: list[dict[str, Any]] = []

    def create(self, meta: Mapping[str, Any]) -> None:
        """Starts the map with its meta data (replaced when called again)."""
        for folder in ('images', 'snapshots'):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        _write_json(self.path / 'meta.json', {'format': FORMAT_VERSION, **meta})

    def meta(self) -> dict[str, Any]:
        """meta.json; MapUnreadableError where it is missing, damaged or of another format."""
        file = self.path / 'meta.json'
        try:
            meta = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise MapUnreadableError(f'{self.path} is not a readable map: {error}') from error
        if not isinstance(meta, dict) or meta.get('format') not in self.formats:
            raise MapUnreadableError(
                f'{file} is not of map format {FORMAT_VERSION}: `lerf_ros reindex` brings a '
                'trained map of the format before up to date, others must be made again')
        return meta

    def add_keyframe(self, keyframe: Keyframe) -> None:
        """Stores a keyframe's images and extends transforms.json."""
        frame, name = keyframe.frame, f'{keyframe.index:06d}.png'
        pose = np.asarray(frame.T_world_camera) @ OPENGL_TO_OPENCV
        entry: dict[str, Any] = {
            'file_path': f'images/{name}', 'stamp_ns': frame.stamp_ns,
            'transform_matrix': pose.tolist(), **camera_fields(frame.camera)}
        self._write_image(f'images/{name}', frame.image[..., ::-1])
        if frame.depth_m is not None:
            depth_mm = np.nan_to_num(frame.depth_m, nan=0.0, posinf=0.0) * 1000
            self._write_image(f'depth/{name}', np.clip(depth_mm, 0, 65535).astype(np.uint16))
            entry['depth_file_path'] = f'depth/{name}'
        if frame.valid is not None:
            self._write_image(f'masks/{name}', frame.valid.astype(np.uint8) * 255)
            entry['mask_path'] = f'masks/{name}'
        self._frames.append(entry)
        _write_json(self.path / 'transforms.json', {
            'camera_model': self._frames[0]['camera_model'], 'depth_unit_scale_factor': 1e-3,
            'metric': self.metric, 'frames': self._frames})

    def _write_image(self, name: str, image: np.ndarray) -> None:
        # The fastest compression: a robot has more disk than time.
        encoded, data = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert encoded, name
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(self.path / name, data.tobytes())

    def write_snapshot(self, arrays: Mapping[str, Mapping[str, np.ndarray]],
                       info: Mapping[str, Any], keep: int) -> int:
        """Writes NAME.safetensors for each name and the manifest; returns the new number.

        Only the newest `keep` snapshots are left.
        """
        folder = self.path / 'snapshots'
        number = max(self._numbers(), default=0) + 1
        partial = folder / f'.partial-{number:06d}'
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        files = {}
        for name, tensors in arrays.items():
            file = partial / f'{name}.safetensors'
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file)
            _flush(file)
            files[file.name] = _sha256(file)
        content = {**info, 'files': files}
        _write_json(partial / 'manifest.json', {**content, 'checksum': _checksum(content)})
        os.replace(partial, folder / f'{number:06d}')
        _flush(folder)
        for old in sorted(self._numbers())[:-keep]:
            shutil.rmtree(folder / f'{old:06d}', ignore_errors=True)
        return number

    def _numbers(self) -> list[int]:
        folder = self.path / 'snapshots'
        return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] \
            if folder.is_dir() else []

    def newest(self, after: int = 0) -> Snapshot | None:
        """The newest complete snapshot with a number above `after`; None when there is none.

        Raises MapUnreadableError for a path that exists and is no map.
        """
        if self.path.exists() and not self.path.is_dir():
            raise MapUnreadableError(f'{self.path} is a file: a map is a directory')
        if self.path.is_dir() and {p.name for p in self.path.iterdir()} - KEYFRAME_CONTENT:
            self.meta()
        for number in sorted(self._numbers(), reverse=True):
            if number <= after:
                return None
            path = self.path / 'snapshots' / f'{number:06d}'
            try:
                info = json.loads((path / 'manifest.json').read_text())
                content = {key: value for key, value in info.items() if key != 'checksum'}
                if info['checksum'] != _checksum(content):
                    raise ValueError('the checksum of its manifest does not hold')
                if all((path / file).is_file() for file in info['files']):
                    return Snapshot(number, path, info)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning('snapshot %s is not complete (%s): an older one is used', path, error)
        return None


def _write_json(path: Path, content: Any) -> None:
    _write_atomically(path, json.dumps(content, indent=1).encode())


def _write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f'.{path.name}.partial')
    with partial.open('wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

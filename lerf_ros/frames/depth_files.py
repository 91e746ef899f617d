# SPDX-License-Identifier: Apache-2.0
"""Reads depth files: PNG and TIFF, EXR, NumPy, and the compressed floats of Record3D."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.frames.image_files import File, decode_image, read_bytes, suffix

# Unless the capture gives a unit, integers are millimetres and floats are metres (REP-118).
INTEGER_UNIT_M, FLOAT_UNIT_M = 1e-3, 1.0
# No scene of a robot or of a phone is that far away: larger floats are millimetres.
FARTHEST_MEDIAN_M = 100.0
# Renderers write 1e10 where a ray hits nothing.
FLOAT_NOTHING = 1e9
# In order of preference: depth passes of renderers, luminance, and the channel of Record3D.
EXR_CHANNELS = ('Z', 'Y', 'R')
NPZ_NAMES = ('depth', 'depth_m', 'arr_0')


@dataclass(frozen=True)
class DepthFile:
    """A depth file and the meaning of its numbers.

    unit_m: metres a unit, None if not given. confidence: an image, or Record3D's bytes, of the same
    size; depth is unknown where it is 0. size: (H, W) for files that do not contain it.
    """

    path: File
    unit_m: float | None = None
    confidence: File | None = None
    size: tuple[int, int] | None = None

    def read(self) -> np.ndarray:
        """Reads depth (H, W) float32 in metres, 0 where unknown; raises DatasetError."""
        raw = read_raw(self.path, self.size)
        if raw.ndim == 3 and (raw == raw[..., :1]).all() and raw.shape[2] in (1, 3):
            raw = raw[..., 0]   # a single channel saved as grey
        if raw.ndim != 2 or raw.dtype.kind not in 'uif':
            raise DatasetError(f'{self.path} is not a depth image: one channel of numbers is '
                               f'needed, it has shape {raw.shape} and type {raw.dtype}')
        depth_m = valid_values(raw) * np.float32(self._unit_m(raw))
        if self.confidence is not None:
            depth_m[self._unreliable(depth_m.shape)] = 0.0
        return depth_m

    def _unit_m(self, raw: np.ndarray) -> float:
        if self.unit_m is not None:
            return self.unit_m
        if raw.dtype.itemsize == 1:
            raise DatasetError(
                f'{self.path} has 8 bits: they cannot hold millimetres. Write depth with 16 bits '
                'or as floats; where a step is meant to be something else, say how many metres '
                'with depth_unit_scale_factor')
        if raw.dtype.kind != 'f':
            return INTEGER_UNIT_M
        values = valid_values(raw)
        median = float(np.median(values[values > 0])) if (values > 0).any() else 0.0
        if median > FARTHEST_MEDIAN_M:
            raise DatasetError(
                f'{self.path} holds floats with a median of {median:.0f}: metres are expected. '
                'Say the unit with depth_unit_scale_factor (millimetres: 0.001)')
        return FLOAT_UNIT_M

    def _unreliable(self, size: tuple[int, ...]) -> np.ndarray:
        assert self.confidence is not None
        values = read_raw(self.confidence, self.size, np.uint8)
        if values.shape != size:
            raise DatasetError(f'{self.confidence} has shape {values.shape}, its depth {size}')
        return values == 0


def valid_values(raw: np.ndarray) -> np.ndarray:
    """Returns the values (H, W) as float32, with 0 for every invalid one.

    Invalid are the largest value of the type, values that are negative or not finite, and those
    that renderers write for infinity.
    """
    most = np.finfo(raw.dtype).max if raw.dtype.kind == 'f' else np.iinfo(raw.dtype).max
    with np.errstate(invalid='ignore'):
        good = np.isfinite(raw) & (raw > 0) & (raw < min(float(most), FLOAT_NOTHING))
    return np.where(good, raw, 0).astype(np.float32)


def read_raw(file: File, size: tuple[int, int] | None = None,
             kind: type = np.float32) -> np.ndarray:
    """Reads the array of a file unchanged; size and kind are those of compressed bytes."""
    readers: Mapping[str, Callable[[File], np.ndarray]] = {
        '.npy': read_npy, '.npz': read_npz, '.exr': read_exr}
    if suffix(file) in ('.depth', '.conf'):
        return read_lzfse(file, size, kind)
    return readers.get(suffix(file), decode_image)(file)


def read_npy(file: File) -> np.ndarray:
    """Reads a NumPy array; raises DatasetError if it is none or holds Python objects."""
    try:
        return np.load(io.BytesIO(read_bytes(file)), allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DatasetError(f'{file} is not a depth image: {error}') from error


def read_npz(file: File) -> np.ndarray:
    """Reads the array of an archive: the only one, or the one that is called depth."""
    archive = read_npy(file)
    if isinstance(archive, np.ndarray):
        return archive
    names = list(archive)
    name = names[0] if len(names) == 1 else next((n for n in NPZ_NAMES if n in names), None)
    if name is None:
        raise DatasetError(f'{file} holds the arrays {", ".join(names) or "(none)"}: one that is '
                           f'called {NPZ_NAMES[0]} is needed')
    try:
        return archive[name]
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f'{file} is not a depth image: {error}') from error


def read_exr(file: File) -> np.ndarray:
    """Reads one channel of an EXR image with OpenEXR, or with an OpenCV that was built with it."""
    try:
        import OpenEXR
    except ImportError:
        return read_exr_with_opencv(file)
    if not hasattr(OpenEXR, 'File'):   # Debian's binding has an older interface
        return read_exr_with_opencv(file)
    try:
        with local_path(file) as path, OpenEXR.File(str(path), separate_channels=True) as image:
            channels = {name: np.array(channel.pixels)
                        for name, channel in image.channels().items()}
    except (RuntimeError, TypeError, ValueError) as error:
        raise DatasetError(f'{file} is not an EXR image: {error}') from error
    name = next(iter(channels)) if len(channels) == 1 else next(
        (n for n in EXR_CHANNELS if n in channels), None)
    if name is None:
        raise DatasetError(f'{file} has the channels {", ".join(channels)}: one that is called '
                           f'{" or ".join(EXR_CHANNELS)} is needed')
    return channels[name]


def read_exr_with_opencv(file: File) -> np.ndarray:
    """Reads an EXR image with OpenCV; raises DatasetError if it was built without EXR."""
    os.environ.setdefault('OPENCV_IO_ENABLE_OPENEXR', '1')
    try:
        image = cv2.imdecode(np.frombuffer(read_bytes(file), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(f'{file} is an EXR image, which this OpenCV cannot read: '
                           'pip install OpenEXR')
    return image if image.ndim == 2 else image[..., 2]   # the red channel of BGR


@contextmanager
def local_path(file: File) -> Iterator[Path]:
    """Provides a path that other libraries can open, even for a file in an archive."""
    if isinstance(file, Path):
        yield file
        return
    with tempfile.NamedTemporaryFile(suffix=suffix(file)) as copy:
        copy.write(read_bytes(file))
        copy.flush()
        yield Path(copy.name)


def read_lzfse(file: File, size: tuple[int, int] | None, kind: type) -> np.ndarray:
    """Reads numbers that are plain or compressed with Apple's LZFSE.

    size: (H, W). kind: element type. Raises DatasetError, also if pyliblzfse is needed but missing.
    """
    data = read_bytes(file)
    if size is None:
        raise DatasetError(f'{file} does not say its size: dw and dh are missing in the metadata')
    expected = size[0] * size[1] * np.dtype(kind).itemsize
    if len(data) != expected or data[:3] == b'bvx':
        try:
            import liblzfse
        except ImportError as error:
            raise DatasetError(f'{file} is compressed with LZFSE: pip install pyliblzfse, or '
                               'export the capture from Record3D as EXR + RGBD') from error
        try:
            data = liblzfse.decompress(data)
        except liblzfse.error as error:
            raise DatasetError(f'{file} is damaged: {error}') from error
    if len(data) != expected:
        raise DatasetError(f'{file} holds {len(data)} bytes: {size[1]}x{size[0]} of '
                           f'{np.dtype(kind).name} are {expected}')
    return np.frombuffer(data, kind).reshape(size)

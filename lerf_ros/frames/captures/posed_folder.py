# SPDX-License-Identifier: Apache-2.0
"""The result of every reader of captures: posed images that are read on access."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.frames.depth_files import DepthFile
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.image_files import (
    File,
    MaskFile,
    read_image,
    read_mask,
    shrink,
)
from lerf_ros.geometry.camera import PinholeCamera

# Assumed time between images without stamps (10 Hz).
STAMP_STEP_NS = 100_000_000
NAMES_SHOWN = 3


class Notes:
    """What a reader skipped, resolved or assumed: each note once, with the images it applies to."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, text: str, name: str | None = None) -> None:
        """Adds a note on the capture, or on the image of this name."""
        self._names.setdefault(text, []).extend([] if name is None else [name])

    def lines(self) -> tuple[str, ...]:
        """Returns one line for each note."""
        return tuple(text if not names else f'{text} ({first_names(names)})'
                     for text, names in self._names.items())


def first_names(names: Sequence[str]) -> str:
    """Formats a number of names and the first few: `17 images: a.png, b.png, c.png, ...`."""
    more = ', ...' if len(names) > NAMES_SHOWN else ''
    return (f'{len(names)} image{"s" if len(names) > 1 else ""}: '
            f'{", ".join(names[:NAMES_SHOWN])}{more}')


@dataclass(frozen=True)
class FrameEntry:
    """An image of a capture with its camera and pose, which has not been read yet.

    T_world_camera: (4, 4). border_px: width of a border of the image that is ignored.
    crop_radius_px: pixels further from the centre of the image are ignored.
    """

    image_path: File
    camera: PinholeCamera
    T_world_camera: np.ndarray
    stamp_ns: int
    depth: DepthFile | None = None
    masks: tuple[MaskFile, ...] = ()
    border_px: int = 0
    crop_radius_px: float | None = None

    def read(self, max_side: int) -> Frame:
        """Reads image, depth and masks; raises DatasetError that names the file and the reason."""
        image, valid = read_image(self.image_path)
        camera = self.camera
        if image.shape[:2] != (camera.height, camera.width):
            raise DatasetError(
                f'{self.image_path} has {image.shape[1]}x{image.shape[0]} pixels, but w and h of '
                f'its camera are {camera.width}x{camera.height}: '
                + ('it was turned after its camera was calibrated; turn it back'
                   if image.shape[:2] == (camera.width, camera.height) else
                   'give the images that the intrinsics belong to, or intrinsics of this size'))
        depth = None if self.depth is None else self._fitting(self.depth.path, self.depth.read())
        valid = self._valid(valid)
        if 0 < max_side < max(camera.width, camera.height):
            ratio = max_side / max(camera.width, camera.height)
            camera = camera.resized(max(round(camera.width * ratio), 1),
                                    max(round(camera.height * ratio), 1))
            image = shrink(image, camera, cv2.INTER_AREA)
            # Averages of depth across an edge would be points that do not exist.
            depth = None if depth is None else shrink(depth, camera, cv2.INTER_NEAREST)
            # A pixel counts only if no ignored pixel is part of its average.
            valid = None if valid is None else shrink(
                valid.astype(np.float32), camera, cv2.INTER_AREA) > 0.999
        try:
            return Frame(self.stamp_ns, image, camera, self.T_world_camera, depth, valid)
        except FrameError as error:
            raise DatasetError(f'{self.image_path}: {error}') from error

    def files(self) -> tuple[File, ...]:
        """Returns the files that `read` reads."""
        depth = () if self.depth is None else (self.depth.path, self.depth.confidence)
        return (self.image_path, *(f for f in depth if f is not None),
                *(mask.path for mask in self.masks))

    def _valid(self, valid: np.ndarray | None) -> np.ndarray | None:
        """Combines everything that ignores parts of the image: (H, W) bool, or None for nothing."""
        parts = [] if valid is None else [valid]
        parts += [self._fitting(mask.path, read_mask(mask)) for mask in self.masks]
        height, width = self.camera.height, self.camera.width
        if self.border_px:
            inner = np.zeros((height, width), bool)
            inner[self.border_px:height - self.border_px,
                  self.border_px:width - self.border_px] = True
            parts.append(inner)
        if self.crop_radius_px is not None:
            middle = self.camera.pixel_grid() - (width / 2, height / 2)
            parts.append(np.linalg.norm(middle, axis=-1) <= self.crop_radius_px)
        return np.logical_and.reduce(parts) if parts else None

    def _fitting(self, path: File, array: np.ndarray) -> np.ndarray:
        """Resizes depth or a mask to the size of the image, by nearest pixels as in nerfstudio.

        Raises DatasetError if the proportions differ, because it shows another view then.
        """
        height, width = array.shape[:2]
        camera = self.camera
        if (height, width) == (camera.height, camera.width):
            return array
        # Rounding changes one side by less than a pixel of the smaller image.
        off = abs(height * camera.width - width * camera.height) / max(width, camera.width)
        if off >= 1:
            raise DatasetError(
                f'{path} has {width}x{height} pixels and its image {camera.width}x{camera.height}: '
                'the proportions differ, so it shows another view; register it to the image')
        resized = cv2.resize(array.astype(np.uint8) if array.dtype == bool else array,
                             (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
        return resized.astype(array.dtype)


class LazyFrames(Sequence[Frame]):
    """Frames that are read from disk on access and not kept."""

    def __init__(self, entries: Sequence[FrameEntry], max_side: int) -> None:
        self.entries = tuple(entries)
        self.max_side = max_side

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> LazyFrames: ...

    def __getitem__(self, index: int | slice) -> Frame | LazyFrames:
        if isinstance(index, slice):
            return LazyFrames(self.entries[index], self.max_side)
        return self.entries[index].read(self.max_side)


@dataclass(frozen=True)
class Capture:
    """The content of a capture: its entries and their names, in order, and notes for the user.

    metric: whether translations are metres.
    """

    entries: tuple[FrameEntry, ...]
    names: tuple[str, ...]
    metric: bool
    notes: tuple[str, ...] = ()

    def scaled(self, scale: float) -> Capture:
        """Returns the capture with positions times `scale`, in metres a unit.

        Raises DatasetError unless the scale is positive.
        """
        if not scale > 0:
            raise DatasetError(f'scale = {scale}: must be positive')
        return self if scale == 1.0 else replace(self, metric=True, entries=tuple(
            replace(e, T_world_camera=scaled_pose(e.T_world_camera, scale)) for e in self.entries))

    def with_masks(self, masks: Iterable[MaskFile]) -> Capture:
        """Returns the capture with further masks for every image."""
        more = tuple(masks)
        return replace(self, entries=tuple(replace(e, masks=(*more, *e.masks))
                                           for e in self.entries))


def scaled_pose(T: np.ndarray, scale: float) -> np.ndarray:
    """Returns a pose (4, 4) with its position multiplied by a scale."""
    scaled = np.array(T, np.float64)
    scaled[:3, 3] *= scale
    return scaled


@dataclass(frozen=True)
class PosedFolder:
    """Posed images in the order of their file names.

    metric: whether translations are metres. names: file names as written in the capture. notes:
    what was skipped, resolved and assumed, a sentence each. has_depth, masked: whether any image
    has depth or a mask. root: the folder of the capture, or its archive. files: all files that are
    read, which need not be in that folder.
    """

    frames: Sequence[Frame]
    metric: bool
    names: tuple[str, ...]
    notes: tuple[str, ...]
    has_depth: bool
    masked: bool
    root: Path
    files: tuple[Path, ...]

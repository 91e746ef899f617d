# SPDX-License-Identifier: Apache-2.0
"""Checks a capture before anything is trained on it.

Images of one shade are left out by name. A capture that contradicts itself, or from which depth
cannot be inferred, is refused in words. Images that are too large for the memory are shrunk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.errors import ContradictionError
from lerf_ros.frames.captures.posed_folder import FrameEntry, LazyFrames, PosedFolder
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.image_files import read_color
from lerf_ros.frames.pose_check import measure_fit, pairs_to_check
from lerf_ros.frames.pose_evidence import feature_pairs
from lerf_ros.frames.selection import is_empty
from lerf_ros.geometry.camera import PinholeCamera

NAMES_SHOWN = 3
SAME_PLACE = 1e-6       # extent of camera positions, relative to their size, that counts as none
FEWEST_PAIRS = 3        # pairs of images from which parallax is measured, at least


def check_folder(folder: PosedFolder, config: LerfConfig, trusted: bool = False,
                 max_side: int = 0) -> tuple[PosedFolder, list[str]]:
    """Returns the folder as it can be trained on, and notes for the user, a sentence each.

    trusted: contradictions are noted and not refused. max_side: longer side of the images in
    pixels; 0 takes what fits into memory. Raises ContradictionError for a capture that contradicts
    itself, shows nothing, or has neither depth nor parallax.
    """
    assert isinstance(folder.frames, LazyFrames)
    entries = folder.frames.entries
    shown = [i for i, entry in enumerate(entries) if not is_empty(
        read_color(entry.image_path), config.keyframes.least_contrast)]
    notes = left_out(folder, shown)
    side = max_side or fitting_side([entries[i] for i in shown], config.check.memory_share)
    kept = LazyFrames([entries[i] for i in shown], side)
    folder = replace(folder, frames=kept, names=tuple(folder.names[i] for i in shown))
    if side and not max_side:
        notes.append(f'images are shrunk to {side} pixels at their longer side: larger ones would '
                     f'take more than {config.check.memory_share:.0%} of the free memory '
                     '(check.memory_share; --max-side sets the size)')
    frames = [kept[i] for i in pairs_to_check(len(kept))]
    require_depth(frames, kept.entries, config.check.least_parallax, trusted)
    fit = measure_fit(frames)
    fit.require(config.check, trusted)
    return folder, [*notes, fit.doubt(config.check) or str(fit)]


def left_out(folder: PosedFolder, shown: Sequence[int]) -> list[str]:
    """Returns a note that names the images of one shade, if any.

    shown: indices of the other images. Raises ContradictionError if there are none.
    """
    empty = [name for i, name in enumerate(folder.names) if i not in set(shown)]
    if not empty:
        return []
    names = ', '.join(empty[:NAMES_SHOWN]) + (', ...' if len(empty) > NAMES_SHOWN else '')
    if not shown:
        raise ContradictionError(
            f'all {len(empty)} images are of one shade ({names}): was the lens covered, or the '
            'camera not exposing? keyframes.least_contrast says what counts')
    return [f'{len(empty)} of {len(folder.names)} images are of one shade and left out ({names}): '
            'a covered lens, or no exposure (keyframes.least_contrast)']


def require_depth(frames: Sequence[Frame], entries: Sequence[FrameEntry], least_deg: float,
                  trusted: bool) -> None:
    """Raises ContradictionError if neither depth nor parallax tells distances.

    frames: some of the images. entries: all of them. least_deg: parallax in degrees that is needed.
    trusted: too little parallax is accepted.
    """
    if any(has_depth(frame) for frame in frames):
        return
    places = np.stack([entry.T_world_camera[:3, 3] for entry in entries])
    hint = ('so nothing tells how far anything is: move the camera sideways between the images, or '
            'give depth images')
    if len(places) == 1:
        raise ContradictionError(f'there is one image that shows anything, without depth, {hint}')
    if in_one_place(places):
        raise ContradictionError(
            f'all {len(places)} images are from one place, without depth, {hint}')
    parallax = measured_parallax(frames)
    if parallax is not None and parallax < least_deg and not trusted:
        raise ContradictionError(
            f'the images have no depth and hardly any parallax: what they show moves by '
            f'{parallax:.2f} degrees at most between them, where {least_deg:g} are needed '
            f'(check.least_parallax), {hint}; --trust-input trains all the same')


def tells_depth(frames: Sequence[Frame]) -> bool:
    """Returns whether depth images or a moving camera can tell distances."""
    return any(has_depth(frame) for frame in frames) or not in_one_place(
        np.stack([frame.T_world_camera[:3, 3] for frame in frames]))


def has_depth(frame: Frame) -> bool:
    """Returns whether the depth of any pixel is known."""
    return frame.depth_m is not None and bool(
        (np.isfinite(frame.depth_m) & (frame.depth_m > 0)).any())


def in_one_place(places: np.ndarray) -> bool:
    """Returns whether camera positions (N, 3) differ only by rounding."""
    return bool(np.ptp(places, axis=0).max() <= SAME_PLACE * max(np.abs(places).max(), 1e-9))


def measured_parallax(frames: Sequence[Frame]) -> float | None:
    """Measures the largest parallax between two of the images, in degrees.

    The parallax of a pair is the median motion of its features without the rotation of the camera.
    Returns None if too few features are found.
    """
    pairs = [*feature_pairs(frames), *feature_pairs(frames[::2]), *feature_pairs(frames[::4])]
    if len(pairs) < FEWEST_PAIRS:
        return None
    return float(np.degrees(max(pair.parallax() for pair in pairs)))


# Bytes a pixel: colour 3, distance 4, mask 1; and a viewing direction of 12, once for each camera.
# Tables grow by a quarter, and the old one exists while the new one is filled.
PIXEL_BYTES, RAY_BYTES, GROWTH = 8, 12, 2.25
# Images are held as they were read (colour 3 bytes, depth 4) until the scene is measured from all
# of them, at most this many.
WAITING_BYTES, WAITING = 7, 64
WORK_BYTES = 75         # a pixel of the largest image while its viewing directions are computed
LEAST_SIDE_PX = 640     # images are not shrunk below it


def fitting_side(entries: Sequence[FrameEntry], share: float) -> int:
    """Returns the longer side in pixels at which images take this fraction of the free memory.

    Returns 0 if they fit at their own size.
    """
    largest = max((max(e.camera.width, e.camera.height) for e in entries), default=0)
    ratio = math.sqrt(share * free_bytes() / max(needed_bytes(entries), 1))
    return 0 if ratio >= 1 else min(max(int(largest * ratio), LEAST_SIDE_PX), largest)


def needed_bytes(entries: Sequence[FrameEntry]) -> int:
    """Estimates the memory in bytes that training needs for images at their own size."""
    return bytes_of([entry.camera for entry in entries])


def bytes_of(cameras: Sequence[PinholeCamera]) -> int:
    """Estimates the memory in bytes that training needs for images of these cameras."""
    pixels = [camera.width * camera.height for camera in cameras]
    rays = sum(camera.width * camera.height for camera in set(cameras))
    tables = GROWTH * (PIXEL_BYTES * sum(pixels) + RAY_BYTES * rays)
    return int(tables + WAITING_BYTES * sum(sorted(pixels)[-WAITING:])
               + WORK_BYTES * max(pixels, default=0))


def free_bytes() -> int:
    """Returns the memory in bytes that is available to this process, in a container too."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith('MemAvail'))
    except (OSError, StopIteration, ValueError):
        free = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    group = Path('/sys/fs/cgroup')
    try:
        limit = int((group / 'memory.max').read_text())
        return min(free, limit - int((group / 'memory.current').read_text()))
    except (OSError, ValueError):   # no container, or one without a limit: 'max'
        return free

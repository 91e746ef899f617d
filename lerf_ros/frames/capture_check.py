# SPDX-License-Identifier: Apache-2.0
"""What is asked of a capture before anything is trained: does it show, fit and suffice?

Images that show nothing are left out by name; a capture that contradicts itself, or from which no
depth follows, is refused in words; images too large for the memory are shrunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.errors import ContradictionError
from lerf_ros.frames.captures.posed_folder import FrameEntry, LazyFrames, PosedFolder
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.image_files import read_color
from lerf_ros.frames.memory_need import fitting_side
from lerf_ros.frames.pose_check import measure_fit, spread
from lerf_ros.frames.pose_evidence import feature_pairs
from lerf_ros.frames.selection import is_empty

NAMES_SHOWN = 3
SAME_PLACE = 1e-6       # of their distance from the origin, within which cameras are in one place
FEWEST_PAIRS = 3        # of images that must say how far things move between them


def check_folder(folder: PosedFolder, config: LerfConfig, trusted: bool = False,
                 max_side: int = 0) -> tuple[PosedFolder, list[str]]:
    """The folder as it can be trained on, and what there is to say of it, a sentence each.

    trusted: contradictions are named and not refused. max_side: longer side of the images in
    pixels, 0 for what fits into memory. Raises ContradictionError for a capture that contradicts
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
    frames = [kept[i] for i in spread(len(kept))]
    require_depth(frames, kept.entries, config.check.least_parallax, trusted)
    fit = measure_fit(frames)
    fit.require(config.check, trusted)
    return folder, [*notes, fit.doubt(config.check) or str(fit)]


def left_out(folder: PosedFolder, shown: Sequence[int]) -> list[str]:
    """Says which images show nothing; ContradictionError where none shows anything."""
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
    """Raises ContradictionError where neither depth nor parallax says how far anything is.

    frames: some of them, read. least_deg: parallax in degrees that must be there.
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
    """Whether depth or different places of the camera can tell how far things are."""
    return any(has_depth(frame) for frame in frames) or not in_one_place(
        np.stack([frame.T_world_camera[:3, 3] for frame in frames]))


def has_depth(frame: Frame) -> bool:
    """Whether the depth of any pixel is known."""
    return frame.depth_m is not None and bool(
        (np.isfinite(frame.depth_m) & (frame.depth_m > 0)).any())


def in_one_place(places: np.ndarray) -> bool:
    """Whether cameras at (N, 3) differ by rounding alone."""
    return bool(np.ptp(places, axis=0).max() <= SAME_PLACE * max(np.abs(places).max(), 1e-9))


def measured_parallax(frames: Sequence[Frame]) -> float | None:
    """Degrees by which things move between two of the images, their turn taken away, at most.

    The median of each pair's features. None where too few features are found.
    """
    pairs = [*feature_pairs(frames), *feature_pairs(frames[::2]), *feature_pairs(frames[::4])]
    if len(pairs) < FEWEST_PAIRS:
        return None
    return float(np.degrees(max(pair.parallax() for pair in pairs)))

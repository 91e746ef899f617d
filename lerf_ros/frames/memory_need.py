# SPDX-License-Identifier: Apache-2.0
"""How much memory the images of a folder take in training, and how large they may be."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from lerf_ros.frames.captures.posed_folder import FrameEntry

# Of each pixel: colour 3, distance 4, whether it counts 1; and its viewing direction 12, once for
# each camera. Tables grow by a quarter, and the old one is there while the new one is filled.
PIXEL_BYTES, RAY_BYTES, GROWTH = 8, 12, 2.25
# Images wait as they were read, colour 3 and depth 4, until the scene is measured from all of them;
# no more than so many.
WAITING_BYTES, WAITING = 7, 64
WORK_BYTES = 75         # of each pixel of the largest image, while its viewing directions are made
LEAST_SIDE_PX = 640     # images are not shrunk below it


def fitting_side(entries: Sequence[FrameEntry], share: float) -> int:
    """The longer side in pixels at which the images take this share of the free memory.

    0 where they do at their own size.
    """
    largest = max((max(e.camera.width, e.camera.height) for e in entries), default=0)
    ratio = math.sqrt(share * free_bytes() / max(needed_bytes(entries), 1))
    return 0 if ratio >= 1 else min(max(int(largest * ratio), LEAST_SIDE_PX), largest)


def needed_bytes(entries: Sequence[FrameEntry]) -> int:
    """Memory that training takes for the images of these entries at their own size, bytes."""
    pixels = [entry.camera.width * entry.camera.height for entry in entries]
    rays = sum(camera.width * camera.height for camera in {entry.camera for entry in entries})
    tables = GROWTH * (PIXEL_BYTES * sum(pixels) + RAY_BYTES * rays)
    return int(tables + WAITING_BYTES * sum(sorted(pixels)[-WAITING:])
               + WORK_BYTES * max(pixels, default=0))


def free_bytes() -> int:
    """Memory that this process may still take, bytes: of the machine, and of its container."""
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

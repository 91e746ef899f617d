# SPDX-License-Identifier: Apache-2.0
"""Compares the frames in the headers of what belongs to one image.

Depth that was not registered has the size of the image often enough, and a camera_info of another
lens too; only the frame in their header tells. Two frames that TF puts at the same place are one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lerf_ros.frames.selection import motion
from lerf_ros.nodes.mapper.refusals import Missing, Unusable

# Frames that differ by less are the same.
SAME_M, SAME_DEG = 1e-3, 0.1
ADVICE = {
    'depth': 'the depth is not registered to the images: publish registered depth (RealSense: '
             'align_depth.enable:=true and its topic aligned_depth_to_color; others: '
             'depth_image_proc register)',
    'mask': 'publish the mask in the frame of the images',
    'camera_info': 'these are the intrinsics of another lens: set camera_info_topic to the one '
                   'that belongs to the images',
}
# Of the intrinsics only the centre of the lens matters, not how its frame is turned.
MAY_BE_TURNED = ('camera_info',)


class FrameIds:
    """The frame of each input of one camera against that of its images."""

    def __init__(self, image_topic: str, between: Callable[[str, str], np.ndarray | None],
                 trust: bool, note: Callable[[str, str], None]) -> None:
        """between: T (4, 4) of two frames, or None. trust: a difference is a note alone.

        note: takes a reason and a text.
        """
        self._image_topic, self._between, self._trust = image_topic, between, trust
        self._note = note

    def check(self, name: str, topic: str, frame: str, image_frame: str) -> None:
        """Raises Missing while TF may yet say that two frames are one, Unusable where they differ.

        An empty frame says nothing and is passed over.
        """
        frame, image_frame = frame.lstrip('/'), image_frame.lstrip('/')
        if not frame or not image_frame or frame == image_frame:
            return
        T = self._between(image_frame, frame)
        if T is not None and self._is_same(name, T):
            return
        text = (f'{name} on {topic!r} is in frame {frame!r}, the images on {self._image_topic!r} '
                f'are in {image_frame!r}{told(T)}: {ADVICE[name]}')
        if self._trust:
            self._note(name, f'{text}. It is used all the same (trust_frames)')
            return
        text += '. If the header is wrong and the pixels fit, set trust_frames:=true'
        raise (Missing if T is None else Unusable)(name, text)

    def _is_same(self, name: str, T: np.ndarray) -> bool:
        distance, angle = motion(np.eye(4), T)
        return distance <= SAME_M and (angle <= SAME_DEG or name in MAY_BE_TURNED)


def told(T: np.ndarray | None) -> str:
    """What TF says of two frames, for people."""
    if T is None:
        return ''
    distance, angle = motion(np.eye(4), T)
    return f' ({distance * 100:.1f} cm and {angle:.1f} degrees apart)'

# SPDX-License-Identifier: Apache-2.0
"""Depth or masks of one topic: which message belongs to an image, and its pixels on the image's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from lerf_ros.errors import FrameError
from lerf_ros.nodes.common.conversions import resized_nearest, stamp_to_ns
from lerf_ros.nodes.common.time_watch import BACK_NS
from lerf_ros.nodes.mapper.frame_ids import FrameIds
from lerf_ros.nodes.mapper.refusals import Missing, Unusable

ADVICE = {'depth': 'it must be registered to the colour image (RealSense: '
                   'align_depth.enable:=true)',
          'mask': 'it must be of that size'}
SAME_SHAPE = 0.01       # part by which width over height may differ, for odd numbers of pixels


class Partners:
    """The last messages of a topic whose stamps are those of the images."""

    def __init__(self, name: str, topic: str, convert: Callable[[Any], np.ndarray],
                 frames: FrameIds, tolerance_s: float, length: int,
                 note: Callable[[str, str], None]) -> None:
        """name: 'depth' or 'mask'. convert: pixels (h, w) of a message, or FrameError.

        note: takes a reason and a text.
        """
        self.name, self.topic, self._convert, self._frames = name, topic, convert, frames
        self._tolerance_s, self._note = tolerance_s, note
        self._messages: deque[tuple[int, Any]] = deque(maxlen=length)

    def add(self, msg: Any) -> None:
        """Takes in a message."""
        self._messages.append((stamp_to_ns(msg.header.stamp), msg))

    def of_image(self, stamp_ns: int, image_frame: str) -> Any:
        """The message whose stamp is nearest, not decoded yet; Missing while there is none."""
        nearest = min(self._messages, key=lambda m: abs(m[0] - stamp_ns), default=None)
        if nearest is None or abs(nearest[0] - stamp_ns) > self._tolerance_s * 1e9:
            raise Missing(
                f'no {self.name}', f'no {self.name} on {self.topic!r} ' + (
                    f'within {self._tolerance_s:g} s of the image: synchronise the streams or '
                    'raise sync_tolerance' if self._messages else 'at all: start its publisher or '
                    f'set {self.name}_topic'))
        msg = nearest[1]
        self._frames.check(self.name, self.topic, msg.header.frame_id, image_frame)
        return msg

    def pixels(self, msg: Any, image_frame: str, height: int, width: int) -> np.ndarray:
        """The pixels of a message, (height, width); Unusable where they are not those of the image.

        Pixels of another size and the same shape are resized where the header says that they are
        those of the image, each to the value of the nearest one, as nerfstudio does.
        """
        try:
            pixels = self._convert(msg)
        except FrameError as error:
            raise Unusable(self.name, str(error)) from error
        h, w = pixels.shape
        if (h, w) == (height, width):
            return pixels
        sizes = f'{self.name} of {w}x{h} pixels but images of {width}x{height}'
        same_frame = msg.header.frame_id.lstrip('/') == image_frame.lstrip('/') != ''
        if not same_frame or abs(w * height - h * width) > SAME_SHAPE * w * height:
            raise Unusable(self.name, f'{sizes}: {ADVICE[self.name]}')
        self._note(f'{self.name} size', f'{sizes}: it is in the same frame and is resized '
                   '(nearest pixel)')
        return resized_nearest(pixels, height, width)

    def clear(self) -> None:
        """Forgets all messages."""
        self._messages.clear()

    def restart(self, stamp_ns: int) -> None:
        """Time has gone back to about this stamp: forgets the messages of the time before."""
        near = [entry for entry in self._messages if abs(entry[0] - stamp_ns) <= BACK_NS]
        self._messages.clear()
        self._messages.extend(near)

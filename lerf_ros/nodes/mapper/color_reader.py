# SPDX-License-Identifier: Apache-2.0
"""Images of one camera to RGB, with the bits that its samples use learned from its images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.nodes.common.conversions import image_to_rgb, wide_bits


class ColorReader:
    """A camera of 12 bits publishes 16: its values stay below 4096, and all of it would be black.

    How many bits there are shows in the largest value so far; more may come to light.
    """

    def __init__(self, topic: str, bits: int, note: Callable[[str, str], None]) -> None:
        """bits: of 16-bit encodings, 0 to find out. note: takes a reason and a text."""
        self._topic, self._given, self._note = topic, bits, note
        self._bits = 0      # that were needed so far

    def read(self, msg: Image | CompressedImage) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises FrameError for what cannot be read."""
        self._bits = max(self._bits, 0 if self._given else wide_bits(msg))
        if 0 < self._bits < 16:
            self._note('image bits', f'images on {self._topic!r} are of 16 bits, and no value so '
                       f'far needs more than {self._bits}: they are read as images of '
                       f'{self._bits} bits. Set image_bits to what the camera has, so that the '
                       'brightness does not change when a larger value comes')
        return image_to_rgb(msg, self._given or self._bits,
                            lambda text: self._note('image', f'{self._topic!r}: {text}'))

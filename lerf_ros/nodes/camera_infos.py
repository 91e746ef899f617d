# SPDX-License-Identifier: Apache-2.0
"""Which camera_info belongs to an image: by its stamp where they differ, else the newest."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from sensor_msgs.msg import CameraInfo

from lerf_ros.camera import PinholeCamera
from lerf_ros.errors import FrameError
from lerf_ros.nodes.conversions import camera_from_info, stamp_to_ns
from lerf_ros.nodes.missing import Missing


@dataclass(frozen=True)
class Lens:
    """What one message says. reduced: binning and region in words, empty for a whole image."""

    stamp_ns: int
    camera: PinholeCamera
    frame_id: str
    whole: tuple[int, int]      # width, height without binning and region
    reduced: str

    @classmethod
    def of(cls, msg: CameraInfo, rectified: bool) -> Lens:
        """Raises FrameError for a message that cannot be used."""
        camera = camera_from_info(msg, rectified)
        words = []
        if max(msg.binning_x, msg.binning_y) > 1:
            words.append(f'binning {msg.binning_x}x{msg.binning_y}')
        if msg.roi.width or msg.roi.height:
            words.append(f'a region of {msg.roi.width}x{msg.roi.height} pixels')
        return cls(stamp_to_ns(msg.header.stamp), camera, msg.header.frame_id,
                   (msg.width, msg.height), ' and '.join(words))


class CameraInfos:
    """The last messages of one camera_info topic."""

    def __init__(self, topic: str, rectified: bool, tolerance_s: float, length: int) -> None:
        """tolerance_s: between the stamps of an image and of the camera_info that was its own."""
        self.topic, self._rectified = topic, rectified
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._infos: deque[Lens] = deque(maxlen=length)
        self._error: FrameError | None = None     # of the newest message

    def add(self, msg: CameraInfo) -> None:
        """Takes in a message; one that cannot be used is named when an image needs it."""
        try:
            lens = Lens.of(msg, self._rectified)
        except FrameError as error:
            self._error = error
            return
        self._error = None
        self._infos.append(lens)

    def of_image(self, stamp_ns: int, width: int, height: int) -> Lens:
        """The lens of an image of this size; Missing, in words, while there is none."""
        if self._error is not None:
            raise Missing('camera_info', str(self._error))
        if not self._infos:
            raise Missing('no camera_info', f'no camera_info on {self.topic!r}: start its '
                          'publisher or set camera_info_topic')
        fitting = [lens for lens in self._infos
                   if (lens.camera.width, lens.camera.height) == (width, height)]
        if not fitting:
            raise Missing('camera_info', self._misfit(self._infos[-1], width, height))
        nearest = min(fitting, key=lambda lens: abs(lens.stamp_ns - stamp_ns))
        if (abs(nearest.stamp_ns - stamp_ns) <= self._tolerance_ns
                or len({lens.camera for lens in fitting}) == 1):
            return nearest
        raise Missing(
            'camera_info', f'the intrinsics on {self.topic!r} change from message to message and '
            f'none is within {self._tolerance_ns / 1e9:g} s of the image: stamp each camera_info '
            'as its image, or raise sync_tolerance')

    def _misfit(self, lens: Lens, width: int, height: int) -> str:
        """Why no camera_info is for images of this size."""
        camera = lens.camera
        sizes = (f'camera_info on {self.topic!r} is for {camera.width}x{camera.height} pixels '
                 f'but images have {width}x{height}')
        if lens.reduced and lens.whole == (width, height):
            return (f'{sizes}: it says {lens.reduced}, but the images are whole: the driver must '
                    'not fill in binning or region for images that it does not reduce')
        if lens.reduced:
            return (f'{sizes}: it says {lens.reduced} of {lens.whole[0]}x{lens.whole[1]}, which '
                    'does not give the size of the images: the driver must fill width and height '
                    'with the whole image, and binning and region with what it reduces')
        return f'{sizes}: set camera_info_topic to the one that belongs to the images'

    def clear(self) -> None:
        """Forgets the stamps, as when time went back; the newest camera holds for now."""
        newest = list(self._infos)[-1:]
        self._infos.clear()
        self._infos.extend(replace(lens, stamp_ns=0) for lens in newest)

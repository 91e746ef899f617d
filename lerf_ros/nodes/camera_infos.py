# SPDX-License-Identifier: Apache-2.0
"""Which camera_info belongs to an image: by its stamp where they differ, else the newest."""

from __future__ import annotations

from collections import deque

from sensor_msgs.msg import CameraInfo

from lerf_ros.camera import PinholeCamera
from lerf_ros.errors import FrameError
from lerf_ros.nodes.conversions import camera_from_info, stamp_to_ns
from lerf_ros.nodes.missing import Missing


class CameraInfos:
    """The last messages of one camera_info topic."""

    def __init__(self, topic: str, rectified: bool, tolerance_s: float, length: int) -> None:
        """tolerance_s: between the stamps of an image and of the camera_info that was its own."""
        self.topic, self._rectified = topic, rectified
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._infos: deque[tuple[int, PinholeCamera]] = deque(maxlen=length)
        self._error: FrameError | None = None     # of the newest message

    def add(self, msg: CameraInfo) -> None:
        """Takes in a message; one that cannot be used is named when an image needs it."""
        try:
            camera = camera_from_info(msg, self._rectified)
        except FrameError as error:
            self._error = error
            return
        self._error = None
        self._infos.append((stamp_to_ns(msg.header.stamp), camera))

    def of_image(self, stamp_ns: int, width: int, height: int) -> PinholeCamera:
        """The camera of an image of this size; Missing, in words, while there is none."""
        if self._error is not None:
            raise Missing('camera_info', str(self._error))
        if not self._infos:
            raise Missing('no camera_info', f'no camera_info on {self.topic!r}: start its '
                          'publisher or set camera_info_topic')
        fitting = [(stamp, camera) for stamp, camera in self._infos
                   if (camera.width, camera.height) == (width, height)]
        if not fitting:
            camera = self._infos[-1][1]
            raise Missing(
                'camera_info', f'camera_info on {self.topic!r} is for {camera.width}x'
                f'{camera.height} pixels but images have {width}x{height}: set camera_info_topic '
                'to the one that belongs to the images')
        nearest, camera = min(fitting, key=lambda info: abs(info[0] - stamp_ns))
        if abs(nearest - stamp_ns) <= self._tolerance_ns or len({c for _, c in fitting}) == 1:
            return camera
        raise Missing(
            'camera_info', f'the intrinsics on {self.topic!r} change from message to message and '
            f'none is within {self._tolerance_ns / 1e9:g} s of the image: stamp each camera_info '
            'as its image, or raise sync_tolerance')

    def clear(self) -> None:
        """Forgets the stamps, as when time went back; the newest camera holds for now."""
        newest = list(self._infos)[-1:]
        self._infos.clear()
        self._infos.extend((0, camera) for _, camera in newest)

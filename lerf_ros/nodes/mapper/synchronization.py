# SPDX-License-Identifier: Apache-2.0
"""Which camera_info, depth and mask belong to an image, by their stamps and their frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.nodes.common.conversions import camera_from_info, resized_nearest, stamp_to_ns
from lerf_ros.nodes.common.stamps import BACK_NS
from lerf_ros.nodes.mapper.refusals import MissingInput, UnusableInput

# Two frames whose difference on TF is smaller are the same.
SAME_M, SAME_DEG = 1e-3, 0.1
FRAME_ADVICE = {
    'depth': 'the depth is not registered to the images: publish registered depth (RealSense: '
             'align_depth.enable:=true and its topic aligned_depth_to_color; others: '
             'depth_image_proc register)',
    'mask': 'publish the mask in the frame of the images',
    'camera_info': 'these are the intrinsics of another lens: set camera_info_topic to the one '
                   'that belongs to the images',
}
# Intrinsics depend only on where the centre of the lens is, not on how its frame is rotated.
MAY_BE_ROTATED = ('camera_info',)
SIZE_ADVICE = {'depth': 'it must be registered to the colour image (RealSense: '
                        'align_depth.enable:=true)',
               'mask': 'it must be of that size'}
# Relative difference of the aspect ratios up to which pixels are resized: sizes may be rounded.
SAME_ASPECT = 0.01


class FrameIdCheck:
    """Compares the frame in the header of each input with the frame of the images.

    Depth that is not registered often has the size of the image, and so may the camera_info of
    another lens; only the frame in the header tells. Two frames that TF puts at the same place are
    the same.
    """

    def __init__(self, image_topic: str, newest_between: Callable[[str, str], np.ndarray | None],
                 trust: bool, note: Callable[[str, str], None]) -> None:
        """newest_between: returns T (4, 4) of two frames, None where TF does not know it.

        trust: use an input in another frame and only note it. note: called with a reason and a
        text.
        """
        self._image_topic, self._newest_between = image_topic, newest_between
        self._trust, self._note = trust, note

    def check(self, name: str, topic: str, frame: str, image_frame: str) -> None:
        """Raises UnusableInput where the frames differ, MissingInput while TF does not know them.

        An empty frame is accepted.
        """
        frame, image_frame = frame.lstrip('/'), image_frame.lstrip('/')
        if not frame or not image_frame or frame == image_frame:
            return
        T = self._newest_between(image_frame, frame)
        apart = ''
        if T is not None:
            distance, angle = motion(np.eye(4), T)
            if distance <= SAME_M and (angle <= SAME_DEG or name in MAY_BE_ROTATED):
                return
            apart = f' ({distance * 100:.1f} cm and {angle:.1f} degrees apart)'
        text = (f'{name} on {topic!r} is in frame {frame!r}, the images on {self._image_topic!r} '
                f'are in {image_frame!r}{apart}: {FRAME_ADVICE[name]}')
        if self._trust:
            self._note(name, f'{text}. It is used all the same (trust_frames)')
            return
        text += '. If the header is wrong and the pixels fit, set trust_frames:=true'
        raise (MissingInput if T is None else UnusableInput)(name, text)


class ImageQueue:
    """Keeps the last depth images or masks of a topic, undecoded, and finds those of an image."""

    def __init__(self, name: str, topic: str,
                 convert: Callable[[Image | CompressedImage], np.ndarray], frames: FrameIdCheck,
                 tolerance_s: float, length: int, note: Callable[[str, str], None]) -> None:
        """name: 'depth' or 'mask'. convert: returns the pixels (h, w), or raises FrameError.

        note: called with a reason and a text.
        """
        self.name, self.topic, self._convert, self._frames = name, topic, convert, frames
        self._tolerance_s, self._note = tolerance_s, note
        self._messages: deque[tuple[int, Image | CompressedImage]] = deque(maxlen=length)

    def add(self, msg: Image | CompressedImage) -> None:
        """Takes a message."""
        self._messages.append((stamp_to_ns(msg.header.stamp), msg))

    def of_image(self, stamp_ns: int, image_frame: str) -> Image | CompressedImage:
        """Returns the message with the nearest stamp.

        Raises MissingInput while there is none within the tolerance.
        """
        nearest = min(self._messages, key=lambda m: abs(m[0] - stamp_ns), default=None)
        if nearest is None or abs(nearest[0] - stamp_ns) > self._tolerance_s * 1e9:
            raise MissingInput(
                f'no {self.name}', f'no {self.name} on {self.topic!r} ' + (
                    f'within {self._tolerance_s:g} s of the image: synchronise the streams or '
                    'raise sync_tolerance' if self._messages else 'at all: start its publisher or '
                    f'set {self.name}_topic'))
        msg = nearest[1]
        self._frames.check(self.name, self.topic, msg.header.frame_id, image_frame)
        return msg

    def pixels(self, msg: Image | CompressedImage, image_frame: str, height: int,
               width: int) -> np.ndarray:
        """Returns the pixels (height, width) of a message.

        Pixels of another size and the same aspect ratio are resized to the nearest value, as in
        nerfstudio, where the header names the frame of the image. Raises UnusableInput for pixels
        that cannot be decoded or do not fit the image.
        """
        try:
            pixels = self._convert(msg)
        except FrameError as error:
            raise UnusableInput(self.name, str(error)) from error
        h, w = pixels.shape
        if (h, w) == (height, width):
            return pixels
        sizes = f'{self.name} of {w}x{h} pixels but images of {width}x{height}'
        same_frame = msg.header.frame_id.lstrip('/') == image_frame.lstrip('/') != ''
        if not same_frame or abs(w * height - h * width) > SAME_ASPECT * w * height:
            raise UnusableInput(self.name, f'{sizes}: {SIZE_ADVICE[self.name]}')
        self._note(f'{self.name} size', f'{sizes}: it is in the same frame and is resized '
                   '(nearest pixel)')
        return resized_nearest(pixels, height, width)

    def clear(self) -> None:
        """Forgets all messages."""
        self._messages.clear()

    def restart(self, stamp_ns: int) -> None:
        """Forgets the messages from before time went back to this stamp."""
        near = [entry for entry in self._messages if abs(entry[0] - stamp_ns) <= BACK_NS]
        self._messages.clear()
        self._messages.extend(near)


@dataclass(frozen=True)
class StampedCamera:
    """What a camera_info says.

    full_size: (width, height) without binning and region. reduced_by: binning and region in words,
    empty for a full image.
    """

    stamp_ns: int
    camera: PinholeCamera
    frame_id: str
    full_size: tuple[int, int]
    reduced_by: str

    @classmethod
    def from_message(cls, msg: CameraInfo, rectified: bool) -> StampedCamera:
        """Raises FrameError as camera_from_info."""
        camera = camera_from_info(msg, rectified)
        words = []
        if max(msg.binning_x, msg.binning_y) > 1:
            words.append(f'binning {msg.binning_x}x{msg.binning_y}')
        if msg.roi.width or msg.roi.height:
            words.append(f'a region of {msg.roi.width}x{msg.roi.height} pixels')
        return cls(stamp_to_ns(msg.header.stamp), camera, msg.header.frame_id,
                   (msg.width, msg.height), ' and '.join(words))


class CameraInfoQueue:
    """Keeps the last messages of a camera_info topic and finds the camera of an image."""

    def __init__(self, topic: str, rectified: bool, tolerance_s: float, length: int) -> None:
        """tolerance_s: largest difference between the stamps of an image and its camera_info."""
        self.topic, self._rectified = topic, rectified
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._cameras: deque[StampedCamera] = deque(maxlen=length)
        self._error: FrameError | None = None     # of the newest message

    def add(self, msg: CameraInfo) -> None:
        """Takes a message; an unusable one is reported when an image needs it."""
        try:
            camera = StampedCamera.from_message(msg, self._rectified)
        except FrameError as error:
            self._error = error
            return
        self._error = None
        self._cameras.append(camera)

    def of_image(self, stamp_ns: int, width: int, height: int) -> StampedCamera:
        """Returns the camera of an image of this size; raises MissingInput while there is none."""
        if self._error is not None:
            raise MissingInput('camera_info', str(self._error))
        if not self._cameras:
            raise MissingInput('no camera_info', f'no camera_info on {self.topic!r}: start its '
                               'publisher or set camera_info_topic')
        fitting = [stamped for stamped in self._cameras
                   if (stamped.camera.width, stamped.camera.height) == (width, height)]
        if not fitting:
            raise MissingInput('camera_info', self._size_text(self._cameras[-1], width, height))
        nearest = min(fitting, key=lambda stamped: abs(stamped.stamp_ns - stamp_ns))
        if (abs(nearest.stamp_ns - stamp_ns) <= self._tolerance_ns
                or len({stamped.camera for stamped in fitting}) == 1):
            return nearest
        raise MissingInput(
            'camera_info', f'the intrinsics on {self.topic!r} change from message to message and '
            f'none is within {self._tolerance_ns / 1e9:g} s of the image: stamp each camera_info '
            'as its image, or raise sync_tolerance')

    def clear(self) -> None:
        """Forgets the stamps, because time went back; the newest camera stays valid."""
        newest = list(self._cameras)[-1:]
        self._cameras.clear()
        self._cameras.extend(replace(stamped, stamp_ns=0) for stamped in newest)

    def _size_text(self, stamped: StampedCamera, width: int, height: int) -> str:
        """Returns why no camera_info is for images of this size."""
        camera, reduced_by = stamped.camera, stamped.reduced_by
        sizes = (f'camera_info on {self.topic!r} is for {camera.width}x{camera.height} pixels '
                 f'but images have {width}x{height}')
        if reduced_by and stamped.full_size == (width, height):
            return (f'{sizes}: it says {reduced_by}, but the images are whole: the driver must '
                    'not fill in binning or region for images that it does not reduce')
        if reduced_by:
            full_width, full_height = stamped.full_size
            return (f'{sizes}: it says {reduced_by} of {full_width}x{full_height}, which '
                    'does not give the size of the images: the driver must fill width and height '
                    'with the whole image, and binning and region with what it reduces')
        return f'{sizes}: set camera_info_topic to the one that belongs to the images'

# SPDX-License-Identifier: Apache-2.0
"""Puts an image, its camera, depth, mask and pose together; transforms arrive after images.

No subscriptions here: the node hands messages in and takes frames out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.keyframes.frame import Frame
from lerf_ros.nodes.camera_infos import CameraInfos
from lerf_ros.nodes.conversions import (
    depth_to_metres,
    image_to_rgb,
    mask_to_valid,
    read_mask,
    stamp_to_ns,
)
from lerf_ros.nodes.missing import Missing
from lerf_ros.nodes.node_config import CameraInput, MapperNodeConfig
from lerf_ros.nodes.refusals import Refusals
from lerf_ros.nodes.time_watch import BACK_NS, TimeWatch

IMAGES = 'images'   # the source of stamps that the time watch knows
Stamped = deque[tuple[int, Any]]


@dataclass(frozen=True)
class PendingImage:
    """A decoded image that waits for what belongs to it."""

    stamp_ns: int
    camera_frame: str
    image: np.ndarray   # (H, W, 3) uint8 RGB
    arrival_s: float


class FrameAssembler:
    """Images wait, a bounded number of them, until everything for their stamp is there."""

    def __init__(self, config: MapperNodeConfig, lookup_pose: Callable[[str, int], np.ndarray],
                 refusals: Refusals, clock_s: Callable[[], float] = time.monotonic,
                 camera: CameraInput | None = None,
                 time_went_back: Callable[[], None] = lambda: None) -> None:
        """`lookup_pose(camera_frame, stamp_ns)` gives T_map_camera or raises FrameError.

        camera: whose images these are; the first one's if None. time_went_back is called when the
        images start again from an earlier time. Raises FrameError when mask_file cannot be read.
        """
        self._config, self._lookup_pose = config, lookup_pose
        self._camera = camera or config.cameras()[0]
        self.refusals, self._clock_s = refusals, clock_s
        self._time, self._time_went_back = TimeWatch(), time_went_back
        self._pending: deque[PendingImage] = deque()
        self._complete: list[Frame] = []    # left the queue for want of room
        self._infos = CameraInfos(self._camera.camera_info_topic, config.image_rectified,
                                  config.sync_tolerance, config.queue_size)
        self._depth: Stamped = deque(maxlen=config.queue_size)
        self._masks: Stamped = deque(maxlen=config.queue_size)
        mask_file = self._camera.mask_file
        self._mask = read_mask(mask_file) if mask_file else None

    def add_camera_info(self, msg: CameraInfo) -> None:
        """Takes in the intrinsics."""
        self._infos.add(msg)

    def add_depth(self, msg: Image | CompressedImage) -> None:
        """Takes in a depth image."""
        self._depth.append((stamp_to_ns(msg.header.stamp), msg))

    def add_mask(self, msg: Image) -> None:
        """Takes in a mask image."""
        self._masks.append((stamp_to_ns(msg.header.stamp), msg))

    def add_image(self, msg: Image | CompressedImage) -> None:
        """Takes in a colour image; an image that cannot be decoded is refused at once."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if stamp_ns == 0:
            self.refusals.refuse('no stamp', 'an image without a stamp: its pose cannot be looked '
                                  'up; the driver must fill header.stamp')
            return
        if self._time.went_back(IMAGES, stamp_ns):
            self.restart(stamp_ns)
            self._time_went_back()
        if self._time.duplicate(IMAGES, stamp_ns):
            self.refusals.refuse('duplicate stamp', 'two images with the same stamp: the second '
                                  'is left out; the driver or the bag must stamp each image')
            return
        try:
            image = image_to_rgb(msg)
        except FrameError as error:
            self.refusals.refuse('image', str(error))
            return
        if len(self._pending) >= self._config.queue_size:
            self._make_room()
        frame = self._camera.camera_frame or msg.header.frame_id
        self._pending.append(PendingImage(stamp_ns, frame, image, self._clock_s()))

    def resolve(self) -> list[Frame]:
        """Frames that are complete now, in the order in which their images came."""
        frames, waiting = list(self._complete), []
        self._complete.clear()
        for pending in self._pending:
            try:
                frames.append(self._assemble(pending))
            except Missing as missing:
                if self._clock_s() - pending.arrival_s < self._config.tf_timeout:
                    waiting.append(pending)
                else:
                    self.refusals.refuse(*missing.args)
        self._pending = deque(waiting)
        return frames

    def clear(self) -> None:
        """Forgets the images that wait, depth and masks, and which stamps there were."""
        for queue in (self._pending, self._complete, self._depth, self._masks):
            queue.clear()
        self._time.restart(IMAGES)

    def restart(self, stamp_ns: int) -> None:
        """Time has gone back to about this stamp: forgets everything of the time before."""
        for _ in self._pending:
            self.refusals.refuse('time went back', 'images that waited while time went back (a '
                                 'bag that starts again, a clock that was set) are left out')
        self._pending.clear()
        self._infos.clear()
        for queue in (self._depth, self._masks):
            near = [entry for entry in queue if abs(entry[0] - stamp_ns) <= BACK_NS]
            queue.clear()
            queue.extend(near)

    def _make_room(self) -> None:
        """Takes the oldest image out: complete by now, or refused for what it still lacks."""
        try:
            self._complete.append(self._assemble(self._pending.popleft()))
        except Missing as missing:
            reason, message = missing.args
            self.refusals.refuse(reason, f'{message}. It was the oldest of '
                                 f'{self._config.queue_size} images that wait (queue_size)')

    def _assemble(self, pending: PendingImage) -> Frame:
        height, width = pending.image.shape[:2]
        camera = self._infos.of_image(pending.stamp_ns, width, height)
        depth = valid = None
        if self._camera.depth_topic:
            depth = self._partner(pending, self._depth, 'depth', self._camera.depth_topic,
                                  depth_to_metres)
        if self._camera.mask_topic:
            valid = self._partner(pending, self._masks, 'mask', self._camera.mask_topic,
                                  mask_to_valid)
        if self._mask is not None:
            self._same_size(pending, 'mask', self._mask)
            valid = self._mask if valid is None else valid & self._mask
        try:
            pose = self._lookup_pose(pending.camera_frame, pending.stamp_ns)
        except FrameError as error:
            raise Missing('no pose', str(error)) from error
        try:
            return Frame(pending.stamp_ns, pending.image, camera, pose, depth, valid)
        except FrameError as error:
            raise Missing('bad pose', f'{error}; look at who publishes the pose') from error

    def _partner(self, pending: PendingImage, messages: Stamped, name: str, topic: str,
                 convert: Callable[[Any], np.ndarray]) -> np.ndarray:
        """The depth or mask (H, W) whose stamp is nearest to the image's."""
        tolerance_s = self._config.sync_tolerance
        nearest = min(messages, key=lambda m: abs(m[0] - pending.stamp_ns), default=None)
        if nearest is None or abs(nearest[0] - pending.stamp_ns) > tolerance_s * 1e9:
            raise Missing(
                f'no {name}', f'no {name} on {topic!r} ' + (
                    f'within {tolerance_s:g} s of the image: synchronise the streams or raise '
                    'sync_tolerance' if messages else 'at all: start its publisher or set '
                    f'{name}_topic'))
        try:
            pixels = convert(nearest[1])
        except FrameError as error:
            raise Missing(name, str(error)) from error
        self._same_size(pending, name, pixels)
        return pixels

    def _same_size(self, pending: PendingImage, name: str, pixels: np.ndarray) -> None:
        if pixels.shape != pending.image.shape[:2]:
            (h, w), (height, width) = pixels.shape, pending.image.shape[:2]
            advice = ('it must be registered to the colour image (RealSense: '
                      'align_depth.enable:=true)' if name == 'depth' else 'it must be of that size')
            raise Missing(name, f'{name} of {w}x{h} pixels but images of {width}x{height}: '
                          + advice)

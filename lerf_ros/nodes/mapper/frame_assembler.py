# SPDX-License-Identifier: Apache-2.0
"""Assembles a frame from an image, its camera, depth, mask and pose; transforms arrive last.

This module subscribes to nothing: messages are handed in and frames are taken out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.frames.frame import Frame
from lerf_ros.nodes.common.conversions import (
    ColorReader,
    depth_to_metres,
    mask_to_valid,
    read_mask,
    stamp_to_ns,
)
from lerf_ros.nodes.common.node_config import CameraInput, MapperNodeConfig
from lerf_ros.nodes.common.stamps import StampMonitor
from lerf_ros.nodes.mapper.refusals import MissingInput, Refusals, UnusableInput
from lerf_ros.nodes.mapper.synchronization import CameraInfoQueue, FrameIdCheck, ImageQueue

IMAGES = 'images'   # the source that the stamp monitor knows


@dataclass(frozen=True)
class PendingImage:
    """A decoded image that waits for what belongs to it.

    camera_frame: the frame whose pose is looked up. header_frame: the frame in the image's header.
    """

    stamp_ns: int
    camera_frame: str
    header_frame: str
    image: np.ndarray   # (H, W, 3) uint8 RGB
    arrival_s: float


class FrameAssembler:
    """Lets a bounded number of images wait until everything for their stamp is there.

    infos, depth and masks take the messages of the other topics of the camera.
    """

    def __init__(self, config: MapperNodeConfig, lookup_pose: Callable[[str, int], np.ndarray],
                 refusals: Refusals, clock_s: Callable[[], float] = time.monotonic,
                 camera: CameraInput | None = None,
                 on_time_went_back: Callable[[], None] = lambda: None,
                 newest_between: Callable[[str, str], np.ndarray | None] = lambda a, b: None
                 ) -> None:
        """lookup_pose(camera_frame, stamp_ns) returns T_map_camera (4, 4) or raises FrameError.

        camera: the camera of the images; the first of the config for None. on_time_went_back:
        called when the stamps of the images start again earlier. newest_between: returns T (4, 4)
        of two frames, None where TF does not know it. Raises FrameError when mask_file cannot be
        read.
        """
        self._config, self._lookup_pose = config, lookup_pose
        self._camera = camera or config.cameras()[0]
        self.refusals, self._clock_s = refusals, clock_s
        self._stamps, self._on_time_went_back = StampMonitor(), on_time_went_back
        self._pending: deque[PendingImage] = deque()
        self._complete: list[Frame] = []    # removed from the full queue
        topic = self._camera.image_topic
        self._colors = ColorReader(topic, config.image_bits, self._note)
        self._frames = FrameIdCheck(topic, newest_between, config.trust_frames, self._note)
        self.infos = CameraInfoQueue(self._camera.camera_info_topic, config.image_rectified,
                                      config.sync_tolerance, config.queue_size)
        self.depth = self._image_queue('depth', self._camera.depth_topic, partial(
            depth_to_metres, unit_m=self._camera.depth_unit_m,
            note=partial(self._note, 'depth')))
        self.masks = self._image_queue('mask', self._camera.mask_topic, mask_to_valid)
        mask_file = self._camera.mask_file
        self._mask = read_mask(mask_file) if mask_file else None

    def _image_queue(self, name: str, topic: str,
                     convert: Callable[..., np.ndarray]) -> ImageQueue:
        return ImageQueue(name, topic, convert, self._frames, self._config.sync_tolerance,
                          self._config.queue_size, self._note)

    def _note(self, reason: str, text: str) -> None:
        self.refusals.note(reason, text)    # looked up now: each activation has its own

    def add_image(self, msg: Image | CompressedImage) -> None:
        """Takes a colour image; refuses one that cannot be decoded at once."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if stamp_ns == 0:
            self.refusals.refuse('no stamp', 'an image without a stamp: its pose cannot be looked '
                                  'up; the driver must fill header.stamp')
            return
        if self._stamps.went_back(IMAGES, stamp_ns):
            self.restart(stamp_ns)
            self._on_time_went_back()
        if self._stamps.duplicate(IMAGES, stamp_ns):
            self.refusals.refuse('duplicate stamp', 'two images with the same stamp: the second '
                                  'is left out; the driver or the bag must stamp each image')
            return
        try:
            image = self._colors.read(msg)
        except FrameError as error:
            self.refusals.refuse('image', str(error))
            return
        if len(self._pending) >= self._config.queue_size:
            self._make_room()
        frame = msg.header.frame_id
        self._pending.append(PendingImage(stamp_ns, self._camera.camera_frame or frame, frame,
                                          image, self._clock_s()))

    def resolve(self) -> list[Frame]:
        """Returns the frames that are complete now, in the order of their images."""
        frames, waiting = list(self._complete), []
        self._complete.clear()
        for pending in self._pending:
            try:
                frames.append(self._assemble(pending))
            except UnusableInput as unusable:
                self.refusals.refuse(*unusable.args)
            except MissingInput as missing:
                if self._clock_s() - pending.arrival_s < self._config.tf_timeout:
                    waiting.append(pending)
                else:
                    self.refusals.refuse(*missing.args)
        self._pending = deque(waiting)
        return frames

    def clear(self) -> None:
        """Forgets the images that wait, depth, masks and the stamps so far."""
        for queue in (self._pending, self._complete, self.depth, self.masks):
            queue.clear()
        self._stamps.restart(IMAGES)

    def restart(self, stamp_ns: int) -> None:
        """Forgets everything from before time went back to about this stamp."""
        for _ in self._pending:
            self.refusals.refuse('time went back', 'images that waited while time went back (a '
                                 'bag that starts again, a clock that was set) are left out')
        self._pending.clear()
        self.infos.clear()
        for queue in (self.depth, self.masks):
            queue.restart(stamp_ns)

    def _make_room(self) -> None:
        """Removes the oldest image, which is complete by now or refused for what it lacks."""
        try:
            self._complete.append(self._assemble(self._pending.popleft()))
        except UnusableInput as unusable:
            self.refusals.refuse(*unusable.args)
        except MissingInput as missing:
            reason, message = missing.args
            self.refusals.refuse(reason, f'{message}. It was the oldest of '
                                 f'{self._config.queue_size} images that wait (queue_size)')

    def _assemble(self, pending: PendingImage) -> Frame:
        """Returns the frame of an image; raises MissingInput or UnusableInput.

        Depth and mask are decoded last, because an image may be tried many times.
        """
        try:
            pose = self._lookup_pose(pending.camera_frame, pending.stamp_ns)
        except FrameError as error:
            raise MissingInput('no pose', str(error)) from error
        height, width = pending.image.shape[:2]
        stamped = self.infos.of_image(pending.stamp_ns, width, height)
        self._frames.check('camera_info', self.infos.topic, stamped.frame_id,
                           pending.header_frame)
        queues = (self.depth, self.masks)
        messages = [queue.of_image(pending.stamp_ns, pending.header_frame) if queue.topic else None
                    for queue in queues]
        depth, valid = (
            queue.pixels(msg, pending.header_frame, height, width) if msg is not None else None
            for queue, msg in zip(queues, messages, strict=True))
        if self._mask is not None:
            valid = self._with_mask_file(self._mask, valid, height, width)
        try:
            return Frame(pending.stamp_ns, pending.image, stamped.camera, pose, depth, valid)
        except FrameError as error:
            raise MissingInput('bad pose', f'{error}; look at who publishes the pose') from error

    @staticmethod
    def _with_mask_file(mask: np.ndarray, valid: np.ndarray | None, height: int,
                        width: int) -> np.ndarray:
        """Returns the mask (H, W) of the file, combined with that of the topic if there is one."""
        if mask.shape != (height, width):
            raise UnusableInput('mask', f'mask_file has {mask.shape[1]}x{mask.shape[0]} pixels but '
                                f'images have {width}x{height}: give a mask of that size')
        return mask if valid is None else valid & mask

# SPDX-License-Identifier: Apache-2.0
"""Puts an image, its camera, depth, mask and pose together; transforms arrive after images.

No subscriptions here: the node hands messages in and takes frames out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lerf_ros.errors import FrameError
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.nodes.common.conversions import (
    ColorReader,
    camera_from_info,
    depth_to_metres,
    mask_to_valid,
    read_mask,
    stamp_to_ns,
)
from lerf_ros.nodes.common.node_config import CameraInput, MapperNodeConfig
from lerf_ros.nodes.common.time_watch import TimeWatch
from lerf_ros.nodes.mapper.frame_ids import FrameIds
from lerf_ros.nodes.mapper.partners import Partners
from lerf_ros.nodes.mapper.refusals import Missing, Refusals, Unusable


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


IMAGES = 'images'   # the source of stamps that the time watch knows


@dataclass(frozen=True)
class PendingImage:
    """A decoded image that waits for what belongs to it.

    camera_frame: whose pose is looked up; header_frame: what the image says of itself.
    """

    stamp_ns: int
    camera_frame: str
    header_frame: str
    image: np.ndarray   # (H, W, 3) uint8 RGB
    arrival_s: float


class FrameAssembler:
    """Images wait, a bounded number of them, until everything for their stamp is there."""

    def __init__(self, config: MapperNodeConfig, lookup_pose: Callable[[str, int], np.ndarray],
                 refusals: Refusals, clock_s: Callable[[], float] = time.monotonic,
                 camera: CameraInput | None = None,
                 time_went_back: Callable[[], None] = lambda: None,
                 between: Callable[[str, str], np.ndarray | None] = lambda a, b: None) -> None:
        """`lookup_pose(camera_frame, stamp_ns)` gives T_map_camera or raises FrameError.

        camera: whose images these are; the first one's if None. time_went_back is called when the
        images start again from an earlier time. between: T (4, 4) of two frames, None where TF does
        not know. Raises FrameError when mask_file cannot be read.
        """
        self._config, self._lookup_pose = config, lookup_pose
        self._camera = camera or config.cameras()[0]
        self.refusals, self._clock_s = refusals, clock_s
        self._time, self._time_went_back = TimeWatch(), time_went_back
        self._pending: deque[PendingImage] = deque()
        self._complete: list[Frame] = []    # left the queue for want of room
        topic = self._camera.image_topic
        self._colors = ColorReader(topic, config.image_bits, self._note)
        self._frames = FrameIds(topic, between, config.trust_frames, self._note)
        self._infos = CameraInfos(self._camera.camera_info_topic, config.image_rectified,
                                  config.sync_tolerance, config.queue_size)
        self._depth = self._partners('depth', self._camera.depth_topic, partial(
            depth_to_metres, unit_m=self._camera.depth_unit_m,
            note=partial(self._note, 'depth')))
        self._masks = self._partners('mask', self._camera.mask_topic, mask_to_valid)
        mask_file = self._camera.mask_file
        self._mask = read_mask(mask_file) if mask_file else None

    def _partners(self, name: str, topic: str, convert: Callable[..., np.ndarray]) -> Partners:
        return Partners(name, topic, convert, self._frames, self._config.sync_tolerance,
                        self._config.queue_size, self._note)

    def _note(self, reason: str, text: str) -> None:
        self.refusals.note(reason, text)    # those of this activation

    def add_camera_info(self, msg: CameraInfo) -> None:
        """Takes in the intrinsics."""
        self._infos.add(msg)

    def add_depth(self, msg: Image | CompressedImage) -> None:
        """Takes in a depth image."""
        self._depth.add(msg)

    def add_mask(self, msg: Image) -> None:
        """Takes in a mask image."""
        self._masks.add(msg)

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
        """Frames that are complete now, in the order in which their images came."""
        frames, waiting = list(self._complete), []
        self._complete.clear()
        for pending in self._pending:
            try:
                frames.append(self._assemble(pending))
            except Unusable as unusable:
                self.refusals.refuse(*unusable.args)
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
        for partners in (self._depth, self._masks):
            partners.restart(stamp_ns)

    def _make_room(self) -> None:
        """Takes the oldest image out: complete by now, or refused for what it still lacks."""
        try:
            self._complete.append(self._assemble(self._pending.popleft()))
        except Unusable as unusable:
            self.refusals.refuse(*unusable.args)
        except Missing as missing:
            reason, message = missing.args
            self.refusals.refuse(reason, f'{message}. It was the oldest of '
                                 f'{self._config.queue_size} images that wait (queue_size)')

    def _assemble(self, pending: PendingImage) -> Frame:
        """All of it is found before anything is decoded: an image may wait for long."""
        try:
            pose = self._lookup_pose(pending.camera_frame, pending.stamp_ns)
        except FrameError as error:
            raise Missing('no pose', str(error)) from error
        height, width = pending.image.shape[:2]
        lens = self._infos.of_image(pending.stamp_ns, width, height)
        self._frames.check('camera_info', self._infos.topic, lens.frame_id, pending.header_frame)
        found = [partners.of_image(pending.stamp_ns, pending.header_frame) if partners.topic
                 else None for partners in (self._depth, self._masks)]
        depth, valid = (
            partners.pixels(msg, pending.header_frame, height, width) if msg is not None else None
            for partners, msg in zip((self._depth, self._masks), found, strict=True))
        if self._mask is not None:
            valid = self._with_file(self._mask, valid, height, width)
        try:
            return Frame(pending.stamp_ns, pending.image, lens.camera, pose, depth, valid)
        except FrameError as error:
            raise Missing('bad pose', f'{error}; look at who publishes the pose') from error

    @staticmethod
    def _with_file(mask: np.ndarray, valid: np.ndarray | None, height: int,
                   width: int) -> np.ndarray:
        """The mask (H, W) of the file, and that of the topic where there is one."""
        if mask.shape != (height, width):
            raise Unusable('mask', f'mask_file has {mask.shape[1]}x{mask.shape[0]} pixels but '
                           f'images have {width}x{height}: give a mask of that size')
        return mask if valid is None else valid & mask

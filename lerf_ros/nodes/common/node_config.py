# SPDX-License-Identifier: Apache-2.0
"""Settings of the mapper node and the query node; those of the core are in lerf_ros/config/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lerf_ros.config.robot import RobotConfig
from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.bond import ALWAYS, AUTO, NEVER
from lerf_ros.settings import Checked, setting

AUTOSTART_DOC = 'configure and activate without a lifecycle manager'
BOND_DOC = ("heartbeat for nav2's lifecycle manager while the node is active, by bondpy; auto: "
            'where autostart is off and bondpy is installed; always: with autostart too, and not '
            'without bondpy')
MAP_DIRECTORY_DOC = ('where the map is kept; empty is a folder of this namespace below ROS_HOME '
                     '(~/.ros)')


@dataclass(frozen=True)
class CameraInput:
    """The topics, mask file and frame of one camera; an empty string stands for none."""

    image_topic: str
    camera_info_topic: str
    depth_topic: str
    mask_topic: str
    mask_file: str
    camera_frame: str
    depth_unit_m: float


@dataclass(frozen=True)
class MapperNodeConfig(Checked):
    """Settings of the mapper node."""

    autostart: bool = setting(True, AUTOSTART_DOC)
    bond: str = setting('auto', BOND_DOC, choices=(AUTO, ALWAYS, NEVER))
    map_directory: str = setting('', MAP_DIRECTORY_DOC)
    map_root: str = setting(
        '', 'where saved maps are kept; empty is the folder saved_maps beside the map directory')
    map_frame: str = setting('map', 'fixed frame of the map')
    camera_frame: str = setting('', 'optical frame of the camera; empty takes the image header')
    metric: bool = setting(True, 'whether pose and depth lengths are metres')
    image_topic: str = setting('camera/color/image_raw', 'colour images')
    image_transport: str = setting(
        'raw', 'compressed subscribes to image_topic/compressed', choices=('raw', 'compressed'))
    image_reliability: str = setting(
        'auto', 'QoS of the image, depth and mask subscriptions; auto follows the publisher',
        choices=('auto', 'reliable', 'best_effort'))
    image_rectified: bool = setting(
        False, 'images are free of distortion: use P of camera_info instead of K and D')
    image_bits: int = setting(
        0, 'bits that the camera uses of 16-bit encodings (mono16, rgb16, bayer_rggb16); 0 takes '
        'what the largest value so far needs', unit='bits', low=0, high=16)
    trust_frames: bool = setting(
        False, 'use depth, masks and camera_info whose header names another frame than the '
        'images; else those images are refused, unless TF puts both frames at the same place')
    camera_info_topic: str = setting('camera/color/camera_info', 'intrinsics of those images')
    depth_topic: str = setting('', 'depth registered to the colour images; empty for none')
    depth_transport: str = setting(
        'raw', 'compressed and compressedDepth subscribe to depth_topic/ with that name',
        choices=('raw', 'compressed', 'compressedDepth'))
    depth_unit_m: float = setting(
        0.0, 'length of one unit of depth; 0 takes that of the encoding, 0.001 for whole numbers '
        'and 1 for floats; cameras for close range often have 0.0001', unit='metres', low=0.0,
        high=1.0)
    mask_topic: str = setting('', 'mono8 images, 0 where the robot itself is; empty for none')
    mask_file: str = setting('', 'one such image for all frames; empty for none')
    extra_image_topics: tuple[str, ...] = setting(
        (), 'colour images of further cameras; the lists below have an entry for each, or none')
    extra_camera_info_topics: tuple[str, ...] = setting((), 'intrinsics of those images')
    extra_depth_topics: tuple[str, ...] = setting(
        (), 'depth of those images; none or empty names for cameras without')
    extra_mask_topics: tuple[str, ...] = setting((), 'masks of those images, as mask_topic')
    extra_mask_files: tuple[str, ...] = setting((), 'masks of those images, as mask_file')
    extra_camera_frames: tuple[str, ...] = setting(
        (), 'optical frames of those cameras; none or empty names take the image header')
    extra_depth_units_m: tuple[float, ...] = setting(
        (), 'units of the depth of those cameras, as depth_unit_m; none takes those of the '
        'encodings', unit='metres', low=0.0, high=1.0)
    pose_source: str = setting(
        'tf', 'where the camera pose comes from', choices=('tf', 'pose', 'odometry'))
    pose_topic: str = setting(
        'camera/pose', 'PoseStamped of the optical frame (pose) or Odometry (odometry)')
    pose_updates_topic: str = setting(
        '', 'nav_msgs/Path of better poses for keyframes, as after a loop closure: of the optical '
        'frame of the camera in map_frame, each with the stamp of its image; empty for none')
    odom_frame: str = setting(
        'odom', 'frame whose place in map_frame a localisation corrects on /tf (REP-105)')
    tf_jumps: str = setting(
        'spread', 'what keyframes do when odom_frame jumps in map_frame, as after a loop closure; '
        'spread: the error has grown with the distance since the jump before, the last keyframe '
        'moves as odom_frame did and the first stays; carry: all move as odom_frame did, for a map '
        'that was given another place; ignore: none moves', choices=('spread', 'carry', 'ignore'))
    tf_timeout: float = setting(
        5.0, 'how long an image waits for its pose, depth and mask; DDS repeats lost messages '
        'within 3', unit='seconds', low=0.0, high=60.0)
    sync_tolerance: float = setting(
        0.01, 'largest difference between the stamps of image and depth or mask', unit='seconds',
        low=0.0, high=1.0)
    queue_size: int = setting(30, 'images that wait at most; then the oldest is refused', low=1,
                              high=1000)
    load_timeout: float = setting(
        30.0, 'how long configuring may take; models that need longer, as they do the first time '
        'on a machine, load on, and it can be configured again', unit='seconds', low=1.0,
        high=3600.0)
    restart_limit: int = setting(
        5, 'how often within ten minutes a training process that died is started again', low=0,
        high=1000)
    status_period: float = setting(
        0.5, 'time between reports on lerf/status', unit='seconds', low=0.05, high=60.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.extra_image_topics)
        for name in ('camera_info_topics', 'depth_topics', 'mask_topics', 'mask_files',
                     'camera_frames', 'depth_units_m'):
            given = len(getattr(self, f'extra_{name}'))
            if given != count and (given or name == 'camera_info_topics'):
                raise ConfigError(f'extra_{name} has {given} entries and extra_image_topics '
                                  f'{count}: one for each camera')
        if 0 < self.image_bits < 8:
            raise ConfigError(f'image_bits is {self.image_bits}: 8 to 16, or 0 to find out')
        if count and self.pose_source == 'pose':
            raise ConfigError('pose_source pose speaks of one camera: with extra_image_topics '
                              'use tf or odometry')
        if count and self.pose_updates_topic:
            raise ConfigError('pose_updates_topic speaks of one camera: it does not go with '
                              'extra_image_topics')

    def cameras(self) -> tuple[CameraInput, ...]:
        """Returns the inputs of all cameras, the one of the single parameters first."""
        count = len(self.extra_image_topics)
        lists = (self.extra_image_topics, self.extra_camera_info_topics, self.extra_depth_topics,
                 self.extra_mask_topics, self.extra_mask_files, self.extra_camera_frames)
        padded = [entries or ('',) * count for entries in lists]
        units_m = self.extra_depth_units_m or (0.0,) * count
        return (CameraInput(self.image_topic, self.camera_info_topic, self.depth_topic,
                            self.mask_topic, self.mask_file, self.camera_frame,
                            self.depth_unit_m),
                *(CameraInput(*entries) for entries in zip(*padded, units_m, strict=True)))


@dataclass(frozen=True)
class FindConfig(Checked):
    """When lerf/find ends, where its goal does not say."""

    probability: float = setting(
        0.8, 'of the best hit, from which a thing is found for sure; its relevancy where there '
        'is no calibration', low=0.01, high=0.99)
    observed: float = setting(
        0.9, 'part of the place that must have been seen before a thing is called absent',
        low=0.01, high=1.0)
    time_limit: float = setting(
        120.0, 'how long it looks', unit='seconds', low=0.1, high=86400.0)
    feedback_period: float = setting(
        1.0, 'time between reports while nothing changes', unit='seconds', low=0.05, high=60.0)


@dataclass(frozen=True)
class QueryNodeConfig(Checked):
    """Settings of the query node."""

    autostart: bool = setting(True, AUTOSTART_DOC)
    bond: str = setting('auto', BOND_DOC, choices=(AUTO, ALWAYS, NEVER))
    map_directory: str = setting('', MAP_DIRECTORY_DOC)
    device: str = setting(
        'cpu', 'where phrases are encoded and compared with the map: cpu, cuda or cuda:n')
    refresh_period: float = setting(
        1.0, 'time between checks for a newer snapshot', unit='seconds', low=0.05, high=3600.0)
    max_waiting: int = setting(
        100, 'queries that wait at most; more are answered with BUSY in their turn', low=1,
        high=2000)
    frame_timeout: float = setting(
        2.0, 'how long the first query with a frame_id may wait for TF to arrive', unit='seconds',
        low=0.0, high=60.0)
    viewer_port: int = setting(
        0, 'port of a web page that shows the map and answers typed phrases; 0 for none', low=0,
        high=65535)
    viewer_host: str = setting(
        '127.0.0.1', 'address of that page; 0.0.0.0 shows the map to the whole network')
    base_frame: str = setting(
        '', 'TF frame of the base, whose place decides which stand-off pose and which views are '
        'near; empty: its place is not known')
    find: FindConfig = FindConfig()
    robot: RobotConfig = RobotConfig()


def map_directory(configured: str, namespace: str) -> Path:
    """Returns the absolute path of the map directory, the same for both nodes of a namespace."""
    if configured:
        return Path(configured).expanduser().absolute()
    home = Path(os.environ.get('ROS_HOME') or '~/.ros').expanduser()
    return home / 'lerf' / namespace.strip('/') / 'map'


def map_root(configured: str, directory: Path) -> Path:
    """Returns the absolute path of the folder with the saved maps of a map directory."""
    return Path(configured).expanduser().absolute() if configured else \
        directory.parent / 'saved_maps'

# SPDX-License-Identifier: Apache-2.0
"""Settings of the simulated camera, the replay and the demo client."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.settings import Checked, setting
from lerf_ros.simulation.stage import TABLE, WORLDS

IMAGE_TOPIC = 'camera/color/image_raw'
CAMERA_INFO_TOPIC = 'camera/color/camera_info'
DEPTH_TOPIC = 'camera/aligned_depth_to_color/image_raw'
MASK_TOPIC = 'camera/color/mask'
OPTICAL_FRAME = 'camera_color_optical_frame'


@dataclass(frozen=True)
class SimCameraConfig(Checked):
    """The simulated camera on its robot."""

    seed: int = setting(0, 'of layout, light, path and noise', low=0, high=2**31)
    world: str = setting(TABLE, 'a table that the camera is carried around, a corridor of tables, '
                         'or an apartment; through these a robot drives', choices=WORLDS)
    places: int = setting(2, 'tables of the corridor, or rooms of the apartment', low=1, high=36)
    speed: float = setting(0.5, 'of the robot in corridor and apartment, between its stops for '
                           'an image', unit='m/s', low=0.01, high=5.0)
    rate: float = setting(2.0, 'images rendered per second, or as many as the machine can',
                          unit='Hz', low=0.05, high=100.0)
    width: int = setting(640, 'of the image', unit='pixels', low=16, high=4096)
    height: int = setting(480, 'of the image', unit='pixels', low=16, high=4096)
    fx: float = setting(550.0, 'focal length, both ways', unit='pixels', low=1.0, high=1e5)
    duration: float = setting(60.0, 'length of the path around a table; after it images stop and '
                              'TF goes on', unit='seconds', low=0.5, high=86400.0)
    depth: bool = setting(True, 'publish depth as well')
    depth_encoding: str = setting('32FC1', '32FC1 (metres) or 16UC1 (millimetres)',
                                  choices=('32FC1', '16UC1'))
    auto_exposure: bool = setting(
        False, 'brightness follows what is in view, as with most cameras')
    image_noise: float = setting(2.0, 'standard deviation of the noise of a colour',
                                 unit='grey levels of 256', low=0.0, high=100.0)
    depth_noise: float = setting(0.003, 'standard deviation of the noise of the depth; in corridor '
                                 'and apartment it is that at a metre, and grows with the square',
                                 unit='part of the depth', low=0.0, high=1.0)
    latency: float = setting(0.05, 'from the stamp of an image to its publication, at least',
                             unit='seconds', low=0.0, high=10.0)
    tf_rate: float = setting(20.0, 'transforms published per second', unit='Hz', low=1.0,
                             high=1000.0)
    tf_latency: float = setting(0.3, 'from the stamp of a transform to its publication',
                                unit='seconds', low=0.0, high=10.0)
    error_translation: float = setting(0.0, 'error of the pose, root mean square', unit='m',
                                       low=0.0, high=10.0)
    error_rotation: float = setting(0.0, 'error of the pose, root mean square', unit='degrees',
                                    low=0.0, high=90.0)
    wait_for_subscriber: bool = setting(
        True, 'start the path when somebody listens to the image, so that none is lost')
    map_frame: str = setting('map', 'fixed frame, that of the ground truth')
    frame_prefix: str = setting('', 'before the names of all frames but the map, as in robot_a/')


@dataclass(frozen=True)
class ReplayConfig(Checked):
    """What to play: a folder of posed images or a bag."""

    folder: str = setting('', 'capture: transforms.json and images, or an export of Polycam, '
                          'Record3D or COLMAP; or give bag')
    bag: str = setting('', 'rosbag2: its folder, or a lone .mcap or .db3; or give folder')
    rate: float = setting(2.0, 'images per second of a folder', unit='Hz', low=0.01, high=1000.0)
    speed: float = setting(1.0, 'of a bag: 2 plays twice as fast', low=0.001, high=1000.0)
    scale: float = setting(1.0, 'of a folder: metres per unit of its poses', unit='m', low=1e-9,
                           high=1e9)
    max_side: int = setting(0, 'of a folder: larger images are made this small; 0 keeps them',
                            unit='pixels', low=0, high=100000)
    mask_file: str = setting('', 'of a folder: one mask for all images, 0 where the robot is')
    loop: bool = setting(False, 'start again at the end')
    start_delay: float = setting(1.0, 'wait before the first message', unit='seconds', low=0.0,
                                 high=3600.0)
    wait_for_subscriber: bool = setting(
        True, 'start when somebody listens to the images, so that none is lost')
    clock: bool = setting(False, 'of a bag: publish its time on /clock')
    topic_prefix: str = setting(
        '', 'of a bag: before all topics but /tf, /tf_static and /clock, as in /robot_a')
    map_frame: str = setting('map', 'of a folder: the frame of its poses')
    camera_frame: str = setting(OPTICAL_FRAME, 'of a folder: the frame of the images')


@dataclass(frozen=True)
class DemoClientConfig(Checked):
    """What the demo asks, when, and where it writes."""

    seed: int = setting(0, 'of the simulated scene, whose ground truth is compared', low=0,
                        high=2**31)
    world: str = setting(TABLE, 'of the simulated camera', choices=WORLDS)
    places: int = setting(2, 'of the simulated camera', low=1, high=36)
    out: str = setting('out/demo', 'folder of pictures, map cloud and results.json')
    map_directory: str = setting('', 'map whose keyframes are the photographs; empty: no pictures')
    present: int = setting(8, 'objects asked for, in the order of the scene; 0 asks for all',
                           low=0, high=1000)
    absent: int = setting(3, 'phrases asked for things that are not there', low=0, high=50)
    time_budget: float = setting(
        600.0, 'from the first image to the first question, even if the map is not settled; twice '
        'that without a snapshot from after the last image', unit='seconds', low=1.0, high=86400.0)
    start_timeout: float = setting(240.0, 'wait for the first image', unit='seconds', low=1.0,
                                   high=86400.0)
    call_timeout: float = setting(60.0, 'wait for one answer', unit='seconds', low=0.1,
                                  high=3600.0)
    quiet: float = setting(5.0, 'without an image for this long the capture is over',
                           unit='seconds', low=0.1, high=3600.0)
    check: bool = setting(True, 'exit with 1, and say why, when fewer than 7 of 8 are right or an '
                                'absent one is found')

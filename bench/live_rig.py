# SPDX-License-Identifier: Apache-2.0
"""A looping simulated camera and a user, around the mapper and query nodes as real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import matrix_to_pose, ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.demo.config import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC
from lerf_ros.processes import node_command
from lerf_ros.simulation.renderer import SceneRenderer
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.trajectory import hand_held_path
from lerf_ros.srv import LoadMap, Query, SaveMap

CAMERA = PinholeCamera(320, 240, 275.0, 275.0, 160.0, 120.0)
LENS = 'lens'
PHRASES = ('a banana', 'a mug', 'a ball', 'a book', 'a bicycle')
# Small fields and few rays, because these tests check robustness, not quality.
FAST: dict[str, object] = {
    'preset': 'offline', 'depth_topic': DEPTH_TOPIC, 'status_period': 0.2,
    'training.threads': 1, 'training.rays': 128, 'training.language_rays': 64,
    'training.settle_steps': 100000, 'field.levels': 8, 'field.log2_table': 14,
    'field.max_resolution': 128, 'field.proposal_log2_table': 14, 'language.log2_table': 13,
    'index.rays': 8000, 'features.widths': [0.2]}


@dataclass(frozen=True)
class Reel:
    """What a camera sees one after the other.

    poses: T_world_camera (4, 4) of each view. images: (H, W, 3) uint8. depths: (H, W), uint16
    millimetres or float32 metres.
    """

    camera: PinholeCamera
    poses: Sequence[np.ndarray]
    images: Sequence[np.ndarray]
    depths: Sequence[np.ndarray]

    @classmethod
    def of_table(cls, views: int = 40, seed: int = 0) -> Reel:
        """Renders the views of a camera that is carried around a table."""
        scene = TabletopScene.generate(seed)
        path, renderer = hand_held_path(seed, scene, float(views)), SceneRenderer(scene)
        poses = [path(float(t)) for t in range(views)]
        seen = [renderer.render(CAMERA, T) for T in poses]
        return cls(CAMERA, poses, [view.image for view in seen], [
            np.where(np.isfinite(view.depth_m), view.depth_m, 0).astype(np.float32)
            for view in seen])


class Robot(Node):
    """Publishes the same views there and back again, each with its depth and its pose."""

    def __init__(self, rate: float, reel: Reel) -> None:
        super().__init__('bench_robot')
        self.reel, self.count = reel, 0
        self.driving = True
        self.reports: list[tuple[float, FieldStatus]] = []
        self._images = self.create_publisher(Image, IMAGE_TOPIC, topics.profile(10))
        self._depths = self.create_publisher(Image, DEPTH_TOPIC, topics.profile(10))
        self._infos = self.create_publisher(CameraInfo, CAMERA_INFO_TOPIC, topics.profile(10))
        self._tf = self.create_publisher(TFMessage, '/tf', topics.TF_QOS)
        self.create_subscription(FieldStatus, topics.STATUS, self._report, topics.STATUS_QOS)
        self.asks = self.create_client(Query, topics.QUERY)
        self.saves = self.create_client(SaveMap, topics.SAVE_MAP)
        self.loads = self.create_client(LoadMap, topics.LOAD_MAP)
        self.create_timer(1 / rate, self._publish)

    def _report(self, msg: FieldStatus) -> None:
        self.reports.append((time.monotonic(), msg))
        del self.reports[:-20000]

    def _publish(self) -> None:
        if not self.driving:
            return
        reel = self.reel
        number = self.count % (2 * len(reel.poses))     # back and forth, without a jump
        number = min(number, 2 * len(reel.poses) - 1 - number)
        image, depth, T = reel.images[number], reel.depths[number], reel.poses[number]
        self.count += 1
        transform = TransformStamped(child_frame_id=LENS)
        header = transform.header
        header.stamp = ns_to_stamp(self.get_clock().now().nanoseconds)
        header.frame_id = 'map'
        pose = matrix_to_pose(T)
        translation = transform.transform.translation
        translation.x, translation.y, translation.z = (
            pose.position.x, pose.position.y, pose.position.z)
        transform.transform.rotation = pose.orientation
        self._tf.publish(TFMessage(transforms=[transform]))
        seen = type(header)(stamp=header.stamp, frame_id=LENS)
        self._infos.publish(to_camera_info(reel.camera, seen))
        self._depths.publish(to_image(
            np.asarray(depth), '16UC1' if depth.dtype == np.uint16 else '32FC1', seen))
        self._images.publish(to_image(np.asarray(image), 'rgb8', seen))


class Rig:
    """A simulated robot that spins in its own thread, and nodes that can be started and killed."""

    def __init__(self, out: Path, parameters: Mapping[str, object], rate: float,
                 nice: int = 0, reel: Reel | None = None) -> None:
        """parameters: of the nodes, in addition to FAST; a value of None takes one of those away.

        reel: what the camera sees; a table without it.
        """
        self.out, self.nice = out, nice
        self.map, self.saved = out / 'map', out / 'saved'
        out.mkdir(parents=True, exist_ok=True)
        set_here = {**FAST, 'map_directory': str(self.map), 'map_root': str(self.saved),
                    **parameters}
        self.parameters = {key: value for key, value in set_here.items() if value is not None}
        self.processes: dict[str, subprocess.Popen] = {}
        rclpy.init()
        self.robot = Robot(rate, reel or Reel.of_table())
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.robot)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._over.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def start(self, name: str) -> None:
        """Starts mapper_node or query_node, with its output in a file."""
        own = {k: v for k, v in self.parameters.items()
               if name == 'mapper_node' or k.split('.')[0] not in (
                   'training', 'field', 'language', 'index', 'map', 'keyframes', 'submaps')
               and k not in ('depth_topic', 'status_period', 'map_root', 'restart_limit',
                             'features.widths')}
        options = [word for key, value in own.items() for word in (
            '-p', f'{key}:={str(value).lower() if isinstance(value, bool) else value}')]
        log = (self.out / f'{name}.log').open('ab')
        command = (['nice', '-n', str(self.nice)] if self.nice else []) + node_command(
            name, options)
        self.processes[name] = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE'})

    def pids(self, name: str) -> list[int]:
        """Returns the process ids of a node and its children, the node first."""
        pid = self.processes[name].pid
        try:
            children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
        except OSError:
            children = []
        return [pid, *map(int, children)]

    def trainer(self) -> int | None:
        """Returns the id of the training process, if there is one."""
        for pid in self.pids('mapper_node')[1:]:
            try:
                command = Path(f'/proc/{pid}/cmdline').read_bytes()
            except OSError:
                continue
            if b'spawn_main' in command:
                return pid
        return None

    def kill(self, pid: int) -> None:
        """Kills processes as the system does when it is out of memory."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def ask(self, phrase: str, timeout_s: float) -> tuple[Query.Response | None, float]:
        """Asks a phrase; returns the response, None for no response, and the seconds it took."""
        return self.call(self.robot.asks, Query.Request(text=phrase), timeout_s)

    def answers(self) -> bool:
        """Returns whether a query is answered from a snapshot."""
        response, _ = self.ask(PHRASES[1], 5.0)
        return response is not None and response.success

    def call(self, client: Client, request: object, timeout_s: float) -> tuple[Any, float]:
        """Calls a service from another thread than the one that spins."""
        start = time.monotonic()
        if not client.service_is_ready():
            return None, 0.0
        future = client.call_async(request)
        while not future.done() and time.monotonic() - start < timeout_s:
            time.sleep(0.002)
        if not future.done():
            client.remove_pending_request(future)
            return None, time.monotonic() - start
        return future.result(), time.monotonic() - start

    def status(self) -> FieldStatus | None:
        """Returns the newest report of the mapper; None before the first."""
        return self.robot.reports[-1][1] if self.robot.reports else None

    def close(self) -> None:
        """Ends all processes: asks them to stop first, then kills them."""
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
        self._over.set()
        self._thread.join()
        self.robot.destroy_node()
        rclpy.shutdown()


def wait_until(condition: Callable[[], object], limit_s: float) -> bool:
    """Returns whether the condition became true within the time."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


if __name__ == '__main__':
    sys.exit('a part of kill_test.py, soak.py and long_drive.py')

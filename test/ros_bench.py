# SPDX-License-Identifier: Apache-2.0
"""Fakes and messages for the tests of the nodes."""

import contextlib
import threading
import time
from types import SimpleNamespace

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from lerf_ros.errors import NoSnapshotError
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.mapping.messages import MapperStatus
from lerf_ros.nodes.common.conversions import ns_to_stamp, to_camera_info, to_image
from lerf_ros.nodes.common.topics import TF_QOS, profile
from lerf_ros.query.answer import Answer, Hit, Presence

CAMERA = PinholeCamera(32, 24, 30.0, 30.0, 16.0, 12.0)


def spin_until(nodes, condition, timeout_s=180.0):
    """Serves the nodes until the condition holds; whether it did in time."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if condition():
                return True
            executor.spin_once(timeout_sec=0.02)
        return bool(condition())
    finally:
        for node in nodes:
            executor.remove_node(node)
        executor.shutdown()


@contextlib.contextmanager
def spinning(node):
    """Spins a node in a thread, and destroys it in the end."""
    executor, stop = SingleThreadedExecutor(), threading.Event()
    executor.add_node(node)

    def spin():
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        executor.shutdown()
        node.destroy_node()


def overrides(**values):
    return [Parameter(name.replace('__', '.'), value=value) for name, value in values.items()]


class FakeProcess:
    """Takes keyframes and never trains."""

    def __init__(self, config, directory, frame_id, metric, restarts=5):
        self.config, self.directory = config, directory
        self.frame_id, self.metric = frame_id, metric
        self.frames, self.calls, self.answers = [], [], []
        self.alive, self.full = False, False
        self.report = MapperStatus(state='mapping', steps=7, snapshot_stamp_ns=5 * 10**9)

    def start(self):
        self.alive = True
        self.calls.append('start')

    def add(self, frame):
        self.frames.append(frame)
        if self.full:
            del self.frames[0]
        return int(self.full)

    def status(self):
        return self.report

    def pause(self, paused):
        self.calls.append('pause' if paused else 'resume')

    def send(self, command):
        self.calls.append(command)

    def ask(self, command):
        self.calls.append(command)
        return len(self.calls)

    def reply(self, number):
        return self.answers.pop(0)(number) if self.answers else None

    def stop(self, timeout_s=10.0):
        self.alive = False
        self.calls.append('stop')


def answer(text='red mug', found=True, metric=True):
    """Two points, the first of them relevant."""
    hit = Hit(np.array([1.0, 2.0, 3.0]), np.eye(3), np.array([0.1, 0.2, 0.4]), 0.8, 0.3, 1, 4)
    target = np.eye(4)
    target[:3, 3] = hit.position
    return Answer(text, Presence(found), 0.55, (hit,) if found else (),
                  np.array([[1.0, 2, 3], [0, 0, 0]]), np.array([0.8, 0.1]),
                  np.full((2, 3), 9, np.uint8), target if found else None,
                  'map', metric, 1, 5 * 10**9)


class FakeMap:
    """Answers every phrase with `result`, or raises it."""

    result = answer()
    snapshot, info = None, {}

    def __init__(self, directory, settings=None, device='cpu'):
        self.directory, self.ready, self.snapshot_id, self.requests = directory, True, 1, []
        self.frame_id, self.snapshot_stamp_ns, self.map_id = 'map', 5 * 10**9, 'a'
        self.given = dict(settings or {})

    def settings(self):
        return {}

    def change(self, settings):
        self.given.update(settings)

    def refresh(self):
        return False

    def mapped_space(self, around=None):
        raise NoSnapshotError('this map knows nothing of space')

    def surface(self):
        return np.zeros((1, 3)), np.zeros((1, 3), np.uint8)

    def ask(self, request):
        self.requests.append(request)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Camera:
    """Publishes images, camera_info, depth and TF from a node, whatever is asked for."""

    def __init__(self, node, prefix='', reliable=True):
        self.node = node
        qos = profile(10, reliable)
        names = SimpleNamespace(image='camera/color/image_raw', info='camera/color/camera_info',
                                depth='camera/depth')
        self.images = node.create_publisher(Image, prefix + names.image, qos)
        self.infos = node.create_publisher(CameraInfo, prefix + names.info, qos)
        self.depths = node.create_publisher(Image, prefix + names.depth, qos)
        self.tf = node.create_publisher(TFMessage, '/tf', TF_QOS)

    def matched(self):
        return self.images.get_subscription_count() and self.infos.get_subscription_count()

    def header(self, stamp_ns, frame='lens'):
        header = TransformStamped().header
        header.stamp, header.frame_id = ns_to_stamp(stamp_ns), frame
        return header

    def image(self, stamp_ns, camera=CAMERA, encoding='rgb8'):
        checker = np.indices((camera.height, camera.width)).sum(0) % 2 * 255
        msg = to_image(np.repeat(checker[..., None], 3, 2).astype(np.uint8), 'rgb8',
                       self.header(stamp_ns))
        msg.encoding = encoding
        self.images.publish(msg)

    def info(self, camera=CAMERA):
        self.infos.publish(to_camera_info(camera, self.header(1)))

    def depth(self, stamp_ns, size=(24, 32), encoding='16UC1'):
        msg = to_image(np.full(size, 1500, np.uint16), '16UC1', self.header(stamp_ns))
        msg.encoding = encoding
        self.depths.publish(msg)

    def pose(self, stamp_ns, x=0.0, child='lens'):
        transform = TransformStamped(child_frame_id=child)
        transform.header.stamp, transform.header.frame_id = ns_to_stamp(stamp_ns), 'map'
        transform.transform.translation.x = x
        self.tf.publish(TFMessage(transforms=[transform]))

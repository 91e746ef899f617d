# SPDX-License-Identifier: Apache-2.0
"""Calls lerf/query from a thread and turns the response into what the core computes with."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField

from lerf_ros.errors import LerfError
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import pose_to_matrix, stamp_to_ns
from lerf_ros.query.answer import Answer, Grasp, Hit, Presence, Timing
from lerf_ros.srv import Query

RETRY_S = 1.0
# The query node looks for a newer snapshot every second, and loads it in a few.
PATIENCE_WITH_OLD_S = 10.0
POINT_TYPES = {PointField.FLOAT32: '<f4', PointField.UINT32: '<u4'}


class QueryClient:
    """Synchronous calls, never from the thread that spins the node."""

    def __init__(self, node: Node, timeout_s: float):
        self._client = node.create_client(Query, topics.QUERY, qos_profile=topics.QUERY_QOS)
        self._timeout_s = timeout_s

    def ask(self, text: str, newer_than_ns: int = 0) -> tuple[Answer, float]:
        """The answer, with its cloud, and the seconds that the whole round trip took.

        Asks again while there is no snapshot, and for a while when the snapshot is older than
        `newer_than_ns`; tells the time of the last call. Raises LerfError when the service is not
        there, does not answer, refuses, or still has no snapshot after the timeout.
        """
        first = time.monotonic()
        while True:
            started = time.monotonic()
            response = self._call(Query.Request(text=text, return_cloud=True))
            latency_s = time.monotonic() - started
            waited_s = time.monotonic() - first
            old = stamp_to_ns(response.snapshot_stamp) < newer_than_ns
            if response.success and not (old and waited_s < PATIENCE_WITH_OLD_S):
                return answer_from_response(text, response), latency_s
            if not response.success and (response.error_code != Query.Response.NO_SNAPSHOT
                                         or waited_s > self._timeout_s):
                raise LerfError(f'lerf/query did not answer {text!r}: error '
                                f'{response.error_code}, {response.message}')
            time.sleep(RETRY_S)

    def _call(self, request: Any) -> Any:
        if not self._client.wait_for_service(self._timeout_s):
            raise LerfError(f'no service {self._client.srv_name}: is the query node running and '
                            'active?')
        arrived = threading.Event()
        future = self._client.call_async(request)
        future.add_done_callback(lambda _: arrived.set())
        if not arrived.wait(self._timeout_s):
            raise LerfError(f'{self._client.srv_name} gave no answer to {request.text!r} within '
                            f'{self._timeout_s:.0f} s')
        return future.result()


def answer_from_response(text: str, response: Any) -> Answer:
    """The response of the service as an Answer; its threshold is not known (NaN)."""
    points, colors, relevancy = read_cloud(response.cloud)
    target = pose_to_matrix(response.target_pose.pose) if response.has_target else None
    return Answer(
        text=text, presence=Presence(response.found), threshold=math.nan,
        hits=tuple(hit_from_message(hit) for hit in response.hits), points_world=points,
        relevancy=relevancy, colors=colors, T_world_target=target,
        frame_id=response.target_pose.header.frame_id, metric=response.metric, snapshot_id=0,
        snapshot_stamp_ns=stamp_to_ns(response.snapshot_stamp),
        grasps=tuple(grasp_from_message(grasp) for grasp in response.grasps),
        no_target_reason=response.no_target_reason,
        learning='the map is still learning' if response.learning else '',
        probability=response.probability,
        observed=response.observed,
        timing=Timing(response.encode_time, response.search_time, response.grasp_time))


def hit_from_message(msg: Any) -> Hit:
    """A QueryHit as a Hit of the core."""
    T_world_box = pose_to_matrix(msg.pose)
    return Hit(T_world_box[:3, 3], T_world_box[:3, :3],
               np.array([msg.size.x, msg.size.y, msg.size.z]), msg.relevancy, msg.scale,
               msg.points, msg.keyframes, msg.label, msg.probability)


def grasp_from_message(msg: Any) -> Grasp:
    """A GraspCandidate as a Grasp of the core."""
    return Grasp(pose_to_matrix(msg.pose), pose_to_matrix(msg.pregrasp_pose),
                 pose_to_matrix(msg.gripper_pose), msg.opening_width, msg.score,
                 msg.semantic_score, msg.geometric_score)


def read_cloud(msg: PointCloud2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) float64, colours (N, 3) uint8 and relevancy (N,) float64 of a cloud."""
    fields = {f.name: f for f in msg.fields}
    dtype = np.dtype({'names': list(fields), 'itemsize': max(msg.point_step, 1),
                      'formats': [POINT_TYPES[f.datatype] for f in fields.values()],
                      'offsets': [f.offset for f in fields.values()]}) if fields else None
    if dtype is None or not msg.width:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0)
    cloud = np.frombuffer(msg.data, dtype)
    packed = np.ascontiguousarray(cloud['rgb']).view('<u4')
    colors = np.stack([packed >> 16, packed >> 8, packed], -1) & 255
    points = np.stack([cloud['x'], cloud['y'], cloud['z']], -1).astype(np.float64)
    return points, colors.astype(np.uint8), cloud['relevancy'].astype(np.float64)


class MapProgress:
    """What the images and the reports on lerf/status told so far; times are in seconds."""

    def __init__(self, quiet_s: float):
        """quiet_s: the capture is over when no image came for this long."""
        self._quiet_s = quiet_s
        self.first_image_ns: int | None = None
        self.status: Any = None
        self._last_image_s, self._last_image_ns = -math.inf, 0

    def image(self, stamp_ns: int, now_s: float) -> None:
        """An image with this stamp was published."""
        self.first_image_ns = stamp_ns if self.first_image_ns is None else self.first_image_ns
        self._last_image_s, self._last_image_ns = now_s, stamp_ns

    def report(self, status: Any) -> None:
        """A FieldStatus arrived."""
        self.status = status

    def capture_over(self, now_s: float) -> bool:
        """Whether images came, and no more do."""
        return self.first_image_ns is not None and now_s - self._last_image_s > self._quiet_s

    def ready(self, now_s: float) -> bool:
        """Whether no more images come and the mapper says that it has learned all of them.

        Steps that rest for a while mean nothing: they do so while a snapshot is written too.
        """
        status = self.status
        return (status is not None and self.capture_over(now_s)
                and stamp_to_ns(status.newest_snapshot) > 0
                and status.state == FieldStatus.SETTLED)

    def snapshot_after_capture(self) -> bool:
        """Whether the newest snapshot was taken after the last image."""
        return (self.status is not None
                and stamp_to_ns(self.status.newest_snapshot) > self._last_image_ns)

    def line(self) -> str:
        """For people: how far the map is."""
        status = self.status
        if status is None:
            return ('no report on lerf/status yet: the mapper is starting, or it does not run in '
                    'this ROS domain')
        if status.state == FieldStatus.WAITING and not status.keyframes_used:
            return status.message or 'the mapper waits'
        quality = '' if math.isnan(status.psnr) else f', PSNR {status.psnr:.1f} dB'
        words = f' ({status.message})' if status.message else ''
        return (f'{status.keyframes_used} keyframes, {status.steps} steps, '
                f'{status.rays_per_second:.0f} rays/s{quality}{words}')

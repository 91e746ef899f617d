# SPDX-License-Identifier: Apache-2.0
"""Calls lerf/query from a thread, and follows how far the map is on lerf/status."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

from rclpy.node import Node

from lerf_ros.errors import LerfError
from lerf_ros.msg import ErrorCode, FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import read_cloud, stamp_to_ns
from lerf_ros.nodes.query.from_messages import answer_from_message
from lerf_ros.nodes.query.messages import error_name
from lerf_ros.query.answer import Answer, Timing
from lerf_ros.srv import Query

RETRY_S = 1.0
# The query node checks for a newer snapshot every second, and loads it in a few.
OLD_SNAPSHOT_PATIENCE_S = 10.0


class QueryClient:
    """Calls the query service synchronously; not for the thread that spins the node."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._client = node.create_client(Query, topics.QUERY, qos_profile=topics.QUERY_QOS)
        self._timeout_s = timeout_s

    def ask(self, text: str, newer_than_ns: int = 0) -> tuple[Answer, float]:
        """Returns the answer with its cloud, and the seconds that the last call took.

        Asks again while there is no snapshot, and for some seconds while the snapshot is older than
        `newer_than_ns`. Raises LerfError when the service is absent, does not answer, reports an
        error, or still has no snapshot after the timeout.
        """
        first = time.monotonic()
        while True:
            started = time.monotonic()
            response = self._call(Query.Request(text=text, return_cloud=True))
            latency_s = time.monotonic() - started
            waited_s = time.monotonic() - first
            old = stamp_to_ns(response.snapshot_stamp) < newer_than_ns
            if response.success and not (old and waited_s < OLD_SNAPSHOT_PATIENCE_S):
                return answer_from_response(text, response), latency_s
            if not response.success and (response.error_code != ErrorCode.NO_SNAPSHOT
                                         or waited_s > self._timeout_s):
                raise LerfError(f'lerf/query did not answer {text!r}: '
                                f'{error_name(response.error_code)}, {response.message}')
            time.sleep(RETRY_S)

    def _call(self, request: Query.Request) -> Query.Response:
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


def answer_from_response(text: str, response: Query.Response) -> Answer:
    """Returns the response of the service as an Answer with its cloud; see answer_from_message."""
    cloud = read_cloud(response.cloud)
    return replace(
        answer_from_message(text, response), points_world=cloud.points, relevancy=cloud.relevancy,
        colors=cloud.colors, hit_numbers=cloud.hits, timing=Timing(
            response.encode_time, response.search_time, response.grasp_time))


class MapProgress:
    """Tells from the images and the reports on lerf/status how far the map is."""

    def __init__(self, quiet_s: float) -> None:
        """quiet_s: seconds without an image after which the capture is over."""
        self._quiet_s = quiet_s
        self.first_image_ns: int | None = None
        self.status: FieldStatus | None = None
        self._last_image_s, self._last_image_ns = -math.inf, 0

    def image(self, stamp_ns: int, now_s: float) -> None:
        """Notes an image with this stamp that was published at now_s (monotonic seconds)."""
        self.first_image_ns = stamp_ns if self.first_image_ns is None else self.first_image_ns
        self._last_image_s, self._last_image_ns = now_s, stamp_ns

    def report(self, status: FieldStatus) -> None:
        """Notes a report of the mapper."""
        self.status = status

    def capture_over(self, now_s: float) -> bool:
        """Returns whether images came and have ended."""
        return self.first_image_ns is not None and now_s - self._last_image_s > self._quiet_s

    def ready(self, now_s: float) -> bool:
        """Returns whether the images have ended and the mapper says that it has learned them all.

        A pause in the training steps would prove nothing: a snapshot causes one too.
        """
        status = self.status
        return (status is not None and self.capture_over(now_s)
                and stamp_to_ns(status.newest_snapshot) > 0
                and status.state == FieldStatus.SETTLED)

    def snapshot_after_capture(self) -> bool:
        """Returns whether the newest snapshot was taken after the last image."""
        return (self.status is not None
                and stamp_to_ns(self.status.newest_snapshot) > self._last_image_ns)

    def line(self) -> str:
        """Returns a line for people that says how far the map is."""
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

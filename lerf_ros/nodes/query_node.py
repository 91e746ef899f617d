# SPDX-License-Identifier: Apache-2.0
"""Answers phrases over lerf/query from the newest snapshot of a map directory."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2

from lerf_ros.config import FeatureConfig, GraspConfig, QueryConfig
from lerf_ros.errors import LerfError, NotActiveError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import answer_to_cloud
from lerf_ros.nodes.common.lifecycle import ManagedNode, started
from lerf_ros.nodes.common.live_parameters import LiveParameters
from lerf_ros.nodes.common.node_config import QueryNodeConfig, map_directory
from lerf_ros.nodes.common.parameters import declare_all, given_settings
from lerf_ros.nodes.common.running import run_node
from lerf_ros.nodes.query.answer_frames import AnswerFrames
from lerf_ros.nodes.query.answer_publisher import AnswerPublisher
from lerf_ros.nodes.query.deferred_service import DeferredService
from lerf_ros.nodes.query.diagnostics import QueryDiagnostics
from lerf_ros.nodes.query.heap import give_back, keep_few_kernels, share_heaps
from lerf_ros.nodes.query.messages import (
    check_frame,
    error_code,
    fill_error,
    fill_response,
    to_request,
)
from lerf_ros.nodes.query.standing_prompt import StandingPrompt
from lerf_ros.query.answer import Answer, in_frame
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.words import summary
from lerf_ros.srv import Query

WARN_PERIOD_S = 10.0
CLOSE_S = 1.0


@dataclass(frozen=True)
class AnswerConfig:
    """The sections of the core's settings that matter for answers."""

    query: QueryConfig = QueryConfig()
    features: FeatureConfig = FeatureConfig()
    grasp: GraspConfig = GraspConfig()


def open_map(*arguments: Any, **named: Any) -> Any:
    """A MapQuery; its import takes seconds, and a wrong parameter should not wait for it."""
    from lerf_ros.map_query import MapQuery
    return MapQuery(*arguments, **named)


def open_page(*arguments: Any) -> Any:
    """A MapPage; viser is needed only by those who want the page."""
    from lerf_ros.show.page import MapPage
    return MapPage(*arguments)


def why_fixed(name: str) -> str:
    """Why a parameter cannot change while the query node runs; empty when it can."""
    if name.startswith(('query.', 'grasp.')):
        return ''
    if name.startswith('features.') or name == 'preset':
        return 'the encoder is that of the map: start query_node again to try another one'
    return 'query_node reads it when it starts: start it again with the new value'


class QueryNode(ManagedNode):
    """Converts, asks the map, publishes. Answers come from one thread, newer snapshots by another.

    So the executor's thread is always free: to take requests, and to tell that there are too many.
    """

    service: DeferredService | None = None

    def __init__(self, map_factory: Callable[..., Any] = open_map, **arguments: Any) -> None:
        """Raises ConfigError for a parameter that is wrong or does not exist."""
        super().__init__('query_node', **arguments)
        self._map_factory = map_factory
        self.settings, config = declare_all(self, QueryNodeConfig(), AnswerConfig(),
                                            read_only=False)
        # What was given to this node by name comes before what the map was made with.
        self.given = given_settings(self, config)
        self.live = LiveParameters(self, (self.settings, config), why_fixed, self.change)
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.map: Any = None
        self._map_error: LerfError | None = None
        self._queries = 0
        self._refresh_timer: Any = None
        self.page: Any = None
        self._refreshing = threading.Lock()
        self._asking = threading.Lock()
        self.publisher = AnswerPublisher(self)
        self.frames = AnswerFrames(self, self.settings.frame_timeout)
        self.service = DeferredService(
            self, Query, topics.QUERY, topics.QUERY_QOS, self.settings.max_waiting, self.on_query,
            self.refuse)
        self.prompt = StandingPrompt(self, self.answer_prompt)
        self.diagnostics = QueryDiagnostics(self, self._state)

    def configure(self) -> None:
        """Opens the map directory; it may be empty until the mapper has written a snapshot."""
        self.map = self._map_factory(self.directory, self.given, self.settings.device)
        if self.directory.is_dir():
            self.get_logger().info(f'answers come from the map in {self.directory}')
        else:
            self.get_logger().warning(f'there is no map in {self.directory} yet: answers begin '
                                      'with the first snapshot that a mapper writes there')

    def change(self, settings: Mapping[str, Any]) -> None:
        """Takes settings of queries and grasps, from the next answer on. Raises ConfigError."""
        if self.map is not None:
            self.map.change(settings)
        self.given = {**self.given, **settings}
        self.prompt.due = self.prompt.request is not None

    def activate(self) -> None:
        """Loads the newest snapshot and looks for newer ones."""
        self.refresh()
        self._refresh_timer = self.create_timer(self.settings.refresh_period, self.start_refresh)
        if self.settings.viewer_port:
            self.page = open_page(self.ask, self.directory, self.settings.viewer_host,
                                  self.settings.viewer_port)
            self.get_logger().info(f'the map is shown at {self.page.url}')

    def deactivate(self) -> None:
        """Stops looking for snapshots and ends the page; queries are answered with NOT_ACTIVE."""
        if self.page is not None:
            self.page.close()
            self.page = None
        if self._refresh_timer is not None:
            self.destroy_timer(self._refresh_timer)
            self._refresh_timer = None

    def release(self) -> None:
        """Forgets the map."""
        self.deactivate()
        self.map = self._map_error = None

    def destroy_node(self) -> None:
        """Ends the thread that answers, then the node."""
        if self.service is not None:
            self.service.close(CLOSE_S)
        super().destroy_node()

    def start_refresh(self) -> None:
        """Looks for a newer snapshot beside the answers, which go on meanwhile."""
        self.answer_prompt()
        if self.page is not None and self.page.answer is None:
            self.page.refreshed()
        if not self._refreshing.locked():
            threading.Thread(target=self.refresh, name='refresh', daemon=True).start()

    def refresh(self) -> None:
        """Loads a newer snapshot if there is one; an error is kept for those who ask."""
        map_ = self.map
        if map_ is None:
            return
        with self._refreshing:
            before = map_.map_id
            try:
                loaded = map_.refresh()
                if before and map_.map_id != before:    # reset, or another one in its place
                    self.publisher.clear(map_.frame_id, self.get_clock().now().to_msg())
                if loaded:
                    self._show_loaded(map_)
                self._map_error = None
            except LerfError as error:
                self._map_error = error
                self.get_logger().warning(str(error), throttle_duration_sec=WARN_PERIOD_S)

    def _show_loaded(self, map_: Any) -> None:
        """Tells everybody that another snapshot answers now, and under which settings."""
        self.get_logger().info(f'snapshot {map_.snapshot_id} answers from now on')
        self.publisher.read_keyframes(self.directory)
        self.live.show({name: value for name, value in map_.settings().items()
                        if name not in self.given})
        self.prompt.due = True
        give_back()
        if self.page is not None:
            self.page.refreshed()

    def refuse(self, response: Query.Response) -> None:
        """The response to a request for which there was no room."""
        self._queries += 1
        response.query_id = self._queries
        fill_error(response, Query.Response.BUSY,
                   f'{self.settings.max_waiting} queries are waiting: ask again later')
        self.diagnostics.tally.add(response.error_code, 0.0)

    def on_query(self, request: Query.Request,
                 response: Query.Response) -> Callable[[], None] | None:
        """Fills the response: every failure is a named code, the node lives on.

        Returns what publishes the answer on the topics: who asked need not wait for that.
        """
        self._queries += 1
        response.query_id = self._queries
        publish, start = None, time.monotonic()
        try:
            publish = self._answer(request, response)
        except LerfError as error:
            fill_error(response, error_code(error), str(error))
        except Exception as error:
            self.get_logger().error(f'query {self._queries}: {traceback.format_exc()}')
            fill_error(response, Query.Response.INTERNAL,
                       f'{type(error).__name__}: {error}; the log of {self.get_name()} says more')
        self.diagnostics.tally.add(response.error_code, time.monotonic() - start)
        self.get_logger().info(f'query {self._queries}: {response.message}')
        return publish

    def _state(self) -> tuple[Any, bool, str, int]:
        """What the diagnostics report on."""
        waiting = self.service.waiting if self.service is not None else 0
        return self.map, self.active, str(self._map_error or ''), waiting

    def _answer(self, request: Query.Request, response: Query.Response) -> Callable[[], None]:
        T_frame_map = self._frame_of(request)
        answer = self.ask(to_request(
            request, np.eye(4) if T_frame_map is None else invert_pose(T_frame_map)))
        stamp = self.get_clock().now().to_msg()
        shown, cloud = answer, None
        if T_frame_map is not None:
            answer = in_frame(answer, T_frame_map, request.frame_id)
        fill_response(response, answer, stamp)
        if request.return_cloud:
            response.cloud = answer_to_cloud(answer, stamp)
            cloud = response.cloud if answer is shown else None
        number = response.query_id
        return lambda: self._publish(shown, stamp, number, cloud)

    def _publish(self, answer: Answer, stamp: Time, query_id: int,
                 cloud: PointCloud2 | None = None) -> None:
        try:
            self.publisher.publish(answer, stamp, query_id, cloud)
        except Exception:
            self.get_logger().error(f'query {query_id}: {traceback.format_exc()}')

    def _frame_of(self, request: Query.Request) -> np.ndarray | None:
        """T_frame_map (4, 4) of the frame that the request names; None for the map's own."""
        map_ = self.ready_map()
        if request.frame_id.lstrip('/') in ('', map_.frame_id):
            return None
        check_frame(request.frame_id)
        self.frames.listen()
        return self.frames.T_frame_map(request.frame_id, map_.frame_id)

    def ready_map(self) -> Any:
        """The map to ask; raises NotActiveError, or why no snapshot could be loaded."""
        map_ = self.map
        if not self.active or map_ is None:
            raise NotActiveError(f'{self.get_name()} is not active: activate it first '
                                 '(ros2 lifecycle set), or start it with autostart:=true')
        if self._map_error is not None and not map_.ready:
            raise self._map_error
        return map_

    def ask(self, request: QueryRequest) -> Answer:
        """The answer of the newest snapshot; raises LerfError. For any thread."""
        map_ = self.ready_map()
        with self._asking:
            return map_.ask(request)

    def answer_prompt(self) -> None:
        """Has the standing prompt, if it is due, answered before the queries that wait."""
        if self.active and self.service is not None and self.prompt.due:
            self.service.do(self._publish_prompt)

    def _publish_prompt(self) -> None:
        request, self.prompt.due = self.prompt.request, False
        if request is None:
            return
        try:
            answer = self.ask(request)
            self._publish(answer, self.get_clock().now().to_msg(), 0)
            self.get_logger().info(f'standing prompt: {summary(answer)}')
        except LerfError as error:
            self.get_logger().warning(f'standing prompt: {error}')
        except Exception:
            self.get_logger().error(f'standing prompt: {traceback.format_exc()}')


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns its exit code."""
    share_heaps()
    keep_few_kernels()
    return run_node(lambda: started(QueryNode()), 'query_node', args)


if __name__ == '__main__':
    raise SystemExit(main())

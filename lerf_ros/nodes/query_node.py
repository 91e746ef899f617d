# SPDX-License-Identifier: Apache-2.0
"""Answers phrases over lerf/query from the newest snapshot of a map directory."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.timer import Timer
from sensor_msgs.msg import PointCloud2

from lerf_ros.config import FeatureConfig, GraspConfig, QueryConfig
from lerf_ros.errors import LerfError, NoSnapshotError, NotActiveError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.conversions import answer_to_cloud
from lerf_ros.nodes.common.lifecycle import ManagedNode, started
from lerf_ros.nodes.common.node_config import QueryNodeConfig, map_directory
from lerf_ros.nodes.common.parameters import LiveParameters, declare_all, given_settings
from lerf_ros.nodes.common.running import run_node
from lerf_ros.nodes.query.answer_publisher import AnswerPublisher, Asked
from lerf_ros.nodes.query.deferred_service import DeferredService
from lerf_ros.nodes.query.diagnostics import QueryDiagnostics, QueryNodeState
from lerf_ros.nodes.query.find_server import Asking, FindServer
from lerf_ros.nodes.query.heap import limit_heaps, limit_kernel_cache, release_free_memory
from lerf_ros.nodes.query.messages import (
    asked_text,
    check_frame,
    error_code,
    fill_error,
    fill_response,
    region_from_request,
    to_request,
    viewpoint_of,
)
from lerf_ros.nodes.query.picture import HitPicture
from lerf_ros.nodes.query.rviz_service import RvizConfigService
from lerf_ros.nodes.query.space import RobotSpace
from lerf_ros.nodes.query.standing_prompt import StandingPrompt
from lerf_ros.nodes.tf.lookup import FrameLookup
from lerf_ros.query.answer import Answer, in_frame
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.words import summary
from lerf_ros.srv import Query
from lerf_ros.storage.submaps import SubmapFolder

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap
    from lerf_ros.show.page import MapPage

WARN_PERIOD_S = 10.0
CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class AnswerConfig:
    """The sections of the core's settings on which answers depend."""

    query: QueryConfig = QueryConfig()
    features: FeatureConfig = FeatureConfig()
    grasp: GraspConfig = GraspConfig()


def create_map_query(directory: Path, settings: Mapping[str, object], device: str) -> AskedMap:
    """Returns a SubmapQuery, which is imported now: that takes seconds, parameters come first."""
    from lerf_ros.submap_query import SubmapQuery
    return SubmapQuery(directory, settings, device)


def why_fixed(name: str) -> str:
    """Returns why a parameter cannot change while the query node runs; '' when it can."""
    if name.startswith(('query.', 'grasp.')):
        return ''
    if name.startswith('features.') or name == 'preset':
        return 'the encoder is that of the map: start query_node again to try another one'
    return 'query_node reads it when it starts: start it again with the new value'


class QueryNode(ManagedNode):
    """Answers queries from the newest snapshot of a map directory and publishes the answers.

    One thread answers and another loads snapshots, so that the executor's thread can always take a
    request or refuse it.
    """

    settings: QueryNodeConfig
    # None for a node whose constructor failed.
    service: DeferredService[Query.Request, Query.Response] | None = None
    find: FindServer | None = None

    def __init__(self, map_factory: Callable[..., AskedMap] = create_map_query,
                 **arguments: object) -> None:
        """arguments: those of rclpy.node.Node.

        Raises ConfigError for a wrong or unknown parameter.
        """
        super().__init__('query_node', **arguments)
        self._map_factory = map_factory
        self.settings, config = declare_all(self, QueryNodeConfig(), AnswerConfig(),
                                            read_only=False)
        # Settings given to this node override those that the map was made with.
        self.given = given_settings(self, config)
        self.live = LiveParameters(self, (self.settings, config), why_fixed, self.change)
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.map: AskedMap | None = None
        self._map_error: LerfError | None = None
        self._queries = 0
        self._refresh_timer: Timer | None = None
        self.page: MapPage | None = None
        self._refreshing = threading.Lock()
        self._asking = threading.Lock()
        self.publisher = AnswerPublisher(self)
        self.picture = HitPicture(self, self.directory)
        self.frames = FrameLookup(self, self.settings.frame_timeout)
        self.service = DeferredService(
            self, Query, topics.QUERY, topics.QUERY_QOS, self.settings.max_waiting, self.on_query,
            self.refuse)
        self.prompt = StandingPrompt(self, self.answer_prompt)
        self.diagnostics = QueryDiagnostics(self, self._state)
        self.space = RobotSpace(self.settings.robot)
        RvizConfigService(self, self._points)
        self.find = FindServer(self, self, self.settings.find)

    def configure(self) -> None:
        """Opens the map directory, which may be empty until the mapper has written a snapshot."""
        self.map = self._map_factory(self.directory, self.given, self.settings.device)
        if self.directory.is_dir():
            self.get_logger().info(f'answers come from the map in {self.directory}')
        else:
            self.get_logger().warning(f'there is no map in {self.directory} yet: answers begin '
                                      'with the first snapshot that a mapper writes there')

    def change(self, settings: Mapping[str, object]) -> None:
        """Applies settings of queries and grasps from the next answer on; raises ConfigError."""
        if self.map is not None:
            self.map.change(settings)
        self.given = {**self.given, **settings}
        self.prompt.due = self.prompt.request is not None

    def activate(self) -> None:
        """Loads the newest snapshot, and checks for newer ones from now on."""
        self.refresh()
        self._refresh_timer = self.create_timer(self.settings.refresh_period, self.start_refresh)
        if self.settings.viewer_port:
            from lerf_ros.show.page import MapPage  # needs viser, an optional dependency
            # Of submaps there is not one field to render.
            one = None if SubmapFolder(self.directory).exists() else (
                lambda: self.ready_map().text_query)
            self.page = MapPage(self.ask, self.directory, self.settings.viewer_host,
                                self.settings.viewer_port, one,
                                info=lambda: self.ready_map().info)
            self.get_logger().info(f'the map is shown at {self.page.url}')

    def deactivate(self) -> None:
        """Stops checking for snapshots and closes the page; queries then get NOT_ACTIVE."""
        if self.page is not None:
            self.page.close()
            self.page = None
        if self._refresh_timer is not None:
            self.destroy_timer(self._refresh_timer)
            self._refresh_timer = None

    def release(self) -> None:
        """Closes the map."""
        self.deactivate()
        self.map = self._map_error = None

    def destroy_node(self) -> None:
        """Ends the thread that answers, then the node."""
        if self.find is not None:
            self.find.close()
        if self.service is not None:
            self.service.close(CLOSE_TIMEOUT_S)
        super().destroy_node()

    def start_refresh(self) -> None:
        """Checks for a newer snapshot in a thread, so that answers go on meanwhile."""
        self.answer_prompt()
        if self.page is not None and self.page.waiting:
            self.page.refreshed()
        if not self._refreshing.locked():
            threading.Thread(target=self.refresh, name='refresh', daemon=True).start()

    def refresh(self) -> None:
        """Loads a newer snapshot if there is one; keeps an error for the next queries."""
        map_ = self.map
        if map_ is None:
            return
        with self._refreshing:
            before = map_.map_id
            try:
                loaded = map_.refresh()
                if before and map_.map_id != before:    # the map was reset or replaced
                    self.publisher.clear(map_.frame_id, self.get_clock().now().to_msg())
                if loaded:
                    self._show_loaded(map_)
                self._map_error = None
            except LerfError as error:
                self._map_error = error
                self.get_logger().warning(str(error), throttle_duration_sec=WARN_PERIOD_S)

    def _show_loaded(self, map_: AskedMap) -> None:
        """Updates log, keyframes, parameters, prompt and page for the snapshot that was loaded."""
        self.get_logger().info(f'snapshot {map_.snapshot_id} answers from now on')
        self.publisher.read_keyframes(self.directory)
        self.publisher.publish_map(*map_.surface(), map_.frame_id,
                                   self.get_clock().now().to_msg())
        self.live.show({name: value for name, value in map_.settings().items()
                        if name not in self.given})
        self.prompt.due = True
        release_free_memory()
        if self.page is not None:
            self.page.refreshed()

    def _points(self) -> tuple[np.ndarray, str]:
        """Returns the points (N, 3) of the map and its frame; raises LerfError without any."""
        map_ = self.ready_map()
        return map_.surface()[0], map_.frame_id

    def refuse(self, response: Query.Response) -> None:
        """Fills the response to a request when too many queries wait."""
        self._queries += 1
        response.query_id = self._queries
        fill_error(response, ErrorCode.BUSY,
                   f'{self.settings.max_waiting} queries are waiting: ask again later')
        self.diagnostics.statistics.add(response.error_code, 0.0)

    def on_query(self, request: Query.Request,
                 response: Query.Response) -> Callable[[], None] | None:
        """Fills the response; every failure becomes an error code.

        Returns what publishes the answer on the topics, after the response has been sent.
        """
        self._queries += 1
        response.query_id = self._queries
        asked, start = Asked(self._queries, asked_text(request)), time.monotonic()
        try:
            publish = self._answer(request, response, asked)
        except Exception as error:
            code, words = self.reason(error, f'query {self._queries}')
            fill_error(response, code, words)
            stamp = response.header.stamp = self.get_clock().now().to_msg()
            publish = partial(self.publisher.refuse, code, words, stamp, asked)
        self.diagnostics.statistics.add(response.error_code, time.monotonic() - start)
        self.get_logger().info(f'query {self._queries}: {response.message}')
        return publish

    def reason(self, error: Exception, what: str = 'find') -> tuple[int, str]:
        """Returns code and words for an error; one that is not foreseen goes to the log."""
        if isinstance(error, LerfError):
            return error_code(error), str(error)
        self.get_logger().error(f'{what}: {traceback.format_exc()}')
        return ErrorCode.INTERNAL, (f'{type(error).__name__}: {error}; the log of '
                                    f'{self.get_name()} says more')

    def _state(self) -> QueryNodeState:
        waiting = self.service.waiting if self.service is not None else 0
        return QueryNodeState(self.map, self.active, str(self._map_error or ''), waiting)

    def _answer(self, request: Query.Request, response: Query.Response,
                asked: Asked) -> Callable[[], None]:
        shown, T_frame_map = self._asked(request)
        if request.plan_stand_off and shown.hits:
            shown = self.space.with_stand_off(shown, self.ready_map(), self._base())
        stamp = self.get_clock().now().to_msg()
        answer, cloud = shown, None
        if T_frame_map is not None:
            answer = in_frame(answer, T_frame_map, request.frame_id)
        fill_response(response, answer, stamp)
        if request.return_cloud:
            response.cloud = answer_to_cloud(answer, stamp)
            cloud = response.cloud if answer is shown else None
        return partial(self._publish, shown, stamp, asked, cloud)

    def _asked(self, request: Query.Request) -> tuple[Answer, np.ndarray | None]:
        """Returns the answer in the map frame, and T_frame_map (4, 4) of the request's frame."""
        T_frame_map = self._frame_of(request.frame_id)
        return self.ask(to_request(
            request, np.eye(4) if T_frame_map is None else invert_pose(T_frame_map),
            self._viewpoint(request.view_frame or request.frame_id))), T_frame_map

    def _base(self) -> np.ndarray | None:
        """Returns T_map_base (4, 4) of the robot's base; None where no frame of it is named."""
        T_base_map = self._frame_of(self.settings.base_frame) if self.settings.base_frame else None
        return None if T_base_map is None else invert_pose(T_base_map)

    def snapshot(self) -> object:
        """Returns what differs from snapshot to snapshot; raises LerfError before the first."""
        map_ = self.ready_map()
        if not map_.ready:
            raise NoSnapshotError(f'{self.directory} holds no snapshot yet: its mapper writes one')
        return map_.map_id, map_.snapshot_id

    def ask_for(self, request: Query.Request, propose: bool) -> Asking:
        """Returns an answer for lerf/find, with views that would tell more; raises LerfError."""
        answer, T_frame_map = self._asked(request)
        frame_id = answer.frame_id if T_frame_map is None else request.frame_id
        if not propose:
            return Asking(answer, frame_id, T_frame_map)
        region = region_from_request(request, np.eye(4) if T_frame_map is None
                                     else invert_pose(T_frame_map))
        return Asking(answer, frame_id, T_frame_map,
                      *self.space.next_views(self.ready_map(), region, self._base()))

    def publish(self, answer: Answer, text: str) -> int:
        """Publishes an answer of lerf/find on all topics; returns its number."""
        self._queries += 1
        self._publish(answer, self.get_clock().now().to_msg(), Asked(self._queries, text))
        return self._queries

    def _publish(self, answer: Answer, stamp: Time, asked: Asked,
                 cloud: PointCloud2 | None = None) -> None:
        try:
            self.publisher.publish(answer, stamp, asked, cloud)
            self.picture.publish(answer, stamp)
        except Exception:
            self.get_logger().error(f'query {asked.query_id}: {traceback.format_exc()}')

    def _viewpoint(self, frame_id: str) -> Viewpoint | None:
        """Returns the viewpoint in a frame; None for the map frame, where nobody looks from."""
        T_frame_map = self._frame_of(frame_id)
        return None if T_frame_map is None else viewpoint_of(invert_pose(T_frame_map), frame_id)

    def _frame_of(self, frame_id: str) -> np.ndarray | None:
        """Returns T_frame_map (4, 4) of the frame that a request names; None for the map frame."""
        map_ = self.ready_map()
        if frame_id.lstrip('/') in ('', map_.frame_id):
            return None
        check_frame(frame_id)
        self.frames.listen()
        return self.frames.T_frame_map(frame_id, map_.frame_id)

    def ready_map(self) -> AskedMap:
        """Returns the map to ask; raises NotActiveError, or why no snapshot could be loaded."""
        map_ = self.map
        if not self.active or map_ is None:
            raise NotActiveError(f'{self.get_name()} is not active: activate it first '
                                 '(ros2 lifecycle set), or start it with autostart:=true')
        if self._map_error is not None and not map_.ready:
            raise self._map_error
        return map_

    def ask(self, request: QueryRequest) -> Answer:
        """Returns the answer of the newest snapshot; thread-safe. Raises LerfError."""
        map_ = self.ready_map()
        with self._asking:
            return map_.ask(request)

    def answer_prompt(self) -> None:
        """Schedules the standing prompt, if it is due, before the queries that wait."""
        if self.active and self.service is not None and self.prompt.due:
            self.service.do(self._publish_prompt)

    def _publish_prompt(self) -> None:
        request, due, self.prompt.due = self.prompt.request, self.prompt.due, False
        if request is None or not due:      # scheduled twice, and answered before
            return
        self._queries += 1
        asked = Asked(self._queries, '; '.join(request.texts or (request.text,)), standing=True)
        try:
            answer = self.ask(request)
        except Exception as error:
            code, words = self.reason(error, 'standing prompt')
            self.publisher.refuse(code, words, self.get_clock().now().to_msg(), asked)
            self.get_logger().warning(f'standing prompt: {words}')
            return
        self._publish(answer, self.get_clock().now().to_msg(), asked)
        self.get_logger().info(f'standing prompt: {summary(answer)}')


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node and returns its exit code."""
    limit_heaps()
    limit_kernel_cache()
    return run_node(lambda: started(QueryNode()), 'query_node', args)


if __name__ == '__main__':
    raise SystemExit(main())

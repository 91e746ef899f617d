# SPDX-License-Identifier: Apache-2.0
"""Answers phrases over lerf/query from the newest snapshot of a map directory."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from lerf_ros.config import FeatureConfig, QueryConfig
from lerf_ros.errors import EmptyNegativeError, LerfError, NotActiveError
from lerf_ros.nodes import topics
from lerf_ros.nodes.conversions import answer_to_cloud
from lerf_ros.nodes.lifecycle import ManagedNode, started
from lerf_ros.nodes.node_config import QueryNodeConfig, map_directory
from lerf_ros.nodes.parameters import declare_all
from lerf_ros.nodes.query_messages import error_code, fill_error, fill_response, to_markers
from lerf_ros.nodes.running import run_node
from lerf_ros.query.answer import Answer
from lerf_ros.srv import Query

WARN_PERIOD_S = 10.0


@dataclass(frozen=True)
class AnswerConfig:
    """The sections of the core's settings that matter for answers."""

    query: QueryConfig = QueryConfig()
    features: FeatureConfig = FeatureConfig()


def open_map(*arguments: Any) -> Any:
    """A MapQuery; its import takes seconds, and a wrong parameter should not wait for it."""
    from lerf_ros.map_query import MapQuery
    return MapQuery(*arguments)


class QueryNode(ManagedNode):
    """Converts, asks the map, publishes."""

    def __init__(self, map_factory: Callable[..., Any] = open_map, **arguments: Any) -> None:
        """Raises ConfigError for a parameter that is wrong or does not exist."""
        super().__init__('query_node', **arguments)
        self._map_factory = map_factory
        self.settings, self.config = declare_all(self, QueryNodeConfig(), AnswerConfig())
        self.directory = map_directory(self.settings.map_directory, self.get_namespace())
        self.map: Any = None
        self._map_error: LerfError | None = None
        self._queries = 0
        self._refresh_timer: Any = None
        self._cloud = self.create_publisher(PointCloud2, topics.RELEVANCY, topics.RELEVANCY_QOS)
        self._target = self.create_publisher(
            PoseStamped, topics.TARGET_POSE, topics.TARGET_POSE_QOS)
        self._markers = self.create_publisher(MarkerArray, topics.MARKERS, topics.MARKERS_QOS)
        self.create_service(Query, topics.QUERY, self.on_query, qos_profile=topics.QUERY_QOS)

    def configure(self) -> None:
        """Opens the map directory; it may be empty until the mapper has written a snapshot."""
        # The map knows the encoder that it was made with; settings that differ from the defaults
        # are taken to be meant.
        features = self.config.features if self.config.features != FeatureConfig() else None
        self.map = self._map_factory(self.directory, self.config.query, features,
                                     self.settings.device)
        self.get_logger().info(f'answers come from the map in {self.directory}')

    def activate(self) -> None:
        """Loads the newest snapshot and looks for newer ones."""
        self.refresh()
        self._refresh_timer = self.create_timer(self.settings.refresh_period, self.refresh)

    def deactivate(self) -> None:
        """Stops looking for snapshots; queries are answered with NOT_ACTIVE."""
        if self._refresh_timer is not None:
            self.destroy_timer(self._refresh_timer)
            self._refresh_timer = None

    def release(self) -> None:
        """Forgets the map."""
        self.deactivate()
        self.map = self._map_error = None

    def refresh(self) -> None:
        """Loads a newer snapshot if there is one; an error is kept for those who ask."""
        try:
            if self.map.refresh():
                self.get_logger().info(f'snapshot {self.map.snapshot_id} answers from now on')
            self._map_error = None
        except LerfError as error:
            self._map_error = error
            self.get_logger().warning(str(error), throttle_duration_sec=WARN_PERIOD_S)

    def on_query(self, request: Query.Request, response: Query.Response) -> Query.Response:
        """The service: every failure is a named code, the node lives on."""
        self._queries += 1
        response.query_id = self._queries
        try:
            answer = self._answer(request)
            self._publish(answer, request, response)
        except LerfError as error:
            fill_error(response, error_code(error), str(error))
        except Exception as error:
            self.get_logger().error(f'query {self._queries}: {traceback.format_exc()}')
            fill_error(response, Query.Response.INTERNAL,
                       f'{type(error).__name__}: {error}; the log of {self.get_name()} says more')
        self.get_logger().info(f'query {self._queries}: {response.message}')
        return response

    def _answer(self, request: Query.Request) -> Answer:
        if not self.active:
            raise NotActiveError(f'{self.get_name()} is not active: activate it first '
                                 '(ros2 lifecycle set), or start it with autostart:=true')
        if any(not negative.strip() for negative in request.negatives):
            raise EmptyNegativeError('a negative phrase is empty: leave it out, or send no '
                                     'negatives to use those of the node')
        if self._map_error is not None and not self.map.ready:
            raise self._map_error
        return self.map.answer(request.text, tuple(request.negatives), request.threshold,
                               request.max_hits)

    def _publish(self, answer: Answer, request: Query.Request, response: Query.Response) -> None:
        stamp = self.get_clock().now().to_msg()
        cloud = answer_to_cloud(answer, stamp)
        fill_response(response, answer, stamp)
        if request.return_cloud:
            response.cloud = cloud
        self._cloud.publish(cloud)
        self._markers.publish(to_markers(answer, stamp, response.query_id))
        if response.has_target:
            self._target.publish(response.target_pose)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns its exit code."""
    return run_node(lambda: started(QueryNode()), 'query_node', args)


if __name__ == '__main__':
    raise SystemExit(main())

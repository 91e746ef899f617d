# SPDX-License-Identifier: Apache-2.0
"""The services that the panel calls. Callbacks come from the thread that spins the node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from lerf_ros.nodes.common import topics
from lerf_ros.srv import Query, SaveMap

TIMEOUT_S = 30.0
NOT_THERE = ('no service {name}: its node does not run, is in another namespace or another '
             'ROS_DOMAIN_ID (lerf_ros doctor shows what is seen)')


class RosRobot:
    """Asks the nodes in a namespace, without waiting for them."""

    def __init__(self, node: Node, namespace: str = '', timeout_s: float = TIMEOUT_S) -> None:
        """namespace: empty for that of the node."""
        self._node, self._timeout_s = node, timeout_s
        self.namespace = namespace.strip('/')
        prefix = f'/{self.namespace}/' if self.namespace else ''
        self._query = node.create_client(Query, prefix + topics.QUERY,
                                         qos_profile=topics.QUERY_QOS)
        self._save = node.create_client(SaveMap, prefix + topics.SAVE_MAP,
                                        qos_profile=topics.COMMAND_QOS)
        self._reset = node.create_client(Trigger, prefix + topics.RESET,
                                         qos_profile=topics.COMMAND_QOS)

    def close(self) -> None:
        """Frees the clients."""
        for client in (self._query, self._save, self._reset):
            self._node.destroy_client(client)

    def ask(self, fields: Mapping[str, object],
            done: Callable[[Query.Response | str], None]) -> None:
        """Asks lerf/query; fields: of its request."""
        self._call(self._query, Query.Request(**fields), done)

    def save(self, name: str, overwrite: bool,
             done: Callable[[SaveMap.Response | str], None]) -> None:
        """Saves the map under a name."""
        self._call(self._save, SaveMap.Request(name=name, overwrite=overwrite), done)

    def reset(self, done: Callable[[bool, str], None]) -> None:
        """Forgets the map; done gets whether it was, and words."""
        def told(response: Trigger.Response | str) -> None:
            if isinstance(response, str):
                done(False, response)
            else:
                done(response.success, response.message)
        self._call(self._reset, Trigger.Request(), told)

    def _call(self, client: Client, request: object, done: Callable[[object], None]) -> None:
        """Calls done once: with the response, or in words why there is none."""
        if not client.service_is_ready():
            done(NOT_THERE.format(name=client.srv_name))
            return
        once, future = threading.Lock(), client.call_async(request)

        def tell(answer: object) -> None:
            if once.acquire(blocking=False):
                late.cancel()
                done(answer)

        def arrived(future: Future) -> None:
            error = future.exception()
            tell(future.result() if error is None else f'{client.srv_name}: {error}')

        late = threading.Timer(self._timeout_s, lambda: tell(
            f'{client.srv_name} gave no answer within {self._timeout_s:g} s: look at the log of '
            'its node'))
        late.daemon = True
        late.start()
        future.add_done_callback(arrived)

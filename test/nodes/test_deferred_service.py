# SPDX-License-Identifier: Apache-2.0
"""Replies come in order, none is lost by a client at the default QoS, and none blocks the node."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from rclpy.node import Node
from ros_bench import spin_until

from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query.deferred_service import (
    GAP_S,
    LATE_FACTOR,
    QUIET_S,
    UNREAD,
    DeferredService,
    ReplyPacer,
)
from lerf_ros.srv import Query

pytestmark = pytest.mark.ros
BURST = 1000
CLIENT = textwrap.dedent("""
    import sys, time
    import rclpy
    from lerf_ros.msg import ErrorCode
    from lerf_ros.srv import Query
    from rclpy.node import Node

    rclpy.init()
    node = Node('burst')
    client = node.create_client(Query, 'lerf/query')        # the default QoS
    assert client.wait_for_service(30)
    futures = [client.call_async(Query.Request(text=str(i))) for i in range(int(sys.argv[1]))]
    end = time.monotonic() + 240
    while not all(f.done() for f in futures) and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    codes = [f.result().error_code for f in futures if f.done()]
    ids = [f.result().query_id for f in futures if f.done()]
    print(len(codes), codes.count(ErrorCode.NONE), codes.count(ErrorCode.BUSY),
          ids == sorted(ids))
""")


@pytest.fixture
def node():
    rclpy.init()
    node = Node('server')
    yield node
    node.destroy_node()
    rclpy.shutdown()


class Server:
    """Answers with the number of the answer; waits for `gate` before each."""

    def __init__(self, node, max_waiting):
        self.gate = threading.Event()
        self.gate.set()
        self.begun, self.count, self.asked, self.done = 0, 0, [], []
        self.service = DeferredService(node, Query, topics.QUERY, topics.QUERY_QOS, max_waiting,
                                       self.answer, self.refuse)

    def answer(self, request, response):
        self.begun += 1
        self.gate.wait(120)
        self.count += 1
        self.asked.append(request.text)
        response.query_id, response.success = self.count, True
        return lambda: self.done.append(request.text)

    def refuse(self, response):
        self.count += 1
        response.query_id, response.error_code = self.count, ErrorCode.BUSY


@pytest.mark.slow
def test_a_burst_of_1000_requests_gets_1000_replies(node):
    server = Server(node, max_waiting=100)
    # A client as it is, not slowed down by the measurement of coverage.
    plain = {name: value for name, value in os.environ.items() if not name.startswith('COV')}
    client = subprocess.Popen([sys.executable, '-c', CLIENT, str(BURST)], text=True,
                              stdout=subprocess.PIPE, env=plain)
    try:
        assert spin_until([node], lambda: client.poll() is not None, timeout_s=300)
        replies, answers, busy, in_order = client.stdout.read().split()
    finally:
        client.kill()
        client.stdout.close()
        server.service.close(5)
    assert int(replies) == BURST
    assert int(answers) + int(busy) == BURST and int(answers) >= 100
    assert in_order == 'True'


def test_beyond_the_limit_requests_are_refused_in_their_turn(node):
    server = Server(node, max_waiting=3)
    client = node.create_client(Query, topics.QUERY)
    assert spin_until([node], client.service_is_ready)
    server.gate.clear()
    first = client.call_async(Query.Request(text='0'))
    # the first is taken out of the queue and being answered: three more may wait
    assert spin_until([node], lambda: server.begun)
    futures = [first] + [client.call_async(Query.Request(text=str(i))) for i in range(1, 6)]
    assert spin_until([node], lambda: len(server.service._calls) == 5)
    server.gate.set()
    assert spin_until([node], lambda: all(f.done() for f in futures))
    codes = [f.result().error_code for f in futures]
    assert codes == [0, 0, 0, 0, ErrorCode.BUSY, ErrorCode.BUSY]
    assert [f.result().query_id for f in futures] == [1, 2, 3, 4, 5, 6]
    assert server.asked == ['0', '1', '2', '3']
    assert spin_until([node], lambda: server.done == server.asked)
    server.service.close(5)


def test_callbacks_go_on_while_an_answer_is_computed(node):
    server = Server(node, max_waiting=3)
    client = node.create_client(Query, topics.QUERY)
    ticks = []
    node.create_timer(0.01, lambda: ticks.append(1))
    server.gate.clear()
    assert spin_until([node], client.service_is_ready)
    future = client.call_async(Query.Request(text='slow'))
    ticks.clear()
    assert spin_until([node], lambda: len(ticks) >= 5)
    assert not future.done()
    server.gate.set()
    assert spin_until([node], future.done)
    server.service.close(5)


def test_a_client_that_vanishes_holds_up_nobody(node):
    server = Server(node, max_waiting=10)
    gone, other = Node('gone'), Node('other')
    clients = [n.create_client(Query, topics.QUERY) for n in (gone, other)]
    assert spin_until([node, gone, other], lambda: all(c.service_is_ready() for c in clients))
    server.gate.clear()
    clients[0].call_async(Query.Request(text='of no one'))
    assert spin_until([node], lambda: server.begun)
    gone.destroy_node()
    future = clients[1].call_async(Query.Request(text='mine'))
    server.gate.set()
    assert spin_until([node, other], future.done)
    assert future.result().success
    other.destroy_node()
    server.service.close(5)


def test_jobs_run_before_the_calls_that_wait(node):
    server = Server(node, max_waiting=10)
    client = node.create_client(Query, topics.QUERY)
    assert spin_until([node], client.service_is_ready)
    server.gate.clear()
    futures = [client.call_async(Query.Request(text=str(i))) for i in range(3)]
    # the first is being answered, the others wait
    assert spin_until([node], lambda: server.begun == 1 and len(server.service._calls) == 2)
    server.service.do(lambda: server.asked.append('job'))
    server.gate.set()
    assert spin_until([node], lambda: all(f.done() for f in futures))
    assert server.asked == ['0', 'job', '1', '2']
    server.service.close(5)


class Clock:
    """Time that passes only when somebody sleeps."""

    now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_few_replies_go_out_at_once_and_the_rest_with_gaps():
    clock = Clock()
    pacer = ReplyPacer(clock, clock.sleep)
    pacer.arrived()
    for _ in range(UNREAD):
        pacer.wait(others_wait=False)
    assert clock.now == 100.0
    pacer.wait(others_wait=False)
    assert clock.now == pytest.approx(100.0 + GAP_S)


def test_nothing_goes_out_to_clients_that_still_send():
    clock = Clock()
    pacer = ReplyPacer(clock, clock.sleep)
    pacer.arrived()
    for _ in range(UNREAD + 1):
        pacer.wait(others_wait=True)
    # the last request came at 100 s: quiet from 100.02 s, and a gap
    assert 100.0 + QUIET_S <= clock.now <= 100.0 + QUIET_S + 2 * GAP_S


def test_answers_that_take_long_are_not_held_up():
    clock = Clock()
    pacer = ReplyPacer(clock, clock.sleep)
    for _ in range(100):
        pacer.arrived()
        clock.now += 2 * GAP_S      # the answer is computed
        before = clock.now
        pacer.wait(others_wait=False)
        assert clock.now == before


def test_on_a_busy_machine_the_gaps_grow():
    clock = Clock()

    def sleep(seconds):
        clock.now += seconds + 0.02     # wakes up 20 ms late

    pacer = ReplyPacer(clock, sleep)
    times = []
    for _ in range(UNREAD + 5):
        pacer.arrived()
        pacer.wait(others_wait=False)
        times.append(clock.now)
    gaps = np.diff(times[UNREAD:])
    # 10 ms, four times 20 ms, and the 20 ms themselves
    assert gaps[-1] == pytest.approx(GAP_S + LATE_FACTOR * 0.02 + 0.02)

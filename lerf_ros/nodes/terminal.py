# SPDX-License-Identifier: Apache-2.0
"""Asks the running nodes for a person at a terminal: lerf/query and lerf/status."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from rclpy.node import Node

from lerf_ros.errors import LerfError
from lerf_ros.msg import Answer, FieldStatus
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.graph import other_nodes, terminal_node
from lerf_ros.nodes.query.messages import error_name
from lerf_ros.srv import Query

STATES = ('WAITING', 'MAPPING', 'PAUSED', 'FAILED', 'SETTLED')


def call(requests: Sequence[Mapping[str, object]], namespace: str, timeout_s: float) -> int:
    """Asks lerf/query and prints the answers; returns 0, or 1 if one was refused.

    requests: fields of srv/Query by name. Raises LerfError where no node answers in time.
    """
    failed = False
    with terminal_node(namespace) as (node, executor):
        client = node.create_client(Query, topics.QUERY, qos_profile=topics.QUERY_QOS)
        if not client.wait_for_service(timeout_s):
            raise LerfError(f'no service {client.srv_name} {who_is_here(node, timeout_s)}')
        for fields in requests:
            future = client.call_async(Query.Request(**fields))
            executor.spin_until_future_complete(future, timeout_sec=timeout_s)
            response = future.result() if future.done() else None
            if response is None:
                raise LerfError(f'{client.srv_name} gave no answer within {timeout_s:g} s: look '
                                'at the log of query_node')
            print('\n'.join(answer_lines(response)), flush=True)
            failed |= not response.success
    return int(failed)


def answer_lines(response: Query.Response | Answer) -> Iterator[str]:
    """Yields the lines of a response for a terminal."""
    if not response.success:
        yield f'not answered ({error_name(response.error_code)}): {response.message}'
        return
    yield response.message
    frame = response.header.frame_id
    for rank, hit in enumerate(response.hits, 1):
        at, size = hit.box.center.position, hit.box.size
        sure = '' if math.isnan(hit.probability) else f', probability {hit.probability:.2f}'
        yield (f'  {rank}. {hit.label} at ({at.x:.3f}, {at.y:.3f}, {at.z:.3f}) in {frame!r}, size '
               f'({size.x:.3f}, {size.y:.3f}, {size.z:.3f}), relevancy {hit.relevancy:.2f}{sure}')
    if response.has_target:
        at = response.target_pose.pose.position
        yield f'  grasp at ({at.x:.3f}, {at.y:.3f}, {at.z:.3f})'


def status(namespace: str, timeout_s: float, follow: bool) -> int:
    """Prints the next report of the mapper, or each of them until Ctrl-C.

    Returns 1 if the mapper has failed. Raises LerfError where none reports in time.
    """
    reports: list[FieldStatus] = []
    with terminal_node(namespace) as (node, executor):
        subscription = node.create_subscription(FieldStatus, topics.STATUS, reports.append,
                                                topics.STATUS_QOS)
        end = time.monotonic() + timeout_s
        while True:
            executor.spin_once(timeout_sec=0.2)
            if reports:
                report, end = reports.pop(), time.monotonic() + timeout_s
                reports.clear()
                print('\n'.join(status_lines(report)), flush=True)
                if not follow:
                    return int(report.state == FieldStatus.FAILED)
            elif time.monotonic() > end:
                raise LerfError(f'no report on {subscription.topic_name} '
                                f'{who_is_here(node, timeout_s)}')


def status_lines(report: FieldStatus) -> Iterator[str]:
    """Yields the lines of a report of the mapper for a terminal."""
    state = next(name for name in STATES if getattr(FieldStatus, name) == report.state)
    yield f'{state}{f": {report.message}" if report.message else ""}'
    refused = ', '.join(f'{count} {reason}' for reason, count in
                        zip(report.refusal_reasons, report.refusal_counts, strict=True))
    yield (f'  images: {report.images_received} received, {report.keyframes_used} used, '
           f'{report.images_refused} refused{f" ({refused})" if refused else ""}')
    yield f'  keyframes on disk: {report.keyframes_stored}'
    psnr = '' if math.isnan(report.psnr) else f', PSNR {report.psnr:.1f} dB'
    memory = f', {report.memory_bytes / 1e9:.1f} GB' if report.memory_bytes else ''
    yield (f'  training: {report.steps} steps, {report.rays_per_second:.0f} rays/s{psnr}{memory}')
    for area in report.weak_areas:
        yield f'  needs more views around ({area.x:.2f}, {area.y:.2f}, {area.z:.2f})'
    for diagnosis in report.diagnoses:
        yield f'  ! {diagnosis}'


def who_is_here(node: Node, waited_s: float) -> str:
    """Returns in words which nodes are seen, and what hides others."""
    names = other_nodes(node)
    here = f'seen are {", ".join(names)}' if names else 'no other node is seen'
    domain = os.environ.get('ROS_DOMAIN_ID', '0')
    reach = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    return (f'within {waited_s:g} s; {here} (ROS_DOMAIN_ID={domain}, '
            f'ROS_AUTOMATIC_DISCOVERY_RANGE={reach}): start the nodes with lerf_ros up, or set '
            'both variables to what the nodes were started with; make demo and lerf_ros demo print '
            'theirs at the start')

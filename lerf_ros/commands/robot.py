# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros call`, `find` and `status`: ask running nodes over ROS, where there is no `ros2`."""

from __future__ import annotations

import argparse
import importlib
from importlib.util import find_spec
from types import ModuleType

from lerf_ros.commands.options import phrases
from lerf_ros.errors import ConfigError, EmptyTextError, InvalidRequestError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `call`, `find` and `status`."""
    call = commands.add_parser(
        'call', help='ask the running query node, as ros2 service call /lerf/query does')
    call.add_argument('text', nargs='+', help='phrases, each in quotes; one query for each')
    call.add_argument('--together', action='store_true', help='one answer for all phrases')
    call.add_argument('--part', default='', help='only this part of the thing: --part handle')
    call.add_argument('--negatives', action='append', default=[], metavar='TEXT',
                      help='a phrase it must win against; several with ; between them')
    call.add_argument('--rather-than', action='append', default=[], metavar='TEXT',
                      help='a phrase that must lose as well, beside the negatives')
    call.add_argument('--frame', default='', help='TF frame of the answer; the map frame without')
    call.add_argument('--threshold', type=float, default=0.0, help='relevancy that counts')
    call.add_argument('--max-hits', type=int, default=0, help='places of each phrase at most')
    add_ros(call, 30.0)
    call.set_defaults(func=run_call)
    find = commands.add_parser(
        'find', help='look on in the map of the running nodes until a thing is found for sure')
    find.add_argument('text', help='a phrase in quotes')
    find.add_argument('--frame', default='', help='TF frame of the answer; the map frame without')
    find.add_argument('--probability', type=float, default=0.0, metavar='P',
                      help='of the best place that is sure enough')
    find.add_argument('--observed', type=float, default=0.0, metavar='PART',
                      help='of the place that must have been seen before it is called absent')
    find.add_argument('--limit', type=float, default=0.0, metavar='SECONDS',
                      help='how long to look')
    find.add_argument('--no-views', action='store_true', help='propose no views')
    add_ros(find, 30.0)
    find.set_defaults(func=run_find)
    status = commands.add_parser('status', help='say what the running mapper does')
    status.add_argument('--follow', action='store_true', help='go on until Ctrl-C')
    add_ros(status, 10.0)
    status.set_defaults(func=run_status)


def add_ros(command: argparse.ArgumentParser, timeout_s: float) -> None:
    """Adds what tells which nodes are meant, and how long to wait for them."""
    command.add_argument('--namespace', default='', help='of the nodes, as in /robot_a')
    command.add_argument('--timeout', type=float, default=timeout_s, metavar='SECONDS',
                         help='how long to wait for the node')


def run_call(arguments: argparse.Namespace) -> int:
    """Prints what the query node answers; returns 1 if a query was not answered."""
    if not all(text.strip() for text in arguments.text):
        raise EmptyTextError('say what to look for: a phrase in quotes')
    fields = {'part': arguments.part, 'negatives': list(phrases(arguments.negatives)),
              'rather_than': list(phrases(arguments.rather_than)), 'frame_id': arguments.frame,
              'threshold': arguments.threshold, 'max_hits': arguments.max_hits}
    asked: list[dict[str, object]] = [{'texts': arguments.text}] if arguments.together else [
        {'text': text} for text in arguments.text]
    return int(ros_client().call([{**fields, **words} for words in asked], arguments.namespace,
                                 arguments.timeout))


def run_find(arguments: argparse.Namespace) -> int:
    """Prints the search as it goes on; returns 1 if the thing was not found for sure."""
    if not 0 <= arguments.limit < 2**31:
        raise InvalidRequestError(f'--limit {arguments.limit:g}: a number of seconds from 0 on')
    fields = {'text': arguments.text, 'frame_id': arguments.frame,
              'min_probability': arguments.probability, 'min_observed': arguments.observed,
              'propose_views': not arguments.no_views}
    return int(ros_client('searching').find(fields, arguments.limit, arguments.namespace,
                                            arguments.timeout))


def run_status(arguments: argparse.Namespace) -> int:
    """Prints one report of the mapper, or all of them with --follow."""
    return int(ros_client().status(arguments.namespace, arguments.timeout, arguments.follow))


def ros_client(name: str = 'terminal') -> ModuleType:
    """Returns a module of nodes/; ConfigError where ROS or the interfaces are missing."""
    try:
        terminal = importlib.import_module(f'lerf_ros.nodes.{name}')
    except ImportError as error:
        if find_spec('rclpy') is None:
            cure = ("ROS 2 is not here: source its setup file, or in a virtual environment pip "
                    "install '.[ros]' in the folder of lerf_ros; query and view ask a map without "
                    'ROS')
        else:
            cure = (f'the ROS interfaces of lerf_ros cannot be loaded ({error}): make setup, or '
                    'build with colcon and source install/setup.bash')
        raise ConfigError(cure) from error
    return terminal

# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros list MAP` and `lerf_ros mcp MAP|--ros`: what is in a map, for people and for agents."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lerf_ros.commands.options import add_set, overrides, phrases
from lerf_ros.commands.robot import add_ros, ros_client
from lerf_ros.errors import InvalidRequestError

if TYPE_CHECKING:
    from lerf_ros.agents.tools import MapTools
    from lerf_ros.query.inventory import Item


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `list` and `mcp`."""
    listing = commands.add_parser(
        'list', help='list the things in a map with the names that fit them best')
    listing.add_argument('map', help='map directory')
    listing.add_argument('--names', action='append', default=[], metavar='TEXT',
                         help='names to choose from, instead of household things; several with ; '
                         'between them, or the option again')
    listing.add_argument('--json', action='store_true', help='as JSON, with all fields')
    add_set(listing, 'settings of query and features, as in lerf_ros query')
    listing.set_defaults(func=run_list)
    mcp = commands.add_parser(
        'mcp', help='serve a map or a running robot to language-model agents (Model Context '
        'Protocol, stdio)')
    mcp.add_argument('map', nargs='?', help='map directory; or give --ros')
    mcp.add_argument('--ros', action='store_true', help='ask the running nodes instead of a map')
    add_ros(mcp, 30.0)
    add_set(mcp, 'settings of query, features and grasp, as in lerf_ros query; not with --ros')
    mcp.set_defaults(func=run_mcp)


def open_tools(arguments: argparse.Namespace) -> MapTools:
    """Returns the tools of the map of a command line; raises what opening the map raises."""
    from lerf_ros.commands.map_target import require_map

    require_map(arguments.map)
    from lerf_ros.agents.tools import MapTools
    from lerf_ros.submap_query import SubmapQuery

    query = SubmapQuery(arguments.map, overrides(arguments.set))
    query.refresh()
    return MapTools(query)


def run_list(arguments: argparse.Namespace) -> int:
    """Prints the things of a map, those with sure names first."""
    tools = open_tools(arguments)
    names = phrases(arguments.names)
    if arguments.json:
        print(json.dumps(tools.inventory(names), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        print('\n'.join(lines(tools.items(names))))
    return 0


def lines(items: tuple[Item, ...]) -> Iterator[str]:
    """Yields the lines of an inventory for a terminal."""
    things = [item for item in items if not item.surface]
    named = [item for item in things if item.named]
    yield (f'{len(things)} things, {len(named)} of them with a name that fits; a name is the best '
           'of many, and right less often than its probability says')
    yield from map(line, named)
    unnamed = [item for item in things if not item.named]
    if unnamed:
        yield f'{len(unnamed)} things or parts that no name fits; the nearest names:'
        yield from map(line, unnamed)
    surfaces = [item for item in items if item.surface]
    if surfaces:
        yield 'surfaces:'
        yield from map(line, surfaces)


def line(item: Item) -> str:
    """Returns one thing in a line."""
    x, y, z = item.hit.position
    size = [round(float(edge), 2) for edge in item.hit.size]
    names = ', '.join(f'{name.text} {name.relevancy:.2f}' if math.isnan(name.probability)
                      else f'{name.text} {100 * name.probability:.0f} %' for name in item.names)
    return (f'  ({x:.2f}, {y:.2f}, {z:.2f}) size {size}: {names}; {item.hit.points} points, '
            f'{item.hit.keyframes} keyframes')


def run_mcp(arguments: argparse.Namespace) -> int:
    """Serves the map, or the running robot, on stdin and stdout until the agent goes."""
    if arguments.ros == (arguments.map is not None):
        raise InvalidRequestError('say what to serve: the folder of a map, or --ros for the nodes '
                                  'that run')
    if arguments.ros and arguments.set:
        raise InvalidRequestError('--set does not go with --ros: the running nodes have their own '
                                  'parameters (ros2 param set)')
    # Standard output belongs to the protocol; what is said goes to standard error.
    logging.getLogger('mcp').setLevel(logging.WARNING)
    from lerf_ros.agents.server import make_server
    if not arguments.ros:
        make_server(open_tools(arguments)).run('stdio')
        return 0
    with ros_client('agent_tools').robot_tools(arguments.namespace, arguments.timeout) as robot:
        make_server(robot, robot).run('stdio')
    return 0

# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros view MAP`: serves the map as a web page, without ROS."""

from __future__ import annotations

import argparse
import socket
import threading
from typing import TYPE_CHECKING

from lerf_ros.commands.parser import port_number
from lerf_ros.errors import ConfigError, LerfError

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap
    from lerf_ros.show.page import MapPage

REFRESH_S = 1.0


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `view`."""
    view = commands.add_parser('view', help='show a map as a web page that answers typed phrases')
    view.add_argument('map', help='map directory')
    view.add_argument('--host', default='127.0.0.1',
                      help='address to serve at; 0.0.0.0 shows the map to the whole network')
    view.add_argument('--port', type=port_number, default=8080,
                      help='port to serve at, or the next free one')
    view.add_argument('--device', default='cpu', help='where phrases are encoded')
    view.set_defaults(func=run_view)


def run_view(arguments: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C and shows newer snapshots as they appear."""
    from lerf_ros.commands.map_target import require_map
    from lerf_ros.show.field_view import RELEVANCY
    from lerf_ros.show.page import MapPage, require_viser

    # What can be wrong is found before the encoder loads, which takes seconds.
    require_map(arguments.map)
    require_address(arguments.host)
    require_viser()
    from lerf_ros.submap_query import SubmapQuery
    from lerf_ros.training.devices import choose_device

    query = SubmapQuery(arguments.map, device=str(choose_device(arguments.device)))
    query.refresh()
    single = query.single       # of submaps there is not one field to render
    page = MapPage(query.ask, query.path, arguments.host, arguments.port,
                   None if single is None else lambda: single.text_query, RELEVANCY,
                   lambda: query.info)
    print(f'{page.url} shows the map in {arguments.map}; Ctrl-C ends it', flush=True)
    try:
        follow(query, page, threading.Event())
    finally:
        page.close()
    return 0


def require_address(host: str) -> None:
    """Raises ConfigError for an address at which this machine cannot serve.

    The server would start in a thread of its own, whose error nobody sees.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as place:
            place.bind(address)
    except OSError as error:
        raise ConfigError(
            f'--host {host}: this machine cannot serve there ({error.strerror or error}); '
            '127.0.0.1 is this machine alone, 0.0.0.0 all of its networks') from error


def follow(query: AskedMap, page: MapPage, stop: threading.Event) -> None:
    """Loads newer snapshots until `stop` is set; prints a repeated error once."""
    told = ''
    while not stop.wait(REFRESH_S):
        try:
            if query.refresh():
                page.refreshed()
            told = ''
        except LerfError as error:
            if str(error) != told:
                told = str(error)
                print(told, flush=True)

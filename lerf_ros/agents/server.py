# SPDX-License-Identifier: Apache-2.0
"""The tools of a map as a server of the Model Context Protocol, with its official Python SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from lerf_ros import __version__
from lerf_ros.agents.question import Json, Question
from lerf_ros.errors import ConfigError, LerfError

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

INSTRUCTIONS = (
    'A 3D map that a robot made, in which things are found by words. z is up; `unit` tells the '
    'unit of positions and sizes; probabilities run from 0 to 1 and are null where unknown. '
    'presence is PRESENT, ABSENT (what would show it was seen, and it is not there) or '
    'NOT_OBSERVED (too little was seen: ask next_views where to look). Phrases may say colours and '
    'relations, such as "the red mug on the table".')
Result = TypeVar('Result')

NEEDS_SDK = 'lerf_ros mcp needs the Python SDK of the Model Context Protocol, version 2 or newer'


class Tools(Protocol):
    """What is served, of a map or of a running robot; every call may raise LerfError."""

    def query(self, asked: Question) -> Json:
        """Returns whether and where a thing is."""

    def inventory(self, names: Sequence[str]) -> Json:
        """Returns what is there, with the best of these names or of a list."""

    def next_views(self, center: Sequence[float], size: Sequence[float]) -> Json:
        """Returns from where a camera shows most of what was not seen."""

    def picture(self, text: str, rank: int) -> tuple[bytes, Json]:
        """Returns a JPEG that shows a place of a phrase, and what is known of it."""


class RobotTools(Tools, Protocol):
    """What a running robot can do beside."""

    def find(self, asked: Question, seconds: float, probability: float) -> Json:
        """Returns the last answer, and how looking ended."""


def make_server(tools: Tools, robot: RobotTools | None = None) -> MCPServer:
    """Returns a server with the tools query, inventory, next_views, picture; find with a robot.

    Raises ConfigError where the SDK is missing.
    """
    try:
        from mcp.server.mcpserver import Image, MCPServer
    except ImportError as error:
        raise ConfigError(f"{NEEDS_SDK}: pip install 'mcp>=2'") from error
    server = MCPServer('lerf_ros', instructions=INSTRUCTIONS, version=__version__,
                       log_level='WARNING')

    @server.tool(structured_output=False)
    def query(text: str, max_hits: int = 3, part: str = '', rather_than: list[str] | None = None,
              negatives: list[str] | None = None, threshold: float = 0.0,
              center: list[float] | None = None, size: list[float] | None = None,
              frame: str = '') -> str:
        """Find a thing by a phrase: its places with size and probability, best first.

        Also says whether it is there at all, and where a robot's base stands to reach it.
        part: only this part of it, such as handle. rather_than: words that must fit a place less.
        negatives: instead of the usual ones. threshold: relevancy that counts, 0 for the usual one.
        center, size: x, y, z of a box to look into. frame: of box and answer (running robot only).
        """
        asked = Question(text, max_hits, part, tuple(rather_than or ()), tuple(negatives or ()),
                         threshold, tuple(center or ()), tuple(size or ()), frame)
        return answered(lambda: as_text(tools.query(asked)))

    @server.tool(structured_output=False)
    def inventory(names: list[str] | None = None) -> str:
        """List the things in the map with the names that fit best and their probabilities.

        names: to choose from; leave out for a list of household things. Takes seconds.
        """
        return answered(lambda: as_text(tools.inventory(names or ())))

    @server.tool(structured_output=False)
    def next_views(center: list[float] | None = None, size: list[float] | None = None) -> str:
        """Say from where a camera would show most of what was not seen, best first.

        center, size: x, y, z of a box to look into; leave both out for all of the map.
        """
        return answered(lambda: as_text(tools.next_views(center or (), size or ())))

    @server.tool(structured_output=False)
    def picture(text: str, rank: int = 1) -> list[object]:
        """Show the photograph in which a place of a phrase is seen best, with a box around it.

        rank: which of its places, 1 for the best.
        """
        data, told = answered(lambda: tools.picture(text, rank))
        return [Image(data=data, format='jpeg'), as_text(told)]

    if robot is not None:
        add_find(server, robot)
    return server


def add_find(server: MCPServer, robot: RobotTools) -> None:
    """Adds what only a running robot can do."""
    @server.tool(structured_output=False)
    def find(text: str, seconds: float = 30.0, probability: float = 0.0,
             center: list[float] | None = None, size: list[float] | None = None,
             frame: str = '') -> str:
        """Look on while the robot maps, until a thing is found for sure or surely not there.

        end is SURE, ALL_SEEN, TIME_LIMIT or CANCELED; next_views say from where more would be
        seen: the robot moves only if somebody drives it. seconds: how long to look at most.
        probability: that is sure enough, 0 for the robot's own. center, size, frame: as in query.
        """
        asked = Question(text, center=tuple(center or ()), size=tuple(size or ()), frame=frame)
        return answered(lambda: as_text(robot.find(asked, seconds, probability)))


def answered(work: Callable[[], Result]) -> Result:
    """Returns what work returns; an error of ours reaches the agent in its words."""
    try:
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as error:
        raise ConfigError(f"{NEEDS_SDK}: pip install 'mcp>=2'") from error
    try:
        return work()
    except LerfError as error:
        raise ToolError(str(error)) from error


def as_text(data: Json) -> str:
    """Returns JSON in one line."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False)

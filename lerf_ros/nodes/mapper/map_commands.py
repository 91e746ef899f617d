# SPDX-License-Identifier: Apache-2.0
"""The services on the whole map: save, load, list, reset, undo, pause and resume."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from rclpy.timer import Timer
from std_srvs.srv import Trigger

from lerf_ros.errors import LerfError, NotActiveError
from lerf_ros.mapping.messages import Command, Load, Reply, Reset, Save, UndoMove
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.refusal import CommandResponse, refuse
from lerf_ros.srv import ListMaps, LoadMap, SaveMap
from lerf_ros.storage.saved_maps import SavedMaps

if TYPE_CHECKING:
    from lerf_ros.nodes.mapper_node import MapperNode

POLL_PERIOD_S = 0.05    # between checks for the reply of the mapping process


Response = TypeVar('Response', bound=CommandResponse)


class MapCommands:
    """Serves the commands of a mapper node, whose images and status go on meanwhile."""

    def __init__(self, node: MapperNode, root: Path) -> None:
        """root: the folder of the saved maps."""
        self._node, self._root = node, root
        self._waiting: dict[int, Future] = {}
        self._timer: Timer | None = None
        # A group of its own: a command in progress would block the node's images and timers.
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
                (SaveMap, topics.SAVE_MAP, self.on_save), (LoadMap, topics.LOAD_MAP, self.on_load),
                (ListMaps, topics.LIST_MAPS, self.on_list),
                (Trigger, topics.RESET, self.on_reset),
                (Trigger, topics.UNDO_MOVE, self.on_undo_move),
                (Trigger, topics.PAUSE, self.on_pause),
                (Trigger, topics.RESUME, self.on_resume)):
            node.create_service(kind, name, callback, qos_profile=topics.COMMAND_QOS,
                                callback_group=group)

    async def on_save(self, request: SaveMap.Request,
                      response: SaveMap.Response) -> SaveMap.Response:
        """Saves a copy of the map as it is now."""
        async def save() -> str:
            SavedMaps(self._root).check_free(request.name, request.overwrite)
            reply = await self._ask(Save(str(self._root), request.name, request.overwrite))
            response.path = reply.path
            return f'saved as {request.name!r} in {self._root}'
        return await self._answer(response, save)

    async def on_load(self, request: LoadMap.Request,
                      response: LoadMap.Response) -> LoadMap.Response:
        """Makes a saved map the current one."""
        async def load() -> str:
            SavedMaps(self._root).path(request.name)
            reply = await self._ask(Load(str(self._root), request.name))
            response.keyframes = reply.keyframes
            return f'{request.name!r} is the map now, with {response.keyframes} keyframes'
        return await self._answer(response, load)

    async def on_list(self, request: ListMaps.Request,
                      response: ListMaps.Response) -> ListMaps.Response:
        """Lists the saved maps, also while the node is not active."""
        async def names() -> str:
            response.names = SavedMaps(self._root).names()
            return f'{len(response.names)} maps in {self._root}'
        return await self._answer(response, names, needs_active=False)

    async def on_reset(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        """Deletes the map; a new one begins."""
        async def reset() -> str:
            await self._ask(Reset())
            self._node.forget_frames()
            return 'the map is empty; mapping starts anew'
        return await self._answer(response, reset)

    async def on_undo_move(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        """Moves keyframes back to where they were before their last move."""
        async def undo() -> str:
            reply = await self._ask(UndoMove())
            return f'{reply.keyframes} keyframes are where they were before their last move'
        return await self._answer(response, undo)

    async def on_pause(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        """Drops images and pauses training until resume."""
        async def pause() -> str:
            self._node.pause(True)
            return 'paused: nothing is added to the map until lerf/resume'
        return await self._answer(response, pause)

    async def on_resume(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        """Resumes mapping after a pause."""
        async def resume() -> str:
            self._node.pause(False)
            return 'mapping goes on'
        return await self._answer(response, resume)

    async def _answer(self, response: Response, work: Callable[[], Awaitable[str]],
                      needs_active: bool = True) -> Response:
        """Returns the response with the message that `work` returns, or the code of its error."""
        try:
            if needs_active and not self._node.active:
                raise NotActiveError(f'{self._node.get_name()} is not active: activate it first '
                                     '(ros2 lifecycle set), or start it with autostart:=true')
            response.message = await work()
            response.success = True
        except LerfError as error:
            refuse(response, error.code, str(error))
        except OSError as error:
            refuse(response, 'STORAGE', str(error))
        except Exception as error:
            self._node.get_logger().error(traceback.format_exc())
            refuse(response, 'INTERNAL', f'{type(error).__name__}: {error}; the log says more')
        self._node.get_logger().info(response.message)
        return response

    async def _ask(self, command: Command) -> Reply:
        """Returns the reply of the mapping process; raises the error that it names."""
        process = self._node.process
        assert process is not None      # the node is active
        number = process.ask(command)
        future = self._waiting[number] = Future()
        if self._timer is None:
            self._timer = self._node.create_timer(POLL_PERIOD_S, self._poll)
        reply: Reply = await future
        if reply.code:
            error = LerfError(reply.message)
            # For this mapper a map with other settings is unreadable.
            error.code = 'MAP_UNREADABLE' if reply.code == 'INVALID_SETTING' else reply.code
            raise error
        return reply

    def _poll(self) -> None:
        process = self._node.process
        for number, future in list(self._waiting.items()):
            reply = process.reply(number) if process is not None else Reply(
                number, 'INTERNAL', 'the node was cleaned up before it was done')
            if reply is not None:
                del self._waiting[number]
                future.set_result(reply)
        if self._timer is not None and not self._waiting:
            self._node.destroy_timer(self._timer)
            self._timer = None

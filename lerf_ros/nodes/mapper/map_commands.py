# SPDX-License-Identifier: Apache-2.0
"""The services about the map as a whole: save, load, list, reset, undo, pause and resume."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future

from lerf_ros.errors import LerfError, NotActiveError
from lerf_ros.mapping.messages import Command, Load, Reply, Reset, Save, UndoMove
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.common.lifecycle import ManagedNode
from lerf_ros.srv import ListMaps, LoadMap, MapCommand, SaveMap
from lerf_ros.storage.saved_maps import SavedMaps

POLL_PERIOD_S = 0.05    # between looks whether the mapping process has done what it was asked


class MapCommands:
    """Serves the commands of a mapper node; images and status go on while one is carried out."""

    def __init__(self, node: ManagedNode, root: Path) -> None:
        """root: where saved maps are kept. The node has `process` and `pause`."""
        self._node: Any = node
        self._root = root
        self._waiting: dict[int, Future] = {}
        self._timer: Any = None
        # Of their own: a command that is under way would hold up the node's images and timers.
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
                (SaveMap, topics.SAVE_MAP, self.on_save), (LoadMap, topics.LOAD_MAP, self.on_load),
                (ListMaps, topics.LIST_MAPS, self.on_list),
                (MapCommand, topics.RESET, self.on_reset),
                (MapCommand, topics.UNDO_MOVE, self.on_undo_move),
                (MapCommand, topics.PAUSE, self.on_pause),
                (MapCommand, topics.RESUME, self.on_resume)):
            node.create_service(kind, name, callback, qos_profile=topics.COMMAND_QOS,
                                callback_group=group)

    async def on_save(self, request: SaveMap.Request, response: SaveMap.Response) -> Any:
        """A copy of the map as it is now."""
        async def save() -> str:
            SavedMaps(self._root).check_free(request.name, request.overwrite)
            reply = await self._ask(Save(str(self._root), request.name, request.overwrite))
            response.path = reply.path
            return f'saved as {request.name!r} in {self._root}'
        return await self._answer(response, save)

    async def on_load(self, request: LoadMap.Request, response: LoadMap.Response) -> Any:
        """A saved map becomes the current one."""
        async def load() -> str:
            SavedMaps(self._root).path(request.name)
            reply = await self._ask(Load(str(self._root), request.name))
            response.keyframes = reply.keyframes
            return f'{request.name!r} is the map now, with {response.keyframes} keyframes'
        return await self._answer(response, load)

    async def on_list(self, request: ListMaps.Request, response: ListMaps.Response) -> Any:
        """Needs no active node."""
        async def names() -> str:
            response.names = SavedMaps(self._root).names()
            return f'{len(response.names)} maps in {self._root}'
        return await self._answer(response, names, always=True)

    async def on_reset(self, request: MapCommand.Request, response: MapCommand.Response) -> Any:
        """The map is forgotten, a new one begins."""
        async def reset() -> str:
            await self._ask(Reset())
            self._node.forget_frames()
            return 'the map is empty; mapping starts anew'
        return await self._answer(response, reset)

    async def on_undo_move(self, request: MapCommand.Request,
                           response: MapCommand.Response) -> Any:
        """Keyframes go back to where they were before their newest move."""
        async def undo() -> str:
            reply = await self._ask(UndoMove())
            return f'{reply.keyframes} keyframes are where they were before their last move'
        return await self._answer(response, undo)

    async def on_pause(self, request: MapCommand.Request, response: MapCommand.Response) -> Any:
        """Images are dropped and training rests until resume."""
        async def pause() -> str:
            self._node.pause(True)
            return 'paused: nothing is added to the map until lerf/resume'
        return await self._answer(response, pause)

    async def on_resume(self, request: MapCommand.Request, response: MapCommand.Response) -> Any:
        """The reverse of pause."""
        async def resume() -> str:
            self._node.pause(False)
            return 'mapping goes on'
        return await self._answer(response, resume)

    async def _answer(self, response: Any, work: Callable[[], Awaitable[str]],
                      always: bool = False) -> Any:
        """The response of what `work` does: its words, or the code of its error."""
        try:
            if not (self._node.active or always):
                raise NotActiveError(f'{self._node.get_name()} is not active: activate it first '
                                     '(ros2 lifecycle set), or start it with autostart:=true')
            response.message = await work()
            response.success = True
        except LerfError as error:
            response.error_code = getattr(response, error.code, response.INTERNAL)
            response.message = str(error)
        except OSError as error:
            response.error_code, response.message = response.STORAGE, str(error)
        except Exception as error:
            self._node.get_logger().error(traceback.format_exc())
            response.error_code = response.INTERNAL
            response.message = f'{type(error).__name__}: {error}; the log says more'
        self._node.get_logger().info(response.message)
        return response

    async def _ask(self, command: Command) -> Reply:
        """Returns the reply of the mapping process; raises the error that it names."""
        number = self._node.process.ask(command)
        future = self._waiting[number] = Future()
        if self._timer is None:
            self._timer = self._node.create_timer(POLL_PERIOD_S, self._poll)
        reply: Reply = await future
        if reply.code:
            error = LerfError(reply.message)
            # A map of other settings is unreadable for this mapper.
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
        if not self._waiting:
            self._node.destroy_timer(self._timer)
            self._timer = None

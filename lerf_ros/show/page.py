# SPDX-License-Identifier: Apache-2.0
"""A web page that shows a map and answers typed phrases, without RViz."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lerf_ros.errors import ConfigError, LerfError
from lerf_ros.query.answer import Answer
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.field_painter import FieldPainter
from lerf_ros.show.field_view import FieldView
from lerf_ros.show.page_link import PageLink, connection_of
from lerf_ros.show.session import PageSession
from lerf_ros.show.words import with_field

if TYPE_CHECKING:
    import viser

    from lerf_ros.query.text_query import TextQuery

CLOSE_S = 2.0


def require_viser() -> ModuleType:
    """Imports viser; raises ConfigError, which says how to install it, where it is missing."""
    try:
        import viser
    except ImportError as error:
        raise ConfigError("the page needs viser: pip install viser, or pip install '.[view]' in "
                          f'the folder of lerf_ros ({error})') from error
    return viser


class MapPage:
    """Serves the page until `close`; each browser has a session with phrases of its own.

    A thread of its own asks and draws for all of them, so typing never waits.
    """

    def __init__(self, ask: Callable[[QueryRequest], Answer], map_directory: str | Path,
                 host: str = '127.0.0.1', port: int = 8080,
                 text_query: Callable[[], TextQuery] | None = None, look: str = '',
                 info: Callable[[], Mapping[str, Any]] = dict) -> None:
        """ask: answers a request or raises LerfError; it is called from one thread only.

        text_query: returns the index that answers, with which the field is rendered; None where
        there is no field to render. look: what is shown of it at first, as in PageSession. info:
        returns the manifest of the snapshot that answers. Raises ConfigError where viser is missing
        or the port cannot be opened.
        """
        viser = require_viser()
        self._ask, self._map_directory, self._look = ask, Path(map_directory), look
        self._info = info
        try:
            self.server = viser.ViserServer(host, port, label='lerf_ros', verbose=False)
        except OSError as error:
            raise ConfigError(f'no page at {host}:{port}: {error}') from error
        self._text_query = text_query
        self._painter = None if text_query is None else FieldPainter(
            lambda: FieldView.open(self._map_directory, text_query()))
        self.sessions: dict[int, PageSession] = {}     # by the number of the browser
        self._changed, self._stopped = threading.Condition(), False
        self.server.gui.configure_theme(show_logo=False, show_share_button=False,
                                        control_width='large')
        self.server.gui.set_panel_label('lerf_ros')
        self.server.on_client_connect(lambda client: self.open(client))
        self.server.on_client_disconnect(lambda client: self._leave(client))
        self._thread = threading.Thread(target=self._run, name='page', daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Returns the address of the page."""
        return f'http://{self.server.get_host()}:{self.server.get_port()}'

    @property
    def waiting(self) -> bool:
        """Whether a browser has not been shown any answer yet."""
        return any(session.answer is None for session in list(self.sessions.values()))

    def open(self, place: viser.ClientHandle | viser.ViserServer) -> PageSession:
        """Makes the session of a browser; one on the server is seen by all browsers."""
        host, path = connection_of(self.server, getattr(place, 'client_id', -1))
        session = PageSession(place, self._ask, self._map_directory, self._changed,
                              self._painter if self._has_field() else None, self._look,
                              self._text_query, self._info, host, PageLink.parse(path))
        with self._changed:
            self.sessions[getattr(place, 'client_id', id(place))] = session
            self._changed.notify_all()
        return session

    def _has_field(self) -> bool:
        """Returns whether there is one to render, as far as is known yet (training.field)."""
        try:
            return with_field(self._info())
        except LerfError:       # there is no snapshot yet
            return True

    def _leave(self, place: viser.ClientHandle) -> None:
        with self._changed:
            session = self.sessions.pop(place.client_id, None)
        if session is not None:
            session.leave()

    def refreshed(self) -> None:
        """Asks all again, because there is a newer snapshot."""
        if self._painter is not None:
            self._painter.refreshed()
        for session in list(self.sessions.values()):
            session.refreshed()

    def close(self) -> None:
        """Stops serving the page."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._painter is not None:
            self._painter.close()
        self.server.stop()

    def _run(self) -> None:
        while not self._stopped:
            for session in self._due():
                session.show()

    def _due(self) -> list[PageSession]:
        """Waits until sessions are due, or until the page is closed; returns them."""
        with self._changed:
            while not self._stopped:
                now, sessions = time.monotonic(), list(self.sessions.values())
                if due := [session for session in sessions if session.due_s <= now]:
                    for session in due:
                        session.due_s = math.inf
                    return due
                wait_s = min((session.due_s for session in sessions), default=math.inf) - now
                self._changed.wait(None if math.isinf(wait_s) else wait_s)
        return []

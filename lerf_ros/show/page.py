# SPDX-License-Identifier: Apache-2.0
"""A web page that shows a map and answers typed phrases, without RViz."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lerf_ros.errors import ConfigError, LerfError
from lerf_ros.query.answer import Answer
from lerf_ros.query.request import QueryRequest, split_phrases
from lerf_ros.show.page_drawing import MapDrawing, overview
from lerf_ros.show.words import summary

if TYPE_CHECKING:
    import viser

# A phrase is asked when nothing has been typed for this time.
TYPING_S = 0.4
# Before the first phrase the surface is taken from this answer; every vocabulary has the word.
NO_PHRASE = QueryRequest('object', plan_grasps=False)
HINT = 'such as "red mug"; several phrases with ; between them'
CLOSE_S = 2.0


def require_viser() -> ModuleType:
    """Imports viser; raises ConfigError, which says how to install it, where it is missing."""
    try:
        import viser
    except ImportError as error:
        raise ConfigError('the page needs viser: pip install "lerf_ros[view]", or pip install '
                          f'viser ({error})') from error
    return viser


class MapPage:
    """Serves the page until `close`. A thread of its own asks and draws, so typing never waits."""

    def __init__(self, ask: Callable[[QueryRequest], Answer], map_directory: str | Path,
                 host: str = '127.0.0.1', port: int = 8080) -> None:
        """ask: answers a request or raises LerfError; it is called from one thread only.

        Raises ConfigError where viser is missing or the port cannot be opened.
        """
        viser = require_viser()
        self._ask, self._map_directory = ask, Path(map_directory)
        try:
            self.server = viser.ViserServer(host, port, label='lerf_ros', verbose=False)
        except OSError as error:
            raise ConfigError(f'no page at {host}:{port}: {error}') from error
        self.drawing = MapDrawing(self.server)
        self.answer: Answer | None = None   # the one on display
        self._asked, self._typed, self._stopped = threading.Event(), threading.Event(), False
        self._new_snapshot = True
        self._build()
        self._thread = threading.Thread(target=self._run, name='page', daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Returns the address of the page."""
        return f'http://{self.server.get_host()}:{self.server.get_port()}'

    def submit(self, text: str) -> None:
        """Enters a phrase into the text box, as if it had been typed."""
        self.phrase.value = text
        self._type()

    def refreshed(self) -> None:
        """Asks again, because there is a newer snapshot."""
        self._new_snapshot = True
        self._asked.set()

    def close(self) -> None:
        """Stops serving the page."""
        self._stopped = True
        self._asked.set()
        self._typed.set()
        self._thread.join(CLOSE_S)
        self.server.stop()

    def _build(self) -> None:
        self.server.gui.configure_theme(show_logo=False, show_share_button=False,
                                        control_width='large')
        gui = self.server.gui
        gui.set_panel_label('lerf_ros')
        self.phrase = gui.add_text('Look for', '', hint=HINT)
        self.rather_than = gui.add_text('Rather than', '', hint='what must not win; may be empty')
        self.part = gui.add_text('Part of it', '', hint='such as "handle"; may be empty')
        self.keyframes = gui.add_checkbox('Keyframes', True)
        self.point_size = gui.add_slider('Point size', 0.2, 3.0, 0.1, 1.0)
        self.words = gui.add_markdown('')
        for box in (self.phrase, self.rather_than, self.part):
            box.on_update(lambda _: self._type())
        self.point_size.on_update(lambda _: self.drawing.enlarge_points(self.point_size.value))
        self.keyframes.on_update(lambda _: self.drawing.show_keyframes(self.keyframes.value))

    def _type(self) -> None:
        self._typed.set()
        self._asked.set()

    def _run(self) -> None:
        self._asked.set()
        while not self._stopped:
            self._asked.wait()
            self._asked.clear()
            while self._typed.is_set() and not self._stopped:
                self._typed.clear()
                self._typed.wait(TYPING_S)
            if not self._stopped:
                self._show()

    def _show(self) -> None:
        request = self.request()
        try:
            answer = self._ask(request or NO_PHRASE)
            self.drawing.center_on(answer)
            if self._new_snapshot:
                self.drawing.draw_keyframes(self._map_directory, self.keyframes.value)
        except LerfError as error:
            self.words.content = str(error)
            return
        except Exception as error:
            self.words.content = f'{type(error).__name__}: {error}'
            traceback.print_exc()
            return
        if self.answer is None:
            self._look_at(answer)
        self.drawing.draw(answer, plain=request is None)
        self.answer, self._new_snapshot = answer, False
        self.words.content = in_words(answer) if request else 'Type what to look for.'

    def request(self) -> QueryRequest | None:
        """Returns the typed request; None when nothing is typed."""
        phrases = split_phrases(self.phrase.value)
        if not phrases:
            return None
        only = {'text': phrases[0]} if len(phrases) == 1 else {'texts': phrases}
        return QueryRequest(rather_than=split_phrases(self.rather_than.value),
                            part=self.part.value.strip(), **only)

    def _look_at(self, answer: Answer) -> None:
        position, target = overview(answer.points_world, self.drawing.poses)
        position, target = self.drawing.place(position), self.drawing.place(target)
        self.server.initial_camera.position = position
        self.server.initial_camera.look_at = target

        def place(client: viser.ClientHandle) -> None:
            client.camera.position, client.camera.look_at = position, target

        for client in self.server.get_clients().values():
            place(client)


def in_words(answer: Answer) -> str:
    """Returns the answer as Markdown: a line, and a table of the places."""
    unit = 'm' if answer.metric else 'units'
    sure = any(not math.isnan(hit.probability) for hit in answer.hits)
    columns = ['#', 'relevancy', *['is it (probability)'] * sure, 'keyframes', f'size ({unit})']
    rows = [columns, ['-'] * len(columns)] if answer.hits else []
    for number, hit in enumerate(answer.hits, 1):
        rows.append([
            f'{number} {hit.label}' if len(answer.texts) > 1 else str(number),
            f'{hit.relevancy:.2f}', *[f'{hit.probability:.2f}'] * sure, str(hit.keyframes),
            '\u00a0×\u00a0'.join(f'{edge:.2f}' for edge in hit.size)])   # on one line
    lines = [summary(answer), '', *(f'| {" | ".join(row)} |' for row in rows)]
    took = 1000 * (answer.timing.encode + answer.timing.search + answer.timing.grasp)
    return '\n'.join([*lines, '', f'{took:.0f} ms, snapshot {answer.snapshot_id}'])

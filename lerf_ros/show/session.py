# SPDX-License-Identifier: Apache-2.0
"""What one browser sees of a map: its own phrase, its own answer, its own view."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.errors import LerfError
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.query.request import QueryRequest, split_phrases
from lerf_ros.show.page_drawing import MapDrawing
from lerf_ros.show.viewpoint import first_view
from lerf_ros.show.words import summary

if TYPE_CHECKING:
    import viser

# A phrase is asked when nothing has been typed for this time.
TYPING_S = 0.4
# Before the first phrase the surface is taken from this answer; every vocabulary has the word.
NO_PHRASE = QueryRequest('object', plan_grasps=False)
HINT = 'such as "red mug"; several phrases with ; between them'
NOTHING_TYPED = 'Type what to look for.'
NO_WHOLE = 'Type the whole thing above first: the part is looked for in it.'


class PageSession:
    """The controls and the drawing of one browser. Only `show` asks; one thread calls it."""

    def __init__(self, place: viser.ViserServer | viser.ClientHandle,
                 ask: Callable[[QueryRequest], Answer], map_directory: Path,
                 changed: threading.Condition) -> None:
        """place: the browser. ask: answers or raises LerfError. changed: told when `show` is due.
        """
        self.place, self._ask, self._map_directory = place, ask, map_directory
        self.drawing = MapDrawing(place)
        self.answer: Answer | None = None   # the one on display
        self.due_s = 0.0        # when `show` is due, monotonic seconds; inf for never
        self._changed, self._new_snapshot = changed, True
        gui = place.gui
        self.phrase = gui.add_text('Look for', '', hint=HINT)
        self.rather_than = gui.add_text('Rather than', '', hint='what must not win; may be empty')
        self.part = gui.add_text('Part of it', '', hint='such as "handle"; may be empty')
        self.keyframes = gui.add_checkbox('Photographs', False)
        self.point_size = gui.add_slider('Point size', 0.2, 3.0, 0.1, 1.0)
        self.words = gui.add_markdown('')
        for box in (self.phrase, self.rather_than, self.part):
            box.on_update(lambda _: self._be_due(TYPING_S))
        self.point_size.on_update(lambda _: self.drawing.enlarge_points(self.point_size.value))
        self.keyframes.on_update(lambda _: self.drawing.show_keyframes(self.keyframes.value))

    def submit(self, text: str) -> None:
        """Enters a phrase into the text box, as if it had been typed."""
        self.phrase.value = text    # type: ignore[misc]
        self._be_due(TYPING_S)

    def refreshed(self) -> None:
        """Asks again, because there is a newer snapshot."""
        self._new_snapshot = True
        self._be_due(0.0)

    def _be_due(self, in_s: float) -> None:
        with self._changed:
            self.due_s = time.monotonic() + in_s
            self._changed.notify_all()

    def request(self) -> QueryRequest | None:
        """Returns the typed request; None when nothing is typed."""
        phrases = split_phrases(self.phrase.value)
        if not phrases:
            return None
        only = {'text': phrases[0]} if len(phrases) == 1 else {'texts': phrases}
        return QueryRequest(rather_than=split_phrases(self.rather_than.value),
                            part=self.part.value.strip(), **only)

    def show(self) -> None:
        """Asks what is typed and draws the answer; an error becomes the text of the page."""
        request = self.request()
        try:
            answer = self._ask(request or NO_PHRASE)
            self.drawing.center_on(answer)
            if self._new_snapshot:
                self.drawing.read_keyframes(self._map_directory)
                self.drawing.show_keyframes(self.keyframes.value)
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
        self.words.content = in_words(answer) if request else self._without_phrase()

    def _without_phrase(self) -> str:
        return NO_WHOLE if self.part.value.strip() else NOTHING_TYPED

    def _look_at(self, answer: Answer) -> None:
        """Puts the browser's camera to where a photographer stood."""
        drawing = self.drawing
        up = drawing.up.direction
        position, target = first_view(answer.points_world, drawing.poses, up)
        position, target = drawing.place(position), drawing.place(target)
        client = getattr(self.place, 'camera', None)
        if client is not None:
            client.position, client.look_at, client.up_direction = position, target, up
        else:
            start = self.place.initial_camera   # type: ignore[union-attr]
            start.position, start.look_at, start.up = position, target, up


def in_words(answer: Answer) -> str:
    """Returns the answer as Markdown: a line, and a narrow table of the places of each phrase."""
    lines = [summary(answer)]
    if len(answer.texts) < 2:
        lines += ['', *table(answer.hits, answer)]
    else:
        for text in answer.texts:
            hits = [hit for hit in answer.hits if hit.label == text]
            lines += ['', f'**{text}**', '', *table(hits, answer)] if hits else []
    took = 1000 * (answer.timing.encode + answer.timing.search + answer.timing.grasp)
    return '\n'.join([*lines, '', f'{took:.0f} ms, snapshot {answer.snapshot_id}'])


def table(hits: list[Hit] | tuple[Hit, ...], answer: Answer) -> list[str]:
    """Returns the lines of a table of hits; their numbers are those of the whole answer.

    The size comes before what a narrow panel may cut off.
    """
    if not hits:
        return []
    sure = any(not math.isnan(hit.probability) for hit in hits)
    factor, unit, digits = (100.0, 'cm', 0) if answer.metric else (1.0, 'units', 2)
    rows = [['#', f'size ({unit})', 'relevancy', *['sure'] * sure], ['-'] * (3 + sure)]
    for hit in hits:
        number = next(i for i, other in enumerate(answer.hits, 1) if other is hit)
        # No-break spaces keep the size on one line.
        size = '\u00a0×\u00a0'.join(f'{factor * edge:.{digits}f}' for edge in hit.size)
        rows.append([str(number), size, f'{hit.relevancy:.2f}',
                     *[f'{hit.probability:.0%}'] * sure])
    return [f'| {" | ".join(row)} |' for row in rows]

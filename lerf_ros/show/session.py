# SPDX-License-Identifier: Apache-2.0
"""What one browser sees of a map: its own phrase, its own answer, its own view."""

from __future__ import annotations

import math
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lerf_ros.errors import DatasetError, LerfError
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.query.household import NAMES
from lerf_ros.query.inventory import Guess, names_of
from lerf_ros.query.request import QueryRequest, split_phrases
from lerf_ros.show.colors import FADED
from lerf_ros.show.field_painter import FieldPainter
from lerf_ros.show.field_view import LOOKS
from lerf_ros.show.files import export_answer
from lerf_ros.show.page_drawing import DISCS, DOTS, NO_SURFACE, MapDrawing, point_size
from lerf_ros.show.page_link import PageLink
from lerf_ros.show.pictures import PosedImage, ViewChooser, map_views, proof
from lerf_ros.show.viewpoint import first_view, pointed_at, usual_fov
from lerf_ros.show.words import learned, summary

if TYPE_CHECKING:
    import viser

    from lerf_ros.query.text_query import TextQuery

# A phrase is asked when nothing has been typed for this time.
TYPING_S = 0.4
# Before the first phrase the surface is taken from this answer; every vocabulary has the word.
NO_PHRASE = QueryRequest('object', plan_grasps=False)
HINT = 'such as "red mug"; several phrases with ; between them'
NOTHING_TYPED = 'Type what to look for, or click a thing.'
NOTHING_ASKED = '\u2013'
MOST_ASKED = 12         # phrases that are offered again
NEAR_TIMES = 2.0        # times the diagonal of a box: how far away the camera stops before it
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
# What the surface and the field are called in the list of what can be shown.
SURFACES, FIELD = (DOTS, DISCS), 'field: {}'
NO_LINK = PageLink()
NO_WHOLE = 'Type the whole thing above first: the part is looked for in it.'


class PageSession:
    """The controls and the drawing of one browser. Only `show` asks; one thread calls it."""

    def __init__(self, place: viser.ViserServer | viser.ClientHandle,
                 ask: Callable[[QueryRequest], Answer], map_directory: Path,
                 changed: threading.Condition, painter: FieldPainter | None = None,
                 look: str = '', text_query: Callable[[], TextQuery] | None = None,
                 info: Callable[[], Mapping[str, Any]] = dict, host: str = '',
                 link: PageLink = NO_LINK) -> None:
        """place: the browser. ask: answers or raises LerfError. changed: told when `show` is due.

        painter: renders the field where it can be rendered; None for points alone. look: one of
        LOOKS, what is shown of the field at first; '' for points. text_query: returns the index
        that answers, which gives names to things that are clicked; None where nothing does. info:
        returns the manifest of the snapshot that answers, for how far the map has come. host: by
        which the browser knows this machine, for links; '' for none. link: what it came with.
        """
        self.place, self._ask, self._map_directory = place, ask, map_directory
        self.drawing = MapDrawing(place)
        self.answer: Answer | None = None   # the one on display
        self.due_s = 0.0        # when `show` is due, monotonic seconds; inf for never
        self._changed, self._new_snapshot = changed, True
        self._views: list[PosedImage] = []
        self._chooser: ViewChooser | None = None
        self._next_hit = 0      # the one that the camera goes to next
        self._text_query, self._info = text_query, info
        self._host, self._link = host, link
        self._clicked: tuple[np.ndarray, np.ndarray] | None = None  # a ray, page: where, which way
        if text_query is not None:
            place.scene.on_click()(lambda event: self.point_at(event.ray_origin,
                                                               event.ray_direction))
        self._painter = painter if hasattr(place, 'camera') else None
        self._painting = self._painter.enter(cast('viser.ClientHandle', place)) \
            if self._painter else None
        self._add_question()
        self._add_display(look)
        self._add_answer()

    def _add_question(self) -> None:
        gui, link = self.place.gui, self._link
        self.phrase = gui.add_text('Look for', link.phrase, hint=HINT)
        self.rather_than = gui.add_text('Rather than', link.rather_than,
                                        hint='what must not win; may be empty')
        self.part = gui.add_text('Part of it', link.part, hint='such as "handle"; may be empty')
        self.threshold = gui.add_slider('Threshold', 0.0, 1.0, 0.01, link.threshold,
                                        hint="relevancy that a place must reach; 0: the map's own")
        self.asked = gui.add_dropdown('Asked before', [NOTHING_ASKED])
        for box in (self.phrase, self.rather_than, self.part, self.threshold):
            box.on_update(lambda _: self._be_due(TYPING_S))
        self.asked.on_update(lambda _: self._ask_again())

    def _add_answer(self) -> None:
        gui = self.place.gui
        self.words = gui.add_markdown('')
        self.photograph = gui.add_image(NO_PICTURE, label='The best place', visible=False,
                                        format='jpeg')
        self.next = gui.add_button('Go to the next place', visible=False)
        self.save = gui.add_button('Save the answer', visible=False,
                                   hint='as JSON, and the cloud as PLY')
        self.link = gui.add_button('Link to this view', visible=bool(self._host),
                                   hint='an address that asks the same from the same place')
        self.address = gui.add_markdown('')
        self.next.on_click(lambda _: self.go_to_next())
        self.link.on_click(lambda _: self.show_link())
        self.save.on_click(lambda _: self._save())

    def _add_display(self, look: str) -> None:
        gui = self.place.gui
        looks = [*SURFACES, *(FIELD.format(look) for look in LOOKS if self._painting)]
        first = FIELD.format(look) if look and self._painting else DOTS
        self.look = gui.add_dropdown('Show', looks, initial_value=first,
                                     hint='field: what was learned, rendered from where you look, '
                                     'sharper while you stay')
        self.drawing.surface = surface_of(first)
        self.keyframes = gui.add_checkbox('Photographs', False)
        self.point_size = gui.add_slider('Point size', 0.2, 3.0, 0.1, 1.0)
        self.learned = gui.add_markdown('')
        self.look.on_update(lambda _: self._change_look())
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

    def point_at(self, origin: Sequence[float], direction: Sequence[float]) -> None:
        """Asks what a ray points at, in the coordinates of the page."""
        self._clicked = np.array(origin), np.array(direction)
        self._be_due(0.0)

    def leave(self) -> None:
        """Ends what goes on for this browser, which has gone."""
        if self._painter and self._painting:
            self._painter.leave(self._painting.client)

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
                            part=self.part.value.strip(), threshold=self.threshold.value, **only)

    def show(self) -> None:
        """Asks what is typed and draws the answer; an error becomes the text of the page."""
        if self._clicked is not None and self.answer is not None:
            self.words.content = self._named(*self._clicked)
            self._clicked = None
            return
        request = self.request()
        try:
            answer = self._ask(request or NO_PHRASE)
            self.learned.content = learned(self._info())
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
        self._paint(request)
        self._offer(answer, request)

    def _named(self, origin: np.ndarray, direction: np.ndarray) -> str:
        """Returns what a ray points at, in words: the names that fit it best."""
        assert self.answer is not None and self._text_query is not None
        points = self.drawing.place(self.answer.points_world)
        query = self._text_query()
        at = pointed_at(points, origin, direction, point_size(points))
        if at is None or len(query.index.segments) != len(points):
            return 'Nothing of the map is there.'
        if (segment := int(query.index.segments[at])) < 0:
            return 'That belongs to no thing that was told apart.'
        return in_names(names_of(query, NAMES, segment), query.config.threshold)

    def _without_phrase(self) -> str:
        return NO_WHOLE if self.part.value.strip() else NOTHING_TYPED

    def _offer(self, answer: Answer, request: QueryRequest | None) -> None:
        """Shows what can be done with an answer, and the photograph that proves it."""
        self._next_hit = 0
        self.next.visible = request is not None and bool(answer.hits)
        self.save.visible = request is not None and hasattr(self.place, 'send_file_download')
        if request is not None:
            known = [text for text in self.asked.options if text != self.phrase.value]
            self.asked.options = [known[0], self.phrase.value, *known[1:MOST_ASKED]]
        picture = self._proof(answer) if self.next.visible else None
        self.photograph.visible = picture is not None
        if picture is not None:
            self.photograph.image = picture

    def _proof(self, answer: Answer) -> np.ndarray | None:
        """Returns the photograph that shows the best place best, with its box; None without any."""
        if self._chooser is None or len(answer.points_world) != self._chooser.points:
            try:
                self._views = map_views(self._map_directory)
            except DatasetError:        # the map was copied without its photographs
                return None
            self._chooser = ViewChooser(self._views, answer.points_world)
        return proof(self._views[self._chooser.best(answer)], answer.hits[0])

    def _ask_again(self) -> None:
        if self.asked.value not in (NOTHING_ASKED, self.phrase.value):
            self.submit(self.asked.value)

    def _change_look(self) -> None:
        """Shows the surface or the field in another way."""
        self.drawing.surface = surface_of(self.look.value)
        if self.answer is not None:
            self.drawing.draw(self.answer, plain=self.request() is None)
        self._paint(self.request())

    def _paint(self, request: QueryRequest | None) -> None:
        if self._painter is None or self._painting is None or self.answer is None:
            return
        look = next((look for look in LOOKS if self.look.value == FIELD.format(look)), '')
        origin = self.drawing.origin if self.drawing.origin is not None else np.zeros(3)
        self._painter.change(self._painting, look=look, request=request, origin=origin,
                             top=float(self.answer.relevancy.max(initial=0.0)),
                             paint=1.0 if self.answer.found else FADED)

    def go_to_next(self) -> None:
        """Moves the camera to the next place of the answer, the best one first."""
        camera = getattr(self.place, 'camera', None)
        if camera is None or self.answer is None or not self.answer.hits:
            return
        hit = self.answer.hits[self._next_hit % len(self.answer.hits)]
        self._next_hit += 1
        target = self.drawing.place(hit.position)
        away = camera.position - camera.look_at
        distance = max(NEAR_TIMES * float(np.linalg.norm(hit.size)), 1e-3)
        camera.position = target + away / max(float(np.linalg.norm(away)), 1e-9) * distance
        camera.look_at = target

    def show_link(self) -> None:
        """Shows an address that restores the question and the view."""
        seen = getattr(self.place, 'camera', None)
        origin = self.drawing.place(np.zeros(3))
        camera = None if seen is None else np.stack(
            [seen.position - origin, seen.look_at - origin, seen.up_direction])
        link = PageLink(self.phrase.value, self.rather_than.value, self.part.value,
                        self.threshold.value, camera)
        self.address.content = f'[This question and view]({link.address(self._host)})'

    def _save(self) -> None:
        if self.answer is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            for file in export_answer(self.answer, Path(folder)):
                cast('viser.ClientHandle', self.place).send_file_download(
                    file.name, file.read_bytes())

    def _look_at(self, answer: Answer) -> None:
        """Puts the browser's camera to where a photographer stood."""
        drawing = self.drawing
        up = drawing.up.direction
        if self._link.camera is not None:
            position, target, up = self._link.camera
        else:
            position, target = first_view(answer.points_world, drawing.poses, up)
        position, target = drawing.place(position), drawing.place(target)
        fov_rad = usual_fov(drawing.cameras)
        client = getattr(self.place, 'camera', None)
        if client is not None:
            client.position, client.look_at, client.up_direction = position, target, up
            client.fov = fov_rad
        else:
            start = self.place.initial_camera   # type: ignore[union-attr]
            start.position, start.look_at, start.up, start.fov = position, target, up, fov_rad


def surface_of(look: str) -> str:
    """Returns how the surface is drawn where this is shown: not at all before the field."""
    return look if look in SURFACES else NO_SURFACE


def in_names(names: Sequence[Guess], threshold: float) -> str:
    """Returns what a thing may be, best name first, as Markdown."""
    best = names[0]
    lead = f'This may be a **{best.text}**' if best.relevancy >= threshold else \
        f'No known name fits this well; the nearest is **{best.text}**'
    rows = [f'| {name.text} | {name.relevancy:.2f} |' for name in names]
    return '\n'.join([f'{lead}.', '', '| name | relevancy |', '| - | - |', *rows])


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

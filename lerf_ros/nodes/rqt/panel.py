# SPDX-License-Identifier: Apache-2.0
"""What the panel knows and does, without Qt: questions, answers as rows, history, save, reset."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from lerf_ros.msg import ErrorCode, PhraseAnswer, Presence, QueryHit
from lerf_ros.nodes.query.messages import error_name
from lerf_ros.query.request import split_phrases
from lerf_ros.srv import Query, SaveMap

MOST_REMEMBERED = 30
PRESENCES = {Presence.PRESENT: 'present', Presence.ABSENT: 'absent',
             Presence.NOT_OBSERVED: 'not observed'}
COLUMNS = ('Phrase', 'Presence', 'Probability', 'Relevancy', 'Where', 'Looks more like')


class Row(NamedTuple):
    """A line of the table: its cells are COLUMNS, detail is told of it when it is chosen."""

    phrase: str
    presence: str
    probability: str
    relevancy: str
    where: str
    looks_more_like: str
    detail: str

    @property
    def is_hit(self) -> bool:
        """Returns whether it is a place, and not a phrase that was not found."""
        return bool(self.where)


@dataclass(frozen=True)
class View:
    """What is shown. busy: an answer is awaited. chosen: row, -1 for none. question: to say yes or
    no to, with `reply`.
    """

    rows: tuple[Row, ...] = ()
    message: str = ''
    failed: bool = False
    busy: bool = False
    history: tuple[str, ...] = ()
    chosen: int = -1
    question: str = ''


class Robot(Protocol):
    """Who is asked. `done` may be called by another thread: with a response, or with why not."""

    def ask(self, fields: Mapping[str, object],
            done: Callable[[Query.Response | str], None]) -> None:
        """Asks lerf/query; fields: of its request."""

    def save(self, name: str, overwrite: bool,
             done: Callable[[SaveMap.Response | str], None]) -> None:
        """Saves the map under a name."""

    def reset(self, done: Callable[[bool, str], None]) -> None:
        """Forgets the map; done gets whether it was, and words."""


class QueryPanel:
    """Keeps the view. `changed` is called after each change, perhaps by another thread."""

    def __init__(self, robot: Robot, changed: Callable[[], None] = lambda: None) -> None:
        self.robot, self.changed = robot, changed
        self.view = View()
        self._asked = 0     # answers to earlier questions are not shown
        self._work: Callable[[], None] | None = None    # that waits for a yes

    def ask(self, text: str, negatives: str = '', threshold: float = 0.0) -> None:
        """Asks for phrases; several with ; between, as negatives. threshold: 0 for the usual one.
        """
        phrases = split_phrases(text)
        if not phrases:
            self._show(message='say what to look for: a phrase, or several with ; between them',
                       failed=True)
            return
        self._asked += 1
        number, words = self._asked, '; '.join(phrases)
        self._show(busy=True, failed=False, message=f'asking for {words} ...',
                   history=remembered(self.view.history, words))
        self.robot.ask({**({'text': phrases[0]} if len(phrases) == 1 else {'texts': list(phrases)}),
                        'negatives': list(split_phrases(negatives)), 'threshold': threshold},
                       lambda response: self._answered(number, response))

    def remember(self, phrases: Iterable[str]) -> None:
        """Takes over the phrases of an earlier start, the newest first."""
        self._show(history=tuple(dict.fromkeys(phrases))[:MOST_REMEMBERED])

    def next_hit(self) -> None:
        """Chooses the next place, the first one after the last."""
        hits = [number for number, row in enumerate(self.view.rows) if row.is_hit]
        if hits:
            later = [number for number in hits if number > self.view.chosen]
            self.choose((later or hits)[0])

    def choose(self, row: int) -> None:
        """Chooses a row."""
        if row != self.view.chosen:
            self._show(chosen=row)

    def save(self, name: str, overwrite: bool = False) -> None:
        """Saves the map; before another one of this name is replaced, there is a question."""
        name = name.strip()
        if not name:
            self._show(message='not saved: the map needs a name', failed=True)
            return

        def done(response: SaveMap.Response | str) -> None:
            if isinstance(response, str):
                self._show(message=f'not saved: {response}', failed=True)
            elif response.error_code == ErrorCode.NAME_TAKEN and not overwrite:
                self._wonder(f'There is a map {name!r} already. Replace it?',
                             lambda: self.save(name, True))
            else:
                self._show(message=response.message, failed=not response.success)
        self.robot.save(name, overwrite, done)

    def reset(self) -> None:
        """Forgets the map, after a question."""
        self._wonder('Forget all keyframes and what was learned of them? Saved maps stay. This '
                     'cannot be undone.', lambda: self.robot.reset(self._was_reset))

    def reply(self, yes: bool) -> None:
        """Does what the question asked about, or not."""
        work, self._work = self._work, None
        self._show(question='')
        if yes and work is not None:
            work()

    def _wonder(self, question: str, work: Callable[[], None]) -> None:
        self._work = work
        self._show(question=question)

    def _was_reset(self, success: bool, message: str) -> None:
        if not success:
            self._show(message=f'not reset: {message}', failed=True)
            return
        self._asked += 1        # what still comes is of the map that is gone
        self._show(rows=(), chosen=-1, busy=False, message=message or 'the map is empty',
                   failed=False)

    def _answered(self, number: int, response: Query.Response | str) -> None:
        if number != self._asked:
            return
        if isinstance(response, str):
            self._show(busy=False, failed=True, message=response, rows=(), chosen=-1)
        elif not response.success:
            self._show(busy=False, failed=True, rows=(), chosen=-1, message=(
                f'not answered ({error_name(response.error_code)}): {response.message}'))
        else:
            rows = tuple(rows_of(response))
            chosen = next((k for k, row in enumerate(rows) if row.is_hit), 0)
            self._show(busy=False, failed=False, message=words_of(response), rows=rows,
                       chosen=chosen)

    def _show(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)       # type: ignore[arg-type]
        self.changed()


def remembered(history: tuple[str, ...], words: str) -> tuple[str, ...]:
    """Returns the history with the newest phrase first, each once."""
    return (words, *(old for old in history if old != words))[:MOST_REMEMBERED]


def words_of(response: Query.Response) -> str:
    """Returns what is said above the table; of several phrases the table says the rest."""
    if len(response.phrases) < 2:
        return str(response.message)
    found = sum(phrase.presence == Presence.PRESENT for phrase in response.phrases)
    return (f'{found} of {len(response.phrases)} phrases were found'
            + ('; the map is still learning' if response.learning else ''))


def rows_of(response: Query.Response) -> list[Row]:
    """Returns a row for each place of each phrase, and one for a phrase that was not found."""
    unit = 'm' if response.metric else 'map units'
    rows = []
    for phrase in response.phrases:
        likes = ', '.join(phrase.looks_more_like)
        rows += [hit_row(phrase, hit, likes, unit) for hit in phrase.hits] or [Row(
            phrase.text, PRESENCES[phrase.presence], number(phrase.probability), '', '', likes,
            phrase.not_found_reason)]
    return rows


def hit_row(phrase: PhraseAnswer, hit: QueryHit, likes: str, unit: str) -> Row:
    """Returns the row of a place."""
    at, size = hit.box.center.position, hit.box.size
    seen = f', last at {hit.last_seen.sec} s' if hit.last_seen.sec else ''
    confirmed = ', '.join(str(view.keyframe) for view in hit.confirmed_by)
    detail = (f'size {size.x:.2f} x {size.y:.2f} x {size.z:.2f} {unit}; seen by {hit.keyframes} '
              f'keyframes{seen}{f"; confirmed by keyframe {confirmed}" if confirmed else ""}')
    return Row(hit.label or phrase.text, PRESENCES[phrase.presence], number(hit.probability),
               number(hit.relevancy), f'{at.x:.2f}, {at.y:.2f}, {at.z:.2f} {unit}', likes, detail)


def number(value: float) -> str:
    """Returns a number with two digits, '' for NaN."""
    return '' if math.isnan(value) else f'{value:.2f}'

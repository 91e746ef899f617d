# SPDX-License-Identifier: Apache-2.0
"""Which submaps have to be asked so that the answer is that of all of them.

Each submap knows above what a phrase is relevant nowhere in it (query/ceilings.py). Those that
reach the threshold are asked, the highest ceiling first, until as many places are found as are
wanted, and no ceiling that is left beats the last of them. If there is no place at all, the best
of what does not reach the threshold tells how far the phrase is from being found: then those are
asked whose ceiling is above it, and those that may make an absence doubtful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lerf_ros.query.answer import NEUTRAL, Hit, Presence
from lerf_ros.query.ceilings import Ceilings
from lerf_ros.query.places import TIE_DECIMALS
from lerf_ros.query.submap_answers import Part, leading, owned_hits, without_hits

# A relevancy that is so much below a rounded one is rounded to less.
ROUNDED = 0.6 * 10.0 ** -TIE_DECIMALS


@dataclass
class SubmapChoice:
    """Asks those of S submaps that matter, by their position in the sequences given here.

    numbers: of each, among all submaps of the map. ceilings: of each. least: relevancy that a place
    must reach in each. most: places of each phrase. enough: whether what is not found is absent
    unless a submap doubts that. thin: the submaps that may doubt it, since few keyframes saw some
    of their points. ask: asks one; several threads call it at once. threads: for that, `together`
    at once.
    """

    numbers: Sequence[int]
    ceilings: Sequence[Ceilings]
    least: Sequence[float]
    most: int
    enough: bool
    thin: Sequence[int]
    ask: Callable[[int], Part]
    threads: Executor
    together: int
    parts: dict[int, Part] = field(default_factory=dict)
    # Of parts, their own hits of each phrase; of phrases, the places of so many parts.
    _owned: dict[int, list[list[tuple[Part, Hit]]]] = field(default_factory=dict)
    _shown: dict[int, tuple[int, list[list[tuple[Part, Hit]]]]] = field(default_factory=dict)

    def told(self) -> list[Part]:
        """Asks what has to be asked; returns the answers in the order of the submaps."""
        phrases = range(self._most.shape[1])
        while wanted := [k for p in phrases for k in self._next(p)]:
            self._ask(wanted)
        for p in phrases:
            if not self._hits(p):
                self._ask_for_the_best(p)
                if self.enough:
                    self._ask_for_doubts(p)
        return self._asked

    @cached_property
    def _most(self) -> np.ndarray:
        """Above what each phrase is nowhere in each submap, (S, P), from groups of points alone."""
        return np.array([ceilings.most for ceilings in self.ceilings])

    @cached_property
    def _peaks(self) -> np.ndarray:
        """The same (S, P), from the points themselves where they were looked at; 0 below `least`.
        """
        return np.where(self._most >= np.array(self.least)[:, None], self._most, 0.0)

    @cached_property
    def _looked(self) -> np.ndarray:
        """Of which of these the points were looked at, (S, P) bool."""
        return np.zeros(self._most.shape, bool)

    @property
    def _asked(self) -> list[Part]:
        return [self.parts[k] for k in sorted(self.parts)]

    def _ask(self, numbers: Iterable[int]) -> None:
        new = sorted(set(numbers) - self.parts.keys())
        self.parts.update(zip(new, self.threads.map(self.ask, new), strict=True))

    def _next(self, phrase: int) -> list[int]:
        """Returns which submaps to ask next, `together` at most; none where no other matters.

        The points of those are looked at before that may be best by their groups, best first, so
        that most submaps are neither looked at nor asked.
        """
        while wanted := self._may_have_places(phrase)[:self.together]:
            new = [(k, floor) for k, floor in wanted if not self._looked[k, phrase]]
            if not new:
                break
            for (k, floor), peaks in zip(new, self._reached(new), strict=True):
                self._note(k, phrase, floor, peaks)
        return [k for k, _ in wanted]

    def _note(self, number: int, phrase: int, floor: float, peaks: np.ndarray) -> None:
        """Notes what `reached` (P,) said of a submap, which is 0 for what is below the floor."""
        if floor <= self.least[number]:
            self._looked[number] = True
            self._peaks[number] = np.where(self._peaks[number] > 0, peaks, 0.0)
        elif peaks[phrase]:
            self._looked[number, phrase], self._peaks[number, phrase] = True, peaks[phrase]
        else:       # it may still show one of the places more completely
            self._peaks[number, phrase] = min(self._peaks[number, phrase], floor)

    def _reached(self, wanted: Sequence[tuple[int, float]]) -> list[np.ndarray]:
        """Returns above what each phrase is nowhere in submaps, (P,); 0 below the floor of each."""
        return list(self.threads.map(lambda pair: self.ceilings[pair[0]].reached(pair[1]), wanted))

    def _may_have_places(self, phrase: int) -> list[tuple[int, float]]:
        """Returns the submaps that may still change the best places, best first.

        With each comes the relevancy that it needs for that.
        """
        peaks, found = self._peaks[:, phrase], list[tuple[int, float]]()
        places = self._places(phrase)
        last = round(places[-1][0][1].relevancy, TIE_DECIMALS) if len(places) == self.most else 0.0
        for k in np.argsort(-peaks, kind='stable').tolist():
            if len(found) == self.together or not peaks[k]:
                break
            if k in self.parts:
                continue
            beats = round(float(peaks[k]), TIE_DECIMALS) >= last
            needed = max(self.least[k], last - ROUNDED) if self._peaks.shape[1] == 1 \
                else self.least[k]      # all phrases of a submap are looked at together
            if not beats or needed > self.least[k]:
                # It may show one of these places more completely than the submap that it is from.
                again = any(part.cubes.depth(self.numbers[k], hit.position) <= 1.0
                            for (part, hit), *_ in places)
                beats, needed = beats or again, self.least[k] if again else needed
            if beats:
                found.append((k, needed))
        return found

    def _places(self, phrase: int) -> list[list[tuple[Part, Hit]]]:
        """Returns the best places so far, best first, each with all hits that are it."""
        count, places = self._shown.get(phrase, (0, []))
        if count != len(self.parts):
            places = leading(self._hits(phrase), self.most)
            self._shown[phrase] = len(self.parts), places
        return places

    def _hits(self, phrase: int) -> list[tuple[Part, Hit]]:
        """Returns the hits of a phrase, each with the submap that speaks for it."""
        for k in self.parts.keys() - self._owned.keys():
            told = [self.parts[k]]
            self._owned[k] = [owned_hits(p, told) for p in range(self._most.shape[1])]
        return [pair for k in sorted(self.parts) for pair in self._owned[k][phrase]]

    def _best(self, phrase: int) -> float:
        """Returns the relevancy of the best place below the threshold; 0 for none."""
        told = [part.answer.phrases[phrase] for part in self._asked]
        return max((phrase.best for phrase in without_hits(told)), default=0.0)

    def _ask_for_the_best(self, phrase: int) -> None:
        """Asks until no other submap can have a better place below the threshold."""
        high = self._most[:, phrase].copy()
        looked = np.zeros(len(high), bool)
        if not self._best(phrase) and high.max() > NEUTRAL:
            self._ask([int(high.argmax())])     # so that few of the others have to be looked into
        while True:
            floor = max(self._best(phrase), NEUTRAL)
            wanted = [k for k in np.argsort(-high, kind='stable').tolist()
                      if k not in self.parts and high[k] >= floor][:self.together]
            if not wanted:
                break
            if new := [k for k in wanted if not looked[k]]:
                high[new] = [peaks[phrase] for peaks in self._reached([(k, floor) for k in new])]
                looked[new] = True
            else:
                self._ask(wanted)
        if not self._best(phrase):
            self._ask([0])      # all say the same, so the first one says it

    def _ask_for_doubts(self, phrase: int) -> None:
        """Asks until one submap doubts that a phrase is absent, or none is left that can."""
        for k in self.thin:
            if any(part.answer.phrases[phrase].presence == Presence.NOT_OBSERVED
                   for part in self._asked):
                return
            if k not in self.parts and self._most[k, phrase] > NEUTRAL:
                self._ask([k])

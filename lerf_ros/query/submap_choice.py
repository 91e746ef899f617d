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

import numpy as np

from lerf_ros.query.answer import NEUTRAL, Presence
from lerf_ros.query.ceilings import Ceilings
from lerf_ros.query.places import TIE_DECIMALS
from lerf_ros.query.submap_answers import Part, leading, owned_hits, without_hits

# Times as many submaps as places are wanted: it pays to look closely which of so many are best.
MANY = 2


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

    def told(self) -> list[Part]:
        """Asks what has to be asked; returns the answers in the order of the submaps."""
        peaks = np.stack(self._peaks(range(len(self.ceilings)), self.least, False))     # (S, P)
        if np.count_nonzero(peaks, axis=0).max() > MANY * self.most:
            high = np.flatnonzero(peaks.any(1)).tolist()
            peaks[high] = self._peaks(high, [self.least[k] for k in high], True)
        while wanted := [k for p in range(peaks.shape[1]) for k in self._may_have_places(
                p, peaks[:, p])[:self.together]]:
            self._ask(wanted)
        for p in range(peaks.shape[1]):
            if not owned_hits(p, self._asked):
                self._ask_for_the_best(p)
                if self.enough:
                    self._ask_for_doubts(p)
        return self._asked

    @property
    def _asked(self) -> list[Part]:
        return [self.parts[k] for k in sorted(self.parts)]

    def _ask(self, numbers: Iterable[int]) -> None:
        new = sorted(set(numbers) - self.parts.keys())
        self.parts.update(zip(new, self.threads.map(self.ask, new), strict=True))

    def _peaks(self, numbers: Sequence[int], floors: Sequence[float],
               closely: bool) -> list[np.ndarray]:
        """Returns above what each phrase is nowhere in these submaps, (P,); 0 below the floors."""
        return list(self.threads.map(lambda k, floor: self.ceilings[k].reached(floor, closely),
                                     numbers, floors))

    def _may_have_places(self, phrase: int, peaks: np.ndarray) -> list[int]:
        """Returns the submaps that may still change the best places, of peaks (S,), best first."""
        places = leading(owned_hits(phrase, self._asked), self.most)
        last = round(places[-1][0][1].relevancy, TIE_DECIMALS) if len(places) == self.most else 0.0
        found = []
        for k in np.argsort(-peaks, kind='stable').tolist():
            if k in self.parts or not peaks[k]:
                continue
            # It may show one of these places more completely than the submap that it is from.
            again = any(part.cubes.depth(self.numbers[k], hit.position) <= 1.0
                        for (part, hit), *_ in places)
            if again or round(float(peaks[k]), TIE_DECIMALS) >= last:
                found.append(k)
        return found

    def _best(self, phrase: int) -> float:
        """Returns the relevancy of the best place below the threshold; 0 for none."""
        told = [part.answer.phrases[phrase] for part in self._asked]
        return max((phrase.best for phrase in without_hits(told)), default=0.0)

    def _ask_for_the_best(self, phrase: int) -> None:
        """Asks until no other submap can have a better place below the threshold."""
        most = np.array([ceilings.most[phrase] for ceilings in self.ceilings])
        if not self._best(phrase) and most.max() > NEUTRAL:
            self._ask([int(most.argmax())])     # so that few of the others have to be looked into
        floor = max(self._best(phrase), NEUTRAL)
        left = [k for k in range(len(most)) if k not in self.parts and most[k] >= floor]
        peaks = {k: float(peak[phrase]) for k, peak in zip(
            left, self._peaks(left, [floor] * len(left), True), strict=True)}
        while wanted := [k for k in sorted(peaks, key=lambda k: -peaks[k]) if k not in self.parts
                         and peaks[k] >= max(self._best(phrase), NEUTRAL)][:self.together]:
            self._ask(wanted)
        if not self._best(phrase):
            self._ask([0])      # all say the same, so the first one says it

    def _ask_for_doubts(self, phrase: int) -> None:
        """Asks until one submap doubts that a phrase is absent, or none is left that can."""
        for k in self.thin:
            if any(part.answer.phrases[phrase].presence == Presence.NOT_OBSERVED
                   for part in self._asked):
                return
            if k not in self.parts and self.ceilings[k].most[phrase] > NEUTRAL:
                self._ask([k])

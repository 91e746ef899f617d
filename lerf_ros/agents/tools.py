# SPDX-License-Identifier: Apache-2.0
"""What an agent may ask of a map, as JSON data with units: the tools without any protocol.

Answers are short, because an agent pays for each word, and say in words what is not known.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lerf_ros.agents.question import (
    Json,
    Question,
    answer_data,
    box_region,
    frame_data,
    hit_data,
    nth_hit,
    rounded,
    stand_off_data,
    vector,
    view_data,
)
from lerf_ros.asked_map import AskedMap
from lerf_ros.config.robot import RobotConfig
from lerf_ros.errors import InvalidRequestError
from lerf_ros.query.answer import Answer
from lerf_ros.query.household import NAMES
from lerf_ros.query.inventory import Item
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.robot.known_space import KnownSpace
from lerf_ros.robot.next_views import NextView
from lerf_ros.show.pictures import PosedImage, ViewChooser, jpeg, map_views, proof

MOST_ITEMS = 60         # of an inventory that are told
UNNAMED = ('the best names of things that are not `named` are below the threshold: take them for '
           'hints; of all names the best is right less often than its probability says')


class MapTools:
    """Answers for an agent from the newest snapshot of a map. One call runs at a time."""

    def __init__(self, query: AskedMap, config: RobotConfig | None = None) -> None:
        self._query, self._config = query, config or RobotConfig()
        self._lock = threading.RLock()
        self._space: tuple[MappedSpace, KnownSpace] | None = None
        # Of the snapshot that they were made of, by its number.
        self._items: tuple[int, tuple[str, ...], tuple[Item, ...]] | None = None
        self._views: tuple[int, list[PosedImage], ViewChooser] | None = None

    def query(self, asked: Question | str) -> Json:
        """Returns where a phrase is found, whether it is there, and where a base stands for it.

        Raises InvalidRequestError for a frame, which only a running robot knows.
        """
        question = Question(asked) if isinstance(asked, str) else asked
        with self._lock:
            answer = self._ask(question)
            out = answer_data(answer)
            if answer.hits:
                found = self._known_space(answer.hits[0].position).stand_off(
                    answer.hits[0])
                out['stand_off'] = stand_off_data(
                    found.T_world_base, found.doubt or found.reason, found.distance)
            return out

    def inventory(self, names: Sequence[str] = ()) -> Json:
        """Returns the things of the map with the names that fit best, of these or of a list."""
        with self._lock:
            items = self.items(names)
            things = [item for item in items if not item.surface]
            return {**self._frame(self._query.metric), 'things': len(things),
                    'named': sum(item.named for item in things), 'caution': UNNAMED,
                    'left_out': max(len(items) - MOST_ITEMS, 0),
                    'items': [item_data(item) for item in items[:MOST_ITEMS]]}

    def next_views(self, center: Sequence[float] = (), size: Sequence[float] = ()) -> Json:
        """Returns from where a camera shows most of what was not seen, in a box or everywhere.

        Raises InvalidRequestError for a box without three numbers each.
        """
        region = box_region(center, size)
        with self._lock:
            self._query.refresh()
            space = self._known_space(None if region is None else region.T_world_region[:3, 3])
            found, coverage = space.next_views(region), space.coverage
            seen = math.nan if coverage is None else coverage.observed(region)
            return {**self._frame(self._query.metric), 'seen': rounded(seen),
                    'views': [gain_data(view) for view in found.views], 'reason': found.reason}

    def picture(self, text: str, rank: int = 1) -> tuple[bytes, Json]:
        """Returns a JPEG of the keyframe that shows a hit best, its box drawn, and what it shows.

        Raises InvalidRequestError where there is no such hit.
        """
        with self._lock:
            answer = self._ask(Question(text, max(rank, 1)))
            hit = nth_hit(answer, rank)
            views, chooser = self._photographs(answer)
            view = views[chooser.best(replace(answer, hits=(hit,)))]
            return jpeg(proof(view, hit)), {
                'text': text, 'rank': rank, **self._frame(answer.metric), **hit_data(hit)}

    def items(self, names: Sequence[str] = ()) -> tuple[Item, ...]:
        """Returns the inventory of the newest snapshot; the last one is kept."""
        wanted = tuple(names) or NAMES
        self._query.refresh()
        key = self._query.snapshot_id, wanted
        if self._items is None or self._items[:2] != key:
            self._items = (*key, self._query.inventory(wanted))
        return self._items[2]

    def _ask(self, question: Question) -> Answer:
        self._query.refresh()
        if question.frame.lstrip('/') not in ('', self._query.frame_id):
            raise InvalidRequestError(f'frame {question.frame!r}: a map knows its own frame alone, '
                                      f'{self._query.frame_id!r}; leave it out')
        return self._query.ask(question.request())

    def _frame(self, metric: bool) -> Json:
        return frame_data(self._query.frame_id, metric)

    def _known_space(self, around: np.ndarray | None) -> KnownSpace:
        mapped = self._query.mapped_space(around)
        if self._space is None or self._space[0] is not mapped:
            self._space = mapped, KnownSpace.on(mapped, self._config)
        return self._space[1]

    def _photographs(self, answer: Answer) -> tuple[list[PosedImage], ViewChooser]:
        if self._views is None or self._views[0] != answer.snapshot_id:
            views = map_views(self._query.path)
            self._views = (answer.snapshot_id, views, ViewChooser(views, answer.points_world))
        return self._views[1], self._views[2]


def item_data(item: Item) -> Json:
    """Returns a thing of an inventory with its names."""
    return {'segment': item.segment, 'kind': 'surface' if item.surface else 'thing',
            'named': item.named, 'position': vector(item.hit.position),
            'size': vector(item.hit.size),
            'names': [{'name': name.text, 'relevancy': rounded(name.relevancy),
                       'probability': rounded(name.probability)} for name in item.names]}


def gain_data(view: NextView) -> Json:
    """Returns a view: where the camera is, where it looks, and what it gains."""
    return {**view_data(view.T_world_camera), 'look_at': vector(view.target),
            'gain': rounded(view.gain), 'reachable': view.reachable}

# SPDX-License-Identifier: Apache-2.0
"""What an agent asks of a map or of a robot, and the answer as JSON data with units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.errors import InvalidRequestError
from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Answer, Hit
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.files import known
from lerf_ros.show.words import summary

Json = dict[str, object]


@dataclass(frozen=True)
class Question:
    """A phrase, and what narrows it; the fields are those of QueryRequest.

    center, size: x, y, z of a box to look into, in the frame; both empty for everywhere. frame: of
    box and answer, which only a running robot knows; empty for the map frame.
    """

    text: str
    max_hits: int = 3
    part: str = ''
    rather_than: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    threshold: float = 0.0
    center: tuple[float, ...] = ()
    size: tuple[float, ...] = ()
    frame: str = ''

    def region(self) -> Region | None:
        """Returns the box; raises InvalidRequestError for one without three numbers each."""
        return box_region(self.center, self.size)

    def request(self) -> QueryRequest:
        """Returns it as a request in the map frame; raises InvalidRequestError."""
        return QueryRequest(
            self.text, negatives=self.negatives, rather_than=self.rather_than, part=self.part,
            region=self.region(), threshold=self.threshold, max_hits=self.max_hits)


def box_region(center: Sequence[float], size: Sequence[float]) -> Region | None:
    """Returns the box as a region; None where neither centre nor size is given."""
    if not len(center) and not len(size):
        return None
    if len(center) != 3 or len(size) != 3 or min(size) <= 0:
        raise InvalidRequestError('a box needs its center x, y, z and its size x, y, z, which is '
                                  'positive; leave both out for all of the map')
    T = np.eye(4)
    T[:3, 3] = center
    return Region(T, np.asarray(size, np.float64))


def nth_hit(answer: Answer, rank: int, words: str = '') -> Hit:
    """Returns the hit of a rank, 1 for the best. words: a summary of the answer, made where empty.

    Raises InvalidRequestError where there is none.
    """
    if not 1 <= rank <= len(answer.hits):
        raise InvalidRequestError(f'{answer.text!r} has {len(answer.hits)} places, so there is no '
                                  f'number {rank}: {words or summary(answer)}')
    return answer.hits[rank - 1]


def answer_data(answer: Answer, words: str = '') -> Json:
    """Returns an answer: presence, places and a grasp. words: its summary, made where empty."""
    first = answer.phrases[0] if answer.phrases else None
    hits = [{'rank': rank, **hit_data(hit)} for rank, hit in enumerate(answer.hits, 1)]
    return {'text': answer.text, 'presence': answer.presence.name,
            'probability': rounded(answer.probability), 'seen': rounded(answer.observed),
            'learning': bool(answer.learning), 'summary': words or summary(answer),
            **frame_data(answer.frame_id, answer.metric), 'hits': hits,
            'looks_more_like': list(first.looks_more_like) if first else [],
            'grasp': grasp_words(answer)}


def frame_data(frame_id: str, metric: bool) -> Json:
    """Returns in which frame and unit positions and sizes are."""
    return {'frame': frame_id, 'unit': 'm' if metric else 'map units'}


def hit_data(hit: Hit) -> Json:
    """Returns a hit: centre and edges of its box, and how sure it is."""
    return {'label': hit.label, 'position': vector(hit.position), 'size': vector(hit.size),
            'relevancy': rounded(hit.relevancy), 'probability': rounded(hit.probability),
            'seen_by_keyframes': int(hit.keyframes)}


def stand_off_data(T_world_base: np.ndarray | None, note: str,
                   distance: float = math.nan) -> Json:
    """Returns where a base stands, (4, 4), or why nowhere. note: the reason, or what is in doubt.
    """
    if T_world_base is None:
        return {'possible': False, 'reason': note}
    T = T_world_base
    return {'possible': True, 'position': vector(T[:3, 3]),
            'yaw_deg': rounded(math.degrees(math.atan2(T[1, 0], T[0, 0]))),
            'distance': rounded(distance), 'doubt': note}


def view_data(T_world_camera: np.ndarray) -> Json:
    """Returns where a camera is, (4, 4) with OpenCV axes, and where it looks."""
    x, y, z = T_world_camera[:3, 2]
    return {'position': vector(T_world_camera[:3, 3]),
            'yaw_deg': rounded(math.degrees(math.atan2(y, x))),
            'pitch_deg': rounded(math.degrees(math.asin(float(np.clip(z, -1, 1)))))}


def grasp_words(answer: Answer) -> str:
    """Returns in words whether a parallel gripper can grasp the best hit."""
    if not answer.hits:
        return ''
    if not answer.grasps:
        return f'none: {answer.no_target_reason}'
    best = answer.grasps[0]
    x, y, z = best.T_world_grasp[:3, 3]
    return (f'at ({x:.3f}, {y:.3f}, {z:.3f}) m, fingers {best.opening_width:.3f} m apart, '
            f'score {best.score:.2f}')


def vector(values: np.ndarray) -> list[float]:
    """Returns numbers to the millimetre."""
    return [round(float(value), 3) for value in values]


def rounded(value: float) -> float | None:
    """Returns a number to three digits after the point; None for NaN, which JSON does not have."""
    number = known(value)
    return None if number is None else round(number, 3)

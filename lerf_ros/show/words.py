# SPDX-License-Identifier: Apache-2.0
"""Answers in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lerf_ros.query.answer import Answer, Hit, Presence

NOT_METRIC = 'the map is not metric: lengths are map units, not metres'


def summary(answer: Answer) -> str:
    """Returns one line that says what was found, how certain that is, and what is missing."""
    unit = 'm' if answer.metric else 'map units'
    sure = '' if math.isnan(answer.probability) else f', probability {answer.probability:.2f}'
    if answer.found:
        best = answer.hits[0]
        x, y, z = best.position
        places = '1 place' if len(answer.hits) == 1 else f'{len(answer.hits)} places'
        named = f' ({best.label})' if len(answer.texts) > 1 else ''
        text = (f'{answer.text!r}: {places}, best{named} at ({x:.2f}, {y:.2f}, {z:.2f}) {unit} in '
                f'{answer.frame_id!r} with relevancy {best.relevancy:.2f}{sure}')
        if answer.no_target_reason:
            text += f'; no grasp: {answer.no_target_reason}'
    else:
        text = f'{answer.text!r} was not found'
        text += f': {answer.not_found_reason}{sure}' if answer.not_found_reason else sure
        if answer.presence == Presence.NOT_OBSERVED:
            text += (f'; only {answer.observed:.0%} of the place was seen well enough, so that it '
                     'may be there: look from more sides')
    notes = [answer.learning, '' if answer.metric else NOT_METRIC]
    return '; '.join(filter(None, [text, *notes]))


def why_not_found(candidate: Hit | None, threshold: float, min_points: int) -> str:
    """Returns which number decided that a phrase was not found.

    candidate: the best place, however low; None where too few points beat the negatives.
    """
    if candidate is None:
        return (f'fewer than {2 * min_points} points of the map fit it better than the phrases '
                'that it must beat')
    reached, needed = f'{candidate.relevancy:.2f}', f'{threshold:.2f}'
    if candidate.relevancy >= threshold:
        return (f'the best place has relevancy {reached}, but fewer points that reach the '
                f'threshold {needed} than the {min_points} that a hit needs (query.min_points)')
    if reached == needed:
        reached, needed = f'{candidate.relevancy:.4f}', f'{threshold:.4f}'
    return f'the best place has relevancy {reached}, threshold {needed}'


def still_learning(info: Mapping[str, object], unlearned: int) -> str:
    """Returns why the map lags behind its keyframes; empty when it does not.

    info: manifest of the snapshot that answers. unlearned: number of keyframes that are newer.
    """
    if unlearned:
        return (f'the map is still learning: {unlearned} stored keyframes are not in it yet '
                f'({info["steps"]} steps so far)')
    if not info.get('settled', True):
        return ('the map is still learning: it was trained on its newest keyframes for less than '
                f'training.settle_steps ({info["steps"]} steps so far)')
    return ''


def label_text(hit: Hit, text: str) -> str:
    """Returns a label such as `red mug 93 %`, or `red mug 0.71` (relevancy) without calibration."""
    if math.isnan(hit.probability):
        return f'{text} {hit.relevancy:.2f}'
    return f'{text} {100 * hit.probability:.0f} %'

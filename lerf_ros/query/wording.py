# SPDX-License-Identifier: Apache-2.0
"""Answers in words, for people."""

from __future__ import annotations

import math

from lerf_ros.query.answer import Answer, Hit, Presence

NOT_METRIC = 'the map is not metric: lengths are map units, not metres'


def summary(answer: Answer) -> str:
    """One line on what was found, how sure that is, and what is missing."""
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
        best_relevancy = max(answer.relevancy, default=0.0)
        text = (f'{answer.text!r} was not found: relevancy reaches {best_relevancy:.2f}, '
                f'threshold {answer.threshold:.2f}{sure}')
        if answer.presence == Presence.NOT_OBSERVED:
            text += (f'; only {answer.observed:.0%} of the place was seen well enough, so that it '
                     'may be there: look from more sides')
    return text if answer.metric else f'{text}; {NOT_METRIC}'


def label_text(hit: Hit, text: str) -> str:
    """Such as `red mug 93 %`, or `red mug 0.71` (relevancy) without calibration."""
    if math.isnan(hit.probability):
        return f'{text} {hit.relevancy:.2f}'
    return f'{text} {100 * hit.probability:.0f} %'

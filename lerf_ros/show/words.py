# SPDX-License-Identifier: Apache-2.0
"""Answers in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lerf_ros.query.answer import EVEN, Answer, Hit, PhraseAnswer, Presence

NOT_METRIC = 'the map is not metric: lengths are map units, not metres'
MOST_TOLD = 12      # phrases of a kind that one line tells of


def summary(answer: Answer) -> str:
    """Returns one line that says what was found, how certain that is, and what is missing."""
    text = of_several(answer) if len(answer.phrases) > 1 else of_one(answer)
    if answer.found and answer.no_target_reason:
        text += f'; no grasp: {answer.no_target_reason}'
    told = {answer.presence, *(phrase.presence for phrase in answer.phrases)}
    if answer.too_coarse and Presence.NOT_OBSERVED in told:
        text += f'; {answer.too_coarse}'
    elif answer.presence == Presence.NOT_OBSERVED:
        text += (f'; only {answer.observed:.0%} of the place was seen well enough, so that it '
                 'may be there: look from more sides')
    notes = [*read_as(answer), answer.doubt, answer.learning, '' if answer.metric else NOT_METRIC]
    return '; '.join(filter(None, [text, *notes]))


def read_as(answer: Answer) -> list[str]:
    """Returns how phrases were read in which more than a noun was understood."""
    return [f'{phrase.text!r} was read as: {phrase.understood}' for phrase in answer.phrases
            if phrase.understood not in ('', phrase.text)][:MOST_TOLD]


def of_one(answer: Answer) -> str:
    """Returns what is said of one phrase, or of several of which nothing is known by itself."""
    sure = there(answer.probability, answer.found)
    if answer.found:
        best = answer.hits[0]
        named = f' ({best.label})' if len(answer.texts) > 1 else ''
        return (f'{answer.text!r}: {places(len(answer.hits))}, best{named} at '
                f'{where(best, answer)} with relevancy {best.relevancy:.2f}{sure}')
    reason = f': {answer.not_found_reason}' if answer.not_found_reason else ''
    return f'{answer.text!r} was not found{reason}{sure}'


def of_several(answer: Answer) -> str:
    """Returns what is said of each of several phrases, those that were found first."""
    found = [phrase for phrase in answer.phrases if phrase.found]
    missing = [phrase for phrase in answer.phrases if not phrase.found]
    parts = [f'{phrase.text!r}: {places(len(phrase.hits))}, best at '
             f'{where(phrase.hits[0], answer)} with relevancy {phrase.hits[0].relevancy:.2f}'
             f'{there(phrase.probability, True)}' for phrase in found[:MOST_TOLD]]
    parts += [f'{phrase.text!r} was not found: {phrase.not_found_reason}'
              f'{there(phrase.probability)}' for phrase in missing[:MOST_TOLD]]
    more = max(len(found) - MOST_TOLD, 0), max(len(missing) - MOST_TOLD, 0)
    parts += [f'{more[0]} more were found'] * bool(more[0])
    parts += [f'{more[1]} more were not found'] * bool(more[1])
    return '; '.join(parts)


def confirmed(hit: Hit) -> str:
    """Returns which keyframes confirm a hit, in words; empty where none does."""
    return ', '.join(str(view.keyframe) for view in hit.confirmed_by)


def there(probability: float, found: bool = False) -> str:
    """Returns the probability that a thing is in the map at all, in words; empty for NaN.

    found: whether a place is named all the same.
    """
    if math.isnan(probability):
        return ''
    doubt = ' only, so look at it before you act' if found and probability < EVEN else ''
    return f', in the map with probability {probability:.2f}{doubt}'


def where(hit: Hit, answer: Answer) -> str:
    """Returns the position of a hit with its unit and frame."""
    x, y, z = hit.position
    unit = 'm' if answer.metric else 'map units'
    return f'({x:.2f}, {y:.2f}, {z:.2f}) {unit} in {answer.frame_id!r}'


def places(count: int) -> str:
    """Returns the number of places in words."""
    return '1 place' if count == 1 else f'{count} places'


def why_not_found(candidate: Hit | None, threshold: float, min_points: int) -> str:
    """Returns which number decided that a phrase was not found.

    candidate: the best place, however low; None where too few points beat the negatives, or where
    those that do belong to things that do not, such as the mat under a thing.
    """
    if candidate is None:
        return (f'no place of {2 * min_points} points or more fits it better than the phrases '
                'that it must beat')
    reached, needed = f'{candidate.relevancy:.2f}', f'{threshold:.2f}'
    if candidate.relevancy >= threshold:
        # A place may have points enough, of which too few are that relevant.
        few = f'{candidate.points} points, fewer than the {min_points} that a hit needs' \
            if candidate.points < min_points else \
            f'fewer than the {min_points} points that a hit needs reach {needed}'
        return f'the best place has relevancy {reached}, but {few} (query.min_points)'
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


def with_field(info: Mapping[str, Any]) -> bool:
    """Returns whether a field was trained for a snapshot, by its manifest (training.field)."""
    return bool(info.get('config', {}).get('training', {}).get('field', 'lerf') == 'lerf')


def learned(info: Mapping[str, Any]) -> str:
    """Returns how far a map has come, from the manifest of a snapshot; empty before the first.

    Such as `41 keyframes, 1200 steps, PSNR 24.1 dB; snapshot of 14:03:20`. What a
    manifest lacks, or does not know yet, is left out; times are local.
    """
    if not info:
        return ''
    counted = ('keyframes', 'steps') if with_field(info) else ('keyframes',)
    parts = [f'{info[name]} {name}' for name in counted if name in info]
    if not with_field(info):
        parts.append('no field')
    if info.get('psnr') is not None and math.isfinite(info['psnr']):
        parts.append(f'PSNR {info["psnr"]:.1f} dB')
    taken = datetime.fromtimestamp(info.get('stamp_ns', 0) / 1e9)
    return f'{", ".join(parts)}; snapshot of {taken:%H:%M:%S}'


def legend_text(phrase: PhraseAnswer) -> str:
    """Returns a phrase with what became of it, such as `cup: 2 places` or `tea pot: not found`."""
    if phrase.found:
        return f'{phrase.text}: {places(len(phrase.hits))}'
    missing = 'not observed' if phrase.presence == Presence.NOT_OBSERVED else 'not found'
    alike = f', looks more like {phrase.looks_more_like[0]}' if phrase.looks_more_like else ''
    return f'{phrase.text}: {missing}{alike}'


def label_text(hit: Hit, text: str) -> str:
    """Returns a label such as `red mug 93 %`, or `red mug 0.71` (relevancy) without calibration."""
    if math.isnan(hit.probability):
        return f'{text} {hit.relevancy:.2f}'
    return f'{text} {100 * hit.probability:.0f} %'

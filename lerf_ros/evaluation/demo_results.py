# SPDX-License-Identifier: Apache-2.0
"""How the demo evaluates its answers: boxes, distances, the table and results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lerf_ros.evaluation.localization import inside_box
from lerf_ros.evaluation.records import plain
from lerf_ros.query.answer import Answer
from lerf_ros.storage.output_folder import OutputFolder

# So many of eight queries for present things must be right.
PRESENT_RIGHT, PRESENT_OF = 7, 8


@dataclass(frozen=True)
class TruthBox:
    """An axis-aligned ground-truth box in the world; box_min, box_max: (3,) metres."""

    box_min: np.ndarray
    box_max: np.ndarray

    def distance(self, point: np.ndarray) -> float:
        """Returns the distance from the point (3,) to the box, metres; 0 inside."""
        outside = np.maximum(np.maximum(self.box_min - point, point - self.box_max), 0.0)
        return float(np.linalg.norm(outside))


@dataclass(frozen=True)
class QueryOutcome:
    """The outcome of one query. position and distance_m are None without a hit or a box.

    relevancy: of the best hit; without a hit the highest of all points, None when unknown. grasp:
    whether there is a grasp.
    """

    query: str
    found: bool
    inside_box: bool
    distance_m: float | None
    relevancy: float | None
    latency_s: float
    position: tuple[float, ...] | None
    grasp: bool = False


def check_answer(answer: Answer, latency_s: float, boxes: Sequence[TruthBox] = ()) -> QueryOutcome:
    """Compares the best hit with the boxes of the objects meant; an absent object has none."""
    top = float(answer.relevancy.max(initial=0.0)) if len(answer.relevancy) else None
    if not answer.found:
        return QueryOutcome(answer.text, False, False, None, top, latency_s, None)
    hit = answer.hits[0]
    position = np.asarray(hit.position, np.float64)
    return QueryOutcome(
        query=answer.text, found=True,
        inside_box=any(inside_box(position, box.box_min, box.box_max) for box in boxes),
        distance_m=min((box.distance(position) for box in boxes), default=None),
        relevancy=float(hit.relevancy), latency_s=latency_s,
        position=tuple(float(value) for value in position),
        grasp=answer.T_world_target is not None)


@dataclass(frozen=True)
class DemoResults:
    """All that the demo measured.

    seconds: from the first published image to the last answer. extras: further entries of
    results.json, such as the quality of the map.
    """

    present: tuple[QueryOutcome, ...]
    absent: tuple[QueryOutcome, ...]
    seconds: float
    seed: int
    extras: dict[str, object] = field(default_factory=dict)

    @property
    def right(self) -> int:
        """Returns how many present things were found inside their box."""
        return sum(outcome.inside_box for outcome in self.present)

    @property
    def false_finds(self) -> int:
        """Returns how many absent things were found."""
        return sum(outcome.found for outcome in self.absent)

    @property
    def passed(self) -> bool:
        """Returns whether 7 of 8 present things are right, rounded up, and no absent one found."""
        needed = math.ceil(len(self.present) * PRESENT_RIGHT / PRESENT_OF)
        return bool(self.present) and self.right >= needed and self.false_finds == 0

    def summary(self) -> str:
        """Returns the result in one line."""
        return (f'seed {self.seed}: {self.right} of {len(self.present)} present objects inside '
                f'their box, {self.false_finds} of {len(self.absent)} absent ones found, '
                f'{self.seconds:.0f} s from the first image to the last answer')

    def quality(self) -> str:
        """Returns the quality of the field, and what an untrained language field finds."""
        def show(name: str, pattern: str) -> str:
            value = self.extras.get(name)
            unknown = value is None or (isinstance(value, float) and math.isnan(value))
            return 'not known' if unknown else pattern.format(value)

        control = self.extras.get('untrained_language_right')
        return (f'held-out PSNR {show("psnr", "{:.1f} dB")}, median depth error '
                f'{show("depth_error_m", "{:.4f} m")}') + (
            '' if control is None else f'; with an untrained language field {control} of '
            f'{len(self.present)} are right')

    def table(self) -> str:
        """Returns the table for the terminal."""
        header = ('query', 'there', 'found', 'position (m)', 'in box', 'distance', 'relevancy',
                  'grasp', 'latency')
        rows: list[tuple[str, ...]] = [header]
        for there, outcomes in (('yes', self.present), ('no', self.absent)):
            rows += [_row(outcome, there) for outcome in outcomes]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                 for row in rows]
        return '\n'.join([lines[0], '-' * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])

    def write(self, path: str | Path) -> None:
        """Writes results.json, with null for what is unknown or not finite."""
        content = {'present': self.present, 'absent': self.absent,
                   'seconds': self.seconds, 'seed': self.seed, 'present_right': self.right,
                   'absent_found': self.false_finds, 'passed': self.passed, **self.extras}
        path = Path(path)
        with OutputFolder(path.parent).file(path.name) as place:
            place.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + '\n')


def map_colors(answers: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 3) and surface colours (N, 3) uint8 of the newest map in the answers.

    A cloud shows the true colour of a point only below 0.5 relevancy, so each point takes its
    colour from the answer in which it is least relevant.
    """
    clouds = [answer for answer in answers if len(answer.points_world)]
    if not clouds:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    newest = max(clouds, key=lambda answer: answer.snapshot_stamp_ns)
    same = [answer for answer in clouds
            if np.array_equal(answer.points_world, newest.points_world)]
    least = np.argmin([answer.relevancy for answer in same], 0)
    colors = np.stack([answer.colors for answer in same])
    return newest.points_world, colors[least, np.arange(len(least))]


def _row(outcome: QueryOutcome, there: str) -> tuple[str, ...]:
    def show(value: float | None, pattern: str) -> str:
        return '-' if value is None else pattern.format(value)

    position = outcome.position
    return (outcome.query, there, 'yes' if outcome.found else 'no',
            '-' if position is None else ' '.join(f'{value:+.2f}' for value in position),
            '-' if there == 'no' else 'yes' if outcome.inside_box else 'no',
            show(outcome.distance_m, '{:.3f} m'), show(outcome.relevancy, '{:.2f}'),
            'yes' if outcome.grasp else '-', show(outcome.latency_s, '{:.3f} s'))

# SPDX-License-Identifier: Apache-2.0
"""How the demo judges its answers: boxes, distances, the table and results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.query.answer import Answer
from lerf_ros.storage.output_folder import OutputFolder

# A hit is right inside the ground-truth box grown by this much on every side.
BOX_MARGIN_M = 0.03
# Of every eight queries for things that are there, this many must be right.
PRESENT_RIGHT, PRESENT_OF = 7, 8


@dataclass(frozen=True)
class Box:
    """An axis-aligned ground-truth box in the world; box_min, box_max: (3,) metres."""

    box_min: np.ndarray
    box_max: np.ndarray

    def distance(self, point: np.ndarray) -> float:
        """Metres from the point (3,) to the box, 0 inside."""
        outside = np.maximum(np.maximum(self.box_min - point, point - self.box_max), 0.0)
        return float(np.linalg.norm(outside))

    def contains(self, point: np.ndarray, margin: float) -> bool:
        """Whether the point (3,) lies inside the box grown by `margin` metres on every side."""
        return bool(((point >= self.box_min - margin) & (point <= self.box_max + margin)).all())


@dataclass(frozen=True)
class Judgement:
    """One answered query. position and distance_m are None where there is no hit or no box.

    relevancy: of the best hit; without one, the highest of the cloud (None when unknown). grasp:
    whether there is a pose to grasp it at.
    """

    query: str
    found: bool
    inside_box: bool
    distance_m: float | None
    relevancy: float | None
    latency_s: float
    position: tuple[float, ...] | None
    grasp: bool = False


def judge(answer: Answer, latency_s: float, boxes: Sequence[Box] = ()) -> Judgement:
    """Compares the best hit with the boxes of the things meant (none for an absent thing)."""
    top = float(answer.relevancy.max(initial=0.0)) if len(answer.relevancy) else None
    if not answer.found:
        return Judgement(answer.text, False, False, None, top, latency_s, None)
    hit = answer.hits[0]
    position = np.asarray(hit.position, np.float64)
    return Judgement(
        query=answer.text, found=True,
        inside_box=any(box.contains(position, BOX_MARGIN_M) for box in boxes),
        distance_m=min((box.distance(position) for box in boxes), default=None),
        relevancy=float(hit.relevancy), latency_s=latency_s,
        position=tuple(float(value) for value in position),
        grasp=answer.T_world_target is not None)


@dataclass(frozen=True)
class DemoResults:
    """All that the demo measured; `seconds` from the first published image to the last answer.

    extras: what else is worth knowing (quality of the map, machine), written beside the rest.
    """

    present: tuple[Judgement, ...]
    absent: tuple[Judgement, ...]
    seconds: float
    seed: int
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def right(self) -> int:
        """How many present things were found inside their box."""
        return sum(judgement.inside_box for judgement in self.present)

    @property
    def false_finds(self) -> int:
        """How many absent things were found."""
        return sum(judgement.found for judgement in self.absent)

    @property
    def passed(self) -> bool:
        """At least 7 of 8 present things right (any 8: rounded up), no absent one found."""
        needed = math.ceil(len(self.present) * PRESENT_RIGHT / PRESENT_OF)
        return bool(self.present) and self.right >= needed and self.false_finds == 0

    def summary(self) -> str:
        """One line that says it all."""
        return (f'seed {self.seed}: {self.right} of {len(self.present)} present objects inside '
                f'their box, {self.false_finds} of {len(self.absent)} absent ones found, '
                f'{self.seconds:.0f} s from the first image to the last answer')

    def quality(self) -> str:
        """How good the field is, and that it is the language field which answers."""
        def show(name: str, pattern: str) -> str:
            value = self.extras.get(name)
            return 'not known' if value is None else pattern.format(value)

        return (f'held-out PSNR {show("psnr", "{:.1f} dB")}, median depth error '
                f'{show("depth_error_m", "{:.4f} m")}; with an untrained language field '
                f'{show("untrained_language_right", "{}")} of {len(self.present)} are right')

    def table(self) -> str:
        """The table for the terminal."""
        header = ('query', 'there', 'found', 'position (m)', 'in box', 'distance', 'relevancy',
                  'grasp', 'latency')
        rows: list[tuple[str, ...]] = [header]
        for there, judgements in (('yes', self.present), ('no', self.absent)):
            rows += [_row(judgement, there) for judgement in judgements]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                 for row in rows]
        return '\n'.join([lines[0], '-' * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])

    def write(self, path: str | Path) -> None:
        """Writes results.json; what is not known or not finite is null."""
        content = {'present': [asdict(j) for j in self.present],
                   'absent': [asdict(j) for j in self.absent],
                   'seconds': self.seconds, 'seed': self.seed, 'present_right': self.right,
                   'absent_found': self.false_finds, 'passed': self.passed, **self.extras}
        path = Path(path)
        with OutputFolder(path.parent).file(path.name) as place:
            place.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + '\n')


def map_colors(answers: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) and surface colours (N, 3) uint8 of the newest map in the answers.

    A cloud shows a point in its own colour only where it is below 0.5 relevancy, so that each
    point takes its colour from the answer in which it mattered least.
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


def _row(judgement: Judgement, there: str) -> tuple[str, ...]:
    def show(value: float | None, pattern: str) -> str:
        return '-' if value is None else pattern.format(value)

    position = judgement.position
    return (judgement.query, there, 'yes' if judgement.found else 'no',
            '-' if position is None else ' '.join(f'{value:+.2f}' for value in position),
            '-' if there == 'no' else 'yes' if judgement.inside_box else 'no',
            show(judgement.distance_m, '{:.3f} m'), show(judgement.relevancy, '{:.2f}'),
            'yes' if judgement.grasp else '-', show(judgement.latency_s, '{:.3f} s'))


def _finite(value: Any) -> Any:
    """The same with NaN and infinity replaced by None, as JSON knows neither."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value

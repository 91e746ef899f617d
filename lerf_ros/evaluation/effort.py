# SPDX-License-Identifier: Apache-2.0
"""How much an evaluation does: steps, views, and the simulated layouts where no folder is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = ('lerf', 'no dense', 'one scale', 'pixel-aligned', 'fusion')


@dataclass(frozen=True)
class Effort:
    """radiance_steps, language_steps: of each field. convergence: numbers of language steps that
    are judged as well. views: rendered and judged in each scene. seeds, frames, size (width,
    height): simulated layouts. settings: what differs from the configuration.
    """

    radiance_steps: int
    language_steps: int
    convergence: tuple[int, ...]
    views: int
    seeds: tuple[int, ...]
    frames: int
    size: tuple[int, int]
    methods: tuple[str, ...] = METHODS
    settings: Mapping[str, Any] = field(default_factory=dict)


EFFORTS = {
    # One small layout in about a minute of two cores.
    'quick': Effort(250, 200, (), 1, (0,), 24, (320, 240), ('lerf', 'fusion'),
                    {'index.max_points': 8000, 'index.rays': 40000}),
    # Six layouts within 45 minutes of two cores.
    'cpu': Effort(1000, 1000, (250, 500), 2, tuple(range(6)), 48, (640, 480), METHODS,
                  {'training.language_rays': 512, 'index.max_points': 20000}),
    'full': Effort(6000, 6000, (1000, 2000), 3, tuple(range(6)), 48, (640, 480)),
}

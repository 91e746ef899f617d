# SPDX-License-Identifier: Apache-2.0
"""The outcome for each object that was asked for, and the rates over all of them."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from lerf_ros.config import GraspConfig

SUCCESS, WRONG, SLIP, NO_GRASP = 'success', 'wrong_object', 'slip', 'no_grasp'
OUTCOMES = (SUCCESS, WRONG, SLIP, NO_GRASP)


@dataclass(frozen=True)
class Attempt:
    """One object of one layout, asked for by its name.

    outcome: one of OUTCOMES. reason: of no grasp. touched: whether the open hand pushed something
    on its way. liftable: whether it counts, because a planner that knows the true mesh lifts it, or
    this one did. aimed_at: whose surface is nearest to where the hand closed. distance_m: from
    there to the middle of the right object's box. plan_s: what the planner took.
    """

    seed: int
    query: str
    outcome: str
    reason: str
    touched: bool
    liftable: bool
    aimed_at: str
    distance_m: float
    opening_m: float
    plan_s: float


def summary(attempts: Sequence[Attempt], encoder: str, fallen: Sequence[str],
            config: GraspConfig) -> dict[str, Any]:
    """Returns the content of out/bench/grasp.json; counts include only liftable objects."""
    counted = [a for a in attempts if a.liftable]
    kinds = Counter(a.outcome for a in counted)
    low, high = binomtest(kinds[SUCCESS], len(counted)).proportion_ci(method='wilson') \
        if counted else (0.0, 1.0)
    plan = [a.plan_s for a in attempts if a.plan_s > 0]
    return {
        'attempts': len(counted), **{kind: kinds[kind] for kind in OUTCOMES},
        'rate': kinds[SUCCESS] / max(len(counted), 1), 'wilson_95': [low, high],
        'touched_on_the_way': sum(a.touched for a in counted),
        'asked': len(attempts), 'not_liftable': len(attempts) - len(counted),
        'fallen': list(fallen), 'encoder': encoder,
        'plan_s': {f'p{q}': float(np.percentile(plan, q)) for q in (50, 95, 100)} if plan else {},
        'layouts': {str(seed): dict(Counter(a.outcome for a in counted if a.seed == seed))
                    for seed in sorted({a.seed for a in attempts})},
        'gripper': asdict(config),
        'machine': f'{platform.machine()}, {os.cpu_count()} processors',
        'objects': [asdict(a) for a in attempts]}


def table(result: dict[str, Any]) -> str:
    """Returns the counts as a Markdown table."""
    head = ['layout', 'attempts', *OUTCOMES]
    rows = [[seed, sum(kinds.values()), *(kinds.get(kind, 0) for kind in OUTCOMES)]
            for seed, kinds in result['layouts'].items()]
    rows.append(['all', result['attempts'], *(result[kind] for kind in OUTCOMES)])
    lines = ['| ' + ' | '.join(map(str, row)) + ' |' for row in (head, ['---'] * len(head), *rows)]
    low, high = result['wilson_95']
    return '\n'.join([*lines, '', f'{100 * result["rate"]:.1f} % lifted (Wilson 95 %: '
                      f'{100 * low:.1f} to {100 * high:.1f} %)'])

# SPDX-License-Identifier: Apache-2.0
"""A training step asks no more of a GPU than is written here. Run by test_stand_in.py."""

from __future__ import annotations

import pytest
from check_life import NEEDS_CUDA
from step_counts import STEPS, count_step, small_preset

# Of a step of preset `online`, the mean of four, by whether it is replayed as a CUDA graph and
# whether a hash grid takes one launch. On an H100 a launch takes about 5 microseconds of the host's
# time, and so does a wait, in which the device runs dry: they decide how long a step is. Lower a
# limit with every change that makes it too high. The goals were 250 launches and 2 waits.
# Without CUDA the step is another one, which reads numbers back.
LIMITS = {
    (True, True): {'launches': 224, 'copies': 3, 'waits': 1},
    (False, True): {'launches': 1044, 'copies': 3, 'waits': 1},
    (False, False): {'launches': 2000, 'copies': 3, 'waits': 1}}
SHOWN = 25      # places of each kind, those that count most


@NEEDS_CUDA
@pytest.mark.parametrize(('graphs', 'compiled_grid'), LIMITS)
def test_a_step_of_online_stays_within_its_limits(graphs: bool, compiled_grid: bool) -> None:
    config = small_preset('online').override({'training.cuda_graphs': graphs})
    traffic, limits = count_step(config, compiled_grid), LIMITS[graphs, compiled_grid]
    over = {name: count for name, count in traffic.totals(STEPS).items() if count > limits[name]}
    assert not over, f'{over}, limits {limits}:\n{traffic.table(STEPS, SHOWN)}'

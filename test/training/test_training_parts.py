# SPDX-License-Identifier: Apache-2.0
"""The parts of training: rates, annealing, visited space, pose corrections, the range of scales."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from lerf_ros.config import LerfConfig, PoseConfig, TrainingConfig
from lerf_ros.field.networks import Appearance
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.ray_sampling import Rays, SamplingPlan
from lerf_ros.training.annealing import Annealing, ProposalSchedule, VisitedSpace
from lerf_ros.training.language_targets import ScaleHistogram
from lerf_ros.training.optimizers import Decay, Descent, ParameterGroup, WeightAverage
from lerf_ros.training.pose_refinement import PoseRefinement, rotation_matrix

CPU = torch.device('cpu')


def test_the_rate_falls_exponentially_to_a_floor():
    decay = Decay(1e-2, 1e-4, 100)
    assert [decay.at(step) for step in (0, 50, 100, 10**6)] == pytest.approx(
        [1e-2, 1e-3, 1e-4, 1e-4])


def averaged(window, weights):
    """What is left of weights (K,) after K steps with the average of that window."""
    module = nn.Linear(1, 1, bias=False)
    average = WeightAverage(module, window)
    for step, value in enumerate(weights):
        nn.init.constant_(module.weight, float(value))
        average.update(module, step)
    return average.module.weight.item()


def test_the_mean_of_weights_forgets_the_start_and_smooths_noise():
    generator = torch.Generator().manual_seed(0)
    noisy = 2 + torch.randn(2000, generator=generator)
    # Of every fourth step, over about 100 steps: about 25 to 50 values with a deviation of 1.
    assert averaged(100, noisy) == pytest.approx(2, abs=0.5)
    assert averaged(100, noisy) != pytest.approx(noisy[-4].item(), abs=0.1)
    assert averaged(1, noisy) == pytest.approx(noisy[-1].item())
    # An exponential mean: after a step from 0 to 1 what is missing falls by 1 - 4/100 every 4.
    step = torch.cat([torch.zeros(2000), torch.ones(100)])
    assert averaged(100, step) == pytest.approx(1 - 0.96 ** 25)
    # The start is no part of it: early on only the last tenth counts.
    early = torch.cat([torch.full((4,), 100.0), torch.ones(60)])
    assert averaged(100, early) == pytest.approx(1, abs=1.0)


@pytest.mark.parametrize('kind', ['adam', 'radam'])
def test_a_descent_goes_down_and_a_bad_loss_moves_nothing(kind):
    value = nn.Parameter(torch.tensor([3.0]))
    descent = Descent([ParameterGroup([value], kind, Decay(0.1, 0.1, 1), 0.99)], CPU, True)
    for _ in range(100):
        assert torch.isfinite(descent.step((value - 1).square().sum()))
    assert abs(value.item() - 1) < 0.5
    before = value.item()
    assert not torch.isfinite(descent.step(value.sum() * float('nan')))
    assert value.item() == before


def half_precision_descent(value):
    """As on a GPU, but there is none: torch scales gradients on a CPU as well."""
    descent = Descent([ParameterGroup([value], 'adam', Decay(0.1, 0.1, 1), 0.99)], CPU, False)
    descent.half, descent.scaler = True, torch.amp.GradScaler('cpu', init_scale=512.0)
    return descent


def test_a_restart_in_half_precision_goes_on_with_the_scale_of_the_gradients():
    values = [nn.Parameter(torch.tensor([3.0])) for _ in range(2)]
    before, after = (half_precision_descent(value) for value in values)
    for _ in range(3):
        before.step((values[0] - 1).square().sum())
    before.scaler.update(64.0)
    values[1].data.copy_(values[0].data)
    after.load_state(before.state())
    assert after.scaler.get_scale() == 64.0
    moved = [descent.step((value - 1).square().sum())
             for descent, value in zip((before, after), values, strict=True)]
    assert torch.equal(*moved) and torch.equal(*values)


def test_sharpness_follows_its_formula_and_starts_again_with_new_area():
    annealing = Annealing(TrainingConfig(anneal_steps=100, anneal_slope=10.0), CPU)
    annealing.put(0, 0, new_area=True)
    annealing.put(1, 40, new_area=False)    # sees what the first one saw: shares its clock
    annealing.put(2, 50, new_area=True)
    at = annealing.sharpness(torch.tensor([0, 1, 2]), 60)
    # b x / ((b - 1) x + 1): x = 0.6 gives 6 / 6.4, x = 0.1 gives 1 / 1.9.
    assert at.tolist() == pytest.approx([0.9375, 0.9375, 1 / 1.9])
    assert annealing.sharpness(torch.tensor([2]), 150).tolist() == [1.0]


def test_no_annealing_is_sharp_at_once():
    annealing = Annealing(TrainingConfig(anneal_steps=0), CPU)
    assert annealing.sharpness(torch.tensor([0]), 0) == 1.0


def test_proposals_learn_always_at_first_and_rarely_in_the_end():
    schedule = ProposalSchedule(TrainingConfig(proposal_every=5, proposal_warmup=100))
    due = [schedule.due(step) for step in range(400)]
    assert all(due[:10])
    late = due[200:]
    gaps = [b - a for a, b in zip(*(([i for i, d in enumerate(late) if d])[k:] for k in (0, 1)),
                                  strict=False)]
    # As in nerfstudio more than `every` steps must have passed: each sixth.
    assert set(gaps) == {6}


def looking(direction, origin=(0.0, 0.0, 0.0), depth=None):
    count = 64
    directions = torch.tensor([direction]) + 0.05 * torch.randn(
        count, 3, generator=torch.Generator().manual_seed(0))
    return Rays(torch.tensor([origin]).expand(count, -1),
                directions / directions.norm(dim=-1, keepdim=True),
                None if depth is None else torch.full((count,), depth))


def test_space_that_was_visited_tells_what_was_never_seen():
    visited = VisitedSpace(CPU)
    assert visited.add(looking([0.0, 0.0, 1.0])) == 1.0
    assert visited.add(looking([0.0, 0.0, 1.0])) == 0.0
    assert visited.add(looking([0.0, 0.0, -1.0])) > 0.9


def test_measured_depth_ends_what_is_seen():
    visited = VisitedSpace(CPU)
    visited.add(looking([0.0, 0.0, 1.0], depth=0.5))
    assert visited.add(looking([0.0, 0.0, 1.0])) > 0.5    # behind the wall


def test_rotation_of_a_quarter_turn_and_of_nothing():
    quarter = rotation_matrix(torch.tensor([[0.0, 0.0, math.pi / 2], [0.0, 0.0, 0.0]]))
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert torch.allclose(quarter[0], expected, atol=1e-6)
    assert torch.allclose(quarter[1], torch.eye(3), atol=1e-6)


def test_rotation_has_a_gradient_at_zero():
    vector = torch.zeros(1, 3, requires_grad=True)
    rotation_matrix(vector)[0, 1, 0].backward()
    # Near zero R = 1 + [v]x, and R_10 = v_z.
    assert vector.grad[0].tolist() == pytest.approx([0, 0, 1], abs=1e-5)


def test_pose_refinement_finds_a_shifted_camera():
    """Rays must end at known points; the camera in row 1 is reported 5 cm off and 2 degrees."""
    poses = PoseRefinement(2, PoseConfig(refine=True))
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(200, 3, generator=generator) + torch.tensor([0.0, 0, 4])
    distance = points.norm(dim=-1)
    turn = rotation_matrix(torch.tensor([[0.0, math.radians(2), 0.0]]))[0]
    rays = Rays(torch.tensor([[0.05, 0.0, 0.0]]).expand(200, -1),
                points / distance[:, None] @ turn.T)
    optimizer = torch.optim.Adam(poses.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        moved = poses(rays, torch.ones(200, dtype=torch.long))
        ((moved.origins + distance[:, None] * moved.directions - points) ** 2).sum().backward()
        optimizer.step()
    assert poses.table[1, :3].tolist() == pytest.approx([-0.05, 0, 0], abs=2e-3)
    assert poses.table[1, 3:].tolist() == pytest.approx([0, -math.radians(2), 0], abs=1e-3)
    assert poses.table[0].abs().sum() == 0
    # The pose that the index is built from has the same correction.
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[0, 3] = turn.double(), 0.05
    assert torch.allclose(poses.corrected(1, T), torch.eye(4, dtype=torch.float64), atol=3e-3)


def test_the_whole_map_stays_where_the_measured_poses_are():
    """A shift that all keyframes share is none; rows that are not in use pull at nothing."""
    poses = PoseRefinement(400, PoseConfig())
    for row in range(4):
        poses.reset_row(row)
    shifts = torch.tensor([0.1, 0.2, 0.3, 0.4])
    with torch.no_grad():
        poses.table[:4, 0] = shifts
    moved = poses(Rays(torch.zeros(4, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(4, -1)),
                  torch.arange(4))
    assert moved.origins[:, 0].tolist() == pytest.approx([-0.15, -0.05, 0.05, 0.15])
    moved.origins[0, 0].backward()
    # Its own row counts 1 - 1/4, each other one -1/4.
    assert poses.table.grad[:4, 0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert not poses.table.grad[4:].any()
    T = poses.corrected(3, torch.eye(4, dtype=torch.float64))
    assert T[:3, 3].tolist() == pytest.approx([0.15, 0, 0])
    for row in (4, 1):      # a new keyframe, and one in the place of another, are not corrected
        poses.reset_row(row)
        T = poses.corrected(row, torch.eye(4, dtype=torch.float64))
        assert T[:3, 3].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_losses_of_proposals_reach_no_poses():
    field = RadianceField(LerfConfig().override({'field': {
        'levels': 4, 'log2_table': 10, 'proposal_log2_table': 10}}).field, 2)
    origins = torch.zeros(8, 3, requires_grad=True)
    rays = Rays(origins, torch.tensor([[0.0, 0.0, 1.0]]).expand(8, -1))
    rendered = field(rays, SamplingPlan(train=True, learn_proposals=True))
    sum(weights.square().sum() for weights, _ in rendered.proposals).backward()
    assert origins.grad is None
    assert all(p.grad is not None for p in field.proposals.parameters())
    rendered.color.sum().backward()
    assert origins.grad.any()


def test_poses_stay_until_the_field_knows_something():
    rate = Decay(1e-3, 1e-4, 1000, start=300)
    # Half way from one to the other, by the logarithm, is 10^-3.5.
    assert [rate.at(step) for step in (0, 299)] == [0, 0]
    assert rate.at(500) == pytest.approx(10 ** -3.5)


def test_penalties_of_pose_corrections():
    # Rows for four hundred, of which two are in use.
    poses = PoseRefinement(400, PoseConfig(translation_penalty=0.1, rotation_penalty=0.01))
    poses.reset_row(0)
    poses.reset_row(1)
    with torch.no_grad():
        poses.table[0] = torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 2.0])
    # Means over two keyframes: translation 5 / 2, rotation 2 / 2.
    assert poses.penalty().item() == pytest.approx(0.1 * 2.5 + 0.01 * 1.0, rel=1e-5)


def test_a_new_keyframe_looks_like_the_mean_of_those_before():
    appearance = Appearance(3, 2)
    appearance.start_row(0)
    appearance.start_row(1)
    with torch.no_grad():
        appearance.table[0], appearance.table[1] = torch.tensor([1.0, 0]), torch.tensor([3.0, 2])
    appearance.start_row(2)
    assert appearance.table[2].tolist() == [2.0, 1.0]
    assert appearance(torch.tensor([1]), 1).tolist() == [[3.0, 2.0]]
    assert appearance(None, 2).tolist() == [[2.0, 1.0]] * 2    # a picture from elsewhere
    with pytest.raises(ValueError, match='max_count'):
        appearance.start_row(3)


def test_the_range_of_scales_leaves_the_rare_ones_out():
    scales = ScaleHistogram(CPU)
    assert scales.limits()[0] < 1e-3 and scales.limits()[1] > 100     # nothing known yet
    scales.add(torch.cat([torch.full((5,), 0.01), torch.full((90,), 0.2), torch.full((5,), 3.0)]))
    low, high = scales.limits()
    # Bins are 6 % wide.
    assert 0.2 / 1.06 < low <= 0.2 <= high < 0.2 * 1.06
    scales.add(torch.tensor([0.0, -1.0, float('nan')]))
    assert int(scales.counts.sum()) == 100


FAULTS = """
import resource, torch
from lerf_ros.training.devices import reuse_memory
kept = reuse_memory()
def faults(megabytes):
    torch.ones(megabytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first, second = faults(80), faults(64)
print(int(kept), second - first)
"""


def test_memory_that_was_freed_is_used_again():
    out = subprocess.run([sys.executable, '-c', FAULTS], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    kept, faults = map(int, out.stdout.split())
    if not kept:
        pytest.skip('this C library has no mallopt')
    assert faults < 100         # every page anew would be 16384 of 4 kB, or 32 of 2 MB

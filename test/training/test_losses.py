# SPDX-License-Identifier: Apache-2.0
"""Each loss on a case whose value is worked out in sight."""

import pytest
import torch

from lerf_ros.field.volume_rendering import render_unit
from lerf_ros.training.losses import (
    color_loss,
    dense_loss,
    depth_loss,
    distortion_loss,
    embedding_loss,
    interlevel_loss,
    outer_bound,
)

EDGES = torch.tensor([[0.0, 1.0, 2.0, 3.0]])


def test_color_loss_is_the_mean_square():
    assert color_loss(torch.tensor([[0.5, 0, 0]]), torch.zeros(1, 3)).item() == pytest.approx(
        0.25 / 3)


def test_depth_loss_counts_light_before_the_surface_and_missing_at_it():
    # The surface at 2.5 lies in the third interval. Before it weigh 0.2 and 0.3; 0.4 stop at it.
    weights = torch.tensor([[0.2, 0.3, 0.4]])
    loss = depth_loss(weights, EDGES, torch.tensor([2.5]), 0.1)
    # The zone is as wide as an interval (1.0): middles 1.5 and 2.5 are inside, 0.5 is before.
    assert loss.item() == pytest.approx(0.2 ** 2 + (1 - 0.7) ** 2)


def test_unknown_depth_costs_nothing():
    weights = torch.full((1, 3), 0.3, requires_grad=True)
    loss = depth_loss(weights, EDGES, torch.tensor([float('nan')]), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert weights.grad.abs().sum() == 0


def test_outer_bound_takes_every_bin_that_touches():
    weights = torch.tensor([[0.2, 0.3, 0.5]])
    # 0.5 to 1.5 touches the first two bins, 1.5 to 2.0 the second only.
    bound = outer_bound(weights, EDGES, torch.tensor([[0.5, 1.5, 2.0]]))
    assert bound[0].tolist() == pytest.approx([0.5, 0.3])


def test_interlevel_loss_is_zero_for_a_bounding_proposal_and_counts_what_lacks():
    final = torch.tensor([[0.8]])
    final_edges = torch.tensor([[1.0, 2.0]])
    enough = (torch.tensor([[0.0, 0.9, 0.0]]), EDGES)
    assert interlevel_loss(final, final_edges, (enough,)).item() == 0
    short = (torch.tensor([[0.5, 0.3, 0.0]]), EDGES)
    assert interlevel_loss(final, final_edges, (short,)).item() == pytest.approx(
        (0.8 - 0.3) ** 2 / 0.8, rel=1e-4)


def test_distortion_loss_against_all_pairs():
    # In `spacing` 0, 1/4, 1/2 (distance below 1 halves): middles 1/8, 3/8, lengths 1/4.
    edges, weights = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0.6, 0.4]])
    expected = 2 * 0.6 * 0.4 * 0.25 + (0.36 * 0.25 + 0.16 * 0.25) / 3
    assert distortion_loss(weights, edges).item() == pytest.approx(expected)


SEEN = torch.full((2, 3), 0.3)


def test_embedding_loss_is_one_minus_cosine():
    rendered = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    target = torch.tensor([[2.0, 0.0], [1.0, 0.0]])     # cosines 1 and 0
    assert embedding_loss(rendered, target, SEEN).item() == pytest.approx(0.5)


def test_huber_embedding_loss_is_summed_over_dimensions():
    rendered = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    target = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    # Below 1.25 half the square: 0.5 + 0.5. Above: 1.25 * (3 - 0.625) = 2.96875.
    assert embedding_loss(rendered, target, SEEN, 'huber', 1.25).item() == pytest.approx(
        (1 + 2.96875) / 2)


def test_dense_loss_sums_channels():
    assert dense_loss(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), SEEN[:1]).item() == 5


@pytest.mark.parametrize('kind', ['cosine', 'huber'])
def test_an_empty_ray_has_no_say_and_poisons_nothing(kind):
    weights = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    embeddings = torch.randn(2, 2, 4, requires_grad=True)
    target = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 1]])
    loss = embedding_loss(render_unit(weights, embeddings), target, weights, kind)
    loss.backward()
    alone = embedding_loss(render_unit(weights[:1], embeddings[:1]), target[:1], weights[:1], kind)
    assert loss.item() == pytest.approx(alone.item())
    assert torch.isfinite(embeddings.grad).all() and embeddings.grad[1].abs().sum() == 0


def test_a_target_that_is_no_number_is_left_out():
    rendered = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    target = torch.tensor([[1.0, 0.0], [float('nan'), 0.0]])
    assert embedding_loss(rendered, target, SEEN).item() == pytest.approx(0.0)

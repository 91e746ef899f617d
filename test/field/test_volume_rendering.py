# SPDX-License-Identifier: Apache-2.0
"""Volume rendering and ray sampling against values worked out in sight."""

import math

import numpy as np
import pytest
import torch

from lerf_ros.field.ray_sampling import (
    Rays,
    first_edges,
    guide,
    jitter,
    nearest_samples,
    resample,
    spacing,
    unspacing,
)
from lerf_ros.field.volume_rendering import (
    median_distance,
    render_color,
    render_unit,
    render_weights,
    strongest,
)
from lerf_ros.geometry.scene_frame import contract

LN2 = math.log(2)


def test_weights_halve_at_each_sample():
    # density * length = ln 2 lets half of the light pass: 1/2, 1/4, 1/8, and 1/8 passes all.
    weights = render_weights(torch.full((1, 3), LN2), torch.tensor([[0.0, 1, 2, 3]]))
    assert weights[0].tolist() == pytest.approx([0.5, 0.25, 0.125])


def test_color_mixes_samples_and_background():
    weights = torch.tensor([[0.5, 0.25]])
    colors = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    color = render_color(weights, colors, torch.tensor([[0.0, 0, 1]]))
    assert color[0].tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_median_distance_interpolates():
    # Half of the light is stopped 0.3 / 0.6 of the way through the second interval, 1 to 3.
    distance = median_distance(torch.tensor([[0.2, 0.6, 0.2]]), torch.tensor([[0.0, 1, 3, 4]]))
    assert distance.item() == pytest.approx(2.0)


def test_median_distance_of_a_transparent_ray_is_the_end():
    assert median_distance(torch.tensor([[0.1, 0.1]]), torch.tensor([[0.0, 1, 2]])).item() == 2


def test_rays_without_weight_poison_nothing():
    weights = torch.zeros(1, 4, requires_grad=True)
    embeddings = torch.randn(1, 4, 8, requires_grad=True)
    unit = render_unit(weights, embeddings)
    unit.sum().backward()
    assert unit.abs().sum() == 0
    assert torch.isfinite(embeddings.grad).all()


def test_strongest_keeps_the_heaviest():
    weights, middle = strongest(torch.tensor([[0.1, 0.6, 0.3]]), torch.tensor([[0.0, 1, 2, 3]]), 2)
    assert weights[0].tolist() == pytest.approx([0.6, 0.3])
    assert middle[0].tolist() == [1.5, 2.5]


def test_spacing_is_piecewise_and_invertible():
    distance = torch.tensor([0.2, 1.0, 2.0, 100.0])
    assert spacing(distance).tolist() == pytest.approx([0.1, 0.5, 0.75, 0.995])
    assert unspacing(spacing(distance)).tolist() == pytest.approx(distance.tolist(), rel=1e-4)


def test_contraction_keeps_the_unit_cube_and_ends_at_one():
    points = torch.tensor([[0.5, -0.5, 0.0], [2.0, 0.0, 0.0], [1e9, 0.0, 0.0]])
    # Inside: (x + 2) / 4. At norm 2: (2 - 1/2) = 1.5, so 3.5 / 4. At infinity: 4 / 4.
    expected = [[0.625, 0.375, 0.5], [0.875, 0.5, 0.5], [1.0, 0.5, 0.5]]
    assert torch.allclose(contract(points), torch.tensor(expected))


def test_euclidean_contraction_ends_on_a_sphere():
    points = torch.tensor([[0.5, 0.5, 0.0], [1e9, 1e9, 0.0], [0.0, 3.0, 4.0]])
    # Norm sqrt(1/2) is inside. Infinity along the diagonal: 2 / sqrt(2) in x and y, so
    # (1.41421 + 2) / 4. Norm 5: (2 - 1/5) / 5 = 0.36 times the point: (0.36 * 3 + 2) / 4.
    expected = [[0.625, 0.625, 0.5], [0.853553, 0.853553, 0.5], [0.5, 0.77, 0.86]]
    assert torch.allclose(contract(points, 'euclidean'), torch.tensor(expected))


def rays(count, depth=None):
    return Rays(torch.zeros(count, 3), torch.tensor([[0.0, 0, 1]]).expand(count, -1), depth)


@pytest.mark.parametrize('single', [True, False])
def test_first_edges_ascend_from_near_to_far(single):
    shift = jitter(3, 7, single, torch.device('cpu'))
    near = torch.tensor([[0.1], [0.5], [1.0]])
    edges = first_edges(rays(3), near, 10.0, 8, shift)
    assert edges.shape == (3, 9)
    assert (edges[:, 1:] > edges[:, :-1]).all()
    assert torch.allclose(edges[:, :1], near)
    assert edges[:, -1].tolist() == pytest.approx([10.0] * 3, rel=1e-4)


def test_rays_from_outside_skip_half_of_their_way_to_the_scene_where_no_depth_is_known():
    origins = torch.tensor([[0.0, 0, 0], [0, -2.6, 2], [0, -2.6, 2], [1.05, 0, 0], [0, 0, 9]])
    seen = Rays(origins, torch.zeros(5, 3), torch.tensor([np.nan, np.nan, 0.3, np.nan, np.nan]))
    # Inside; 1.6 before the cube; measured; 0.05 before it, half of which is less than `near`; far.
    assert nearest_samples(seen, 0.05, 0.5)[:, 0].tolist() == pytest.approx(
        [0.05, 0.8, 0.05, 0.05, 1.0])
    blind = Rays(origins, torch.zeros(5, 3))
    assert nearest_samples(blind, 0.05, 0.5)[:, 0].tolist() == pytest.approx(
        [0.05, 0.8, 0.8, 0.05, 1.0])
    assert nearest_samples(blind, 0.05, 0.0) == 0.05


def test_resampling_goes_where_the_weight_is():
    edges = torch.linspace(0, 0.8, 9)[None]     # spacing is linear here
    weights = torch.zeros(1, 8)
    weights[0, 5] = 1000.0                      # the padding of 0.01 a bin is nothing beside it
    fine = resample(edges, weights, 16, 0.01, None)
    assert ((fine > 0.5 - 1e-3) & (fine < 0.6 + 1e-3)).all()


def test_measured_depth_guides_half_of_the_histogram():
    edges = torch.linspace(0, 1, 11).expand(2, -1)
    weights = torch.zeros(2, 10)
    weights[:, 0] = 1.0
    depth = torch.tensor([0.55, float('nan')])
    mixed = guide(weights, edges, depth, 0.5, 0.01)
    assert mixed[0, 0].item() == pytest.approx(0.5)
    assert mixed[0, 5].item() == pytest.approx(0.5, abs=1e-4)
    assert torch.equal(mixed[1], weights[1])


def test_rays_midpoints():
    middle = rays(1).at(torch.tensor([[1.0, 3.0]]))
    assert middle.tolist() == [[[0.0, 0.0, 2.0]]]

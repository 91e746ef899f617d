# SPDX-License-Identifier: Apache-2.0
"""Small hash grids, and how two backends are compared."""

import torch

from lerf_ros.field.hash_encoding import HashEncoding


def random_encoding(*arguments):
    torch.manual_seed(0)
    encoding = HashEncoding(*arguments)
    with torch.no_grad():
        encoding.table.normal_()
    return encoding


def positions_inside_cells(encoding, count, margin=0.01):
    """Random positions that lie off the cell borders, where the gradient jumps, at every level."""
    positions = torch.rand(50 * count, 3)
    keep = torch.ones(len(positions), dtype=torch.bool)
    for scale in encoding.geometry['scale'].tolist():
        part = (positions * scale + 0.5) % 1
        keep &= ((part > margin) & (part < 1 - margin)).all(1)
    assert keep.sum() >= count
    return positions[keep][:count]


def gradients(look_up, encoding, positions, weight):
    """Values, and gradients of their weighted sum by table and positions."""
    encoding.table.grad = None
    positions = positions.clone().requires_grad_()
    values = look_up(positions, encoding.table)
    (values * weight).sum().backward()
    return values.detach(), encoding.table.grad.clone(), positions.grad


def assert_agree(ours, plain):
    """Up to single precision: a position at scale 127 is known to 127 * 2^-24 = 1e-5 cells."""
    for our, expected in zip(ours, plain):
        assert torch.allclose(our, expected, rtol=0, atol=1e-4 * expected.abs().max().item())

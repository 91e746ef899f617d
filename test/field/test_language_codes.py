# SPDX-License-Identifier: Apache-2.0
"""Codes of rendered embeddings: what is computed in few columns is what all columns would give."""

import pytest
import torch

from lerf_ros.config import LanguageConfig
from lerf_ros.field.language_field import LanguageField


@pytest.fixture
def rendered():
    torch.manual_seed(0)
    field = LanguageField(LanguageConfig(hidden=32, log2_table=8), 40, 0)
    features = 3 * torch.randn(50, 6, 32)
    weights = torch.rand(50, 6)
    whole = field.render(features, weights, torch.full_like(weights, 0.2))
    return field, features, weights, whole


def test_a_whole_basis_gives_the_embeddings_themselves(rendered):
    field, features, weights, whole = rendered
    basis = torch.linalg.qr(torch.randn(40, 40))[0]
    codes = field.render_codes(field.projection(basis), features, weights, 0.2)
    assert torch.allclose(codes @ basis.T, whole, atol=1e-5)


def test_a_basis_that_holds_the_energy_is_enough(rendered):
    field, features, weights, whole = rendered
    vectors = torch.linalg.svd(whole.detach())[2].T
    kept = (whole @ vectors).square().cumsum(1)
    rank = int((kept.amin(0) > 0.9999).nonzero()[0]) + 1
    assert rank < 40
    basis = vectors[:, :rank].contiguous()
    codes = field.render_codes(field.projection(basis), features, weights, 0.2)
    expected = whole @ basis
    expected = expected / expected.norm(dim=-1, keepdim=True)
    assert (codes * expected).sum(1).min() > 0.9999


def test_a_projection_draws_no_random_numbers(rendered):
    field, *_ = rendered
    before = torch.get_rng_state()
    field.projection(torch.eye(40)[:, :8].contiguous())
    assert torch.equal(before, torch.get_rng_state())


def test_the_span_of_the_last_layer_holds_every_embedding(rendered):
    field, features, weights, whole = rendered
    span = field.span()
    assert span.shape == (40, 33)                      # 32 hidden values and the bias
    codes = field.render_codes(field.projection(span), features, weights, 0.2)
    assert torch.allclose(codes @ span.T, whole, atol=1e-5)

# SPDX-License-Identifier: Apache-2.0
"""LERF's relevancy: how much more a place looks like the phrase than like canonical phrases."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 4096   # points at once, so that what is widened to float32 stays in the processor's cache


def relevancy(codes: np.ndarray, positive: np.ndarray, negatives: np.ndarray,
              temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Relevancy (N,) in 0..1 and the index of the best scale (N,).

    codes (N, S, r), positive (r,), negatives (M, r). LERF (section 3.4) takes the minimum over
    the negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n)); that is the sigmoid of
    t times p minus the strongest negative, so the best scale can be chosen before the sigmoid.
    """
    texts = torch.from_numpy(np.concatenate([positive[None], negatives]).astype(np.float32)).T
    best = [_best_margin(part.float() @ texts) for part in torch.from_numpy(codes).split(CHUNK)]
    margin, scale = (torch.cat(parts) for parts in zip(*best, strict=True))
    return torch.sigmoid(temperature * margin).numpy(), scale.numpy()


def _best_margin(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Of cosines (n, S, 1 + M): the largest margin (n,) over the scales, and its scale (n,)."""
    margin, scale = (cosine[..., 0] - cosine[..., 1:].amax(-1)).max(1)
    return margin, scale

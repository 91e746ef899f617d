# SPDX-License-Identifier: Apache-2.0
"""LERF's relevancy: how much more a place looks like the phrase than like canonical phrases."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 4096   # points at once, so that what is widened to float32 stays in the processor's cache


def relevancy(codes: np.ndarray, positive: np.ndarray, negatives: np.ndarray,
              temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Relevancy (N,) in 0..1 of one phrase (r,) and the index of its best scale (N,)."""
    return best_phrase(codes, positive[None], negatives, temperature)[:2]


def best_phrase(codes: np.ndarray, positives: np.ndarray, negatives: np.ndarray,
                temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each point the phrase that fits best: its relevancy, its best scale, and which it is.

    codes (N, S, r), positives (P, r), negatives (M, r); returns (N,) in 0..1, (N,) an index into
    the scales and (N,) one into the phrases. LERF (section 3.4) takes the minimum over the
    negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n)); that is the sigmoid of
    t times p minus the strongest negative, so the best scale can be chosen before the sigmoid.
    """
    texts = torch.from_numpy(np.concatenate([positives, negatives]).astype(np.float32)).T
    best = [_best_margin(part.float() @ texts, len(positives))
            for part in torch.from_numpy(codes).split(CHUNK)]
    margin, scale, phrase = (torch.cat(parts) for parts in zip(*best, strict=True))
    return torch.sigmoid(temperature * margin).numpy(), scale.numpy(), phrase.numpy()


def _best_margin(cosine: Tensor, phrases: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of cosines (n, S, P + M): the largest margin (n,), its scale (n,) and its phrase (n,)."""
    margin = cosine[..., :phrases] - cosine[..., phrases:].amax(-1, keepdim=True)
    best, index = margin.flatten(1).max(1)
    return best, index // phrases, index % phrases

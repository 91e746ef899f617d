# SPDX-License-Identifier: Apache-2.0
"""LERF's relevancy: how much more a place looks like the phrase than like canonical phrases."""

from __future__ import annotations

import numpy as np


def relevancy(codes: np.ndarray, positive: np.ndarray, negatives: np.ndarray,
              temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Relevancy (N,) in 0..1 and the index of the best scale (N,).

    codes (N, S, r), positive (r,), negatives (M, r). LERF (section 3.4) takes the minimum over
    the negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n)); that is the sigmoid of
    t times p minus the strongest negative, so the best scale can be chosen before the sigmoid.
    """
    texts = np.concatenate([positive[None], negatives]).astype(np.float32)
    cosine = codes.astype(np.float32) @ texts.T          # (N, S, 1 + M)
    margin = cosine[..., 0] - cosine[..., 1:].max(-1)    # (N, S)
    best = margin.argmax(1) if margin.size else np.zeros(len(margin), np.int64)
    top = np.take_along_axis(margin, best[:, None], 1)[:, 0]
    return 1 / (1 + np.exp(-temperature * top)), best

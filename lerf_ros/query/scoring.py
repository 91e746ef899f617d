# SPDX-License-Identifier: Apache-2.0
"""Many phrases against all points of an index at once.

One matrix product for each stored scale. How well a phrase fits changes smoothly with the logarithm
of the scale, so between the stored ones its peak is that of a parabola through three of them. What
the strongest negative reaches at each point and scale is kept: it is nearly always the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lerf_ros.query.scales import STEPS

CHUNK = 32768   # points at once: a core's share of the products stays in its cache


class Scorer:
    """Relevancies of the points of one index; codes are its own (S, N, r), see LanguageIndex."""

    def __init__(self, codes: np.ndarray, temperature: float) -> None:
        self.codes, self.temperature = as_tensor(codes), temperature
        # Processors without half precision products are several times faster in single.
        self.dtype = self.codes.dtype if bfloat16_products() else torch.float32
        self._strongest: tuple[bytes, Tensor] = b'', torch.zeros(0)

    def best_phrase(self, positives: np.ndarray, negatives: np.ndarray
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each point the phrase that fits best: relevancy, best scale, and which it is.

        positives (P, r), negatives (M, r) in the index's basis; returns (N,) float32 in 0..1, (N,)
        an index into the searched scales, and (N,) one into the phrases. LERF (section 3.4) takes
        the minimum over the negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n));
        that is the sigmoid of t times p minus the strongest negative, so the best scale and phrase
        are chosen before the sigmoid.
        """
        strongest, count = self.strongest(negatives), self.codes.shape[1]
        margin = torch.empty(count)
        scale, phrase = (torch.empty(count, dtype=torch.int64) for _ in range(2))
        for part in parts_of(count):
            fits = [cosine.max(0) for cosine in self._cosines(part, positives)]
            margins = torch.stack([best for best, _ in fits]).float() - strongest[:, part]
            names = torch.stack([name for _, name in fits])
            margin[part], scale[part], at = peaks(margins)
            phrase[part] = names.gather(0, at[None])[0]
        values = torch.sigmoid(self.temperature * margin)
        return values.numpy(), scale.numpy(), phrase.numpy()

    def strongest(self, negatives: np.ndarray) -> Tensor:
        """The cosine of the strongest of the negatives (M, r) at each stored scale, (S, N)."""
        key = np.ascontiguousarray(negatives).tobytes()
        if self._strongest[0] != key:
            rows = torch.empty(self.codes.shape[:2], dtype=self.dtype)
            for part in parts_of(rows.shape[1]):
                for row, cosine in zip(rows, self._cosines(part, negatives), strict=True):
                    row[part] = cosine.amax(0)
            self._strongest = key, rows
        return self._strongest[1]

    def _cosines(self, part: slice, texts: np.ndarray) -> Iterator[Tensor]:
        """The cosines (T, n) of texts (T, r) at one stored scale after the other."""
        rows = torch.from_numpy(np.asarray(texts, np.float32)).to(self.dtype)
        return (rows @ code[part].to(self.dtype).T for code in self.codes)


def parts_of(count: int) -> Iterator[slice]:
    """All of `count` points, a chunk at a time."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def peaks(margins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The peak (n,) of margins (S, n) over the scale, where it is in STEPS of the way from one
    stored scale to the next, and the stored scale (n,) nearest to it."""
    best, at = margins.max(0)
    scale = at * STEPS
    for s in range(1, len(margins) - 1):
        before, middle, after = margins[s - 1:s + 2]
        bend, slope = before - 2 * middle + after, (after - before) / 2
        shift = -slope / bend.clamp_max(-1e-6)
        peak = middle + slope * shift / 2
        better = (peak > best) & (shift.abs() <= 1) & (at - s).abs().le(1) & (bend < -1e-6)
        best = torch.where(better, peak, best)
        scale = torch.where(better, (STEPS * (s + shift)).round().long(), scale)
    return best, scale, at


def as_tensor(codes: np.ndarray) -> Tensor:
    """The numbers of stored codes, without a copy: int16 are the bits of bfloat16 numbers."""
    tensor = torch.from_numpy(codes)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


def as_stored(codes: Tensor) -> np.ndarray:
    """The reverse: numpy has no bfloat16."""
    return codes.to(torch.bfloat16).view(torch.int16).cpu().numpy()


def bfloat16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than single precision ones."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

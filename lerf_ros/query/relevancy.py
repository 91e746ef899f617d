# SPDX-License-Identifier: Apache-2.0
"""Many phrases against all points of an index at once.

One matrix product for each stored scale. How well a phrase fits changes smoothly with the logarithm
of the scale, so between the stored ones its peak is that of a parabola through three of them. What
the strongest negative reaches at each point and scale is kept: it is nearly always the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lerf_ros.index.language_index import as_tensor
from lerf_ros.index.scales import STEPS

CHUNK = 24576   # points at once: many make few calls, few stay in a core's cache


class Scorer:
    """Relevancies of the points of one index; codes are its own (S, N, r), see LanguageIndex."""

    def __init__(self, codes: np.ndarray, temperature: float) -> None:
        self.codes, self.temperature = as_tensor(codes), temperature
        # Processors without half precision products are several times faster in single.
        self.dtype = self.codes.dtype if bfloat16_products() else torch.float32
        self._strongest: tuple[bytes, Tensor] = b'', torch.zeros(0)
        # A chunk is too small for torch to share it out among the cores.
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

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

        def fit(part: slice) -> None:
            cosines = self._cosines(part, positives)
            margins = largest(cosines).float() - strongest[:, part]
            margin[part], scale[part], at = peaks(margins)
            phrase[part] = best_row(cosines, at)

        self._each_part(count, fit)
        values = torch.sigmoid(self.temperature * margin)
        return values.numpy(), scale.numpy(), phrase.numpy()

    def strongest(self, negatives: np.ndarray) -> Tensor:
        """The cosine of the strongest of the negatives (M, r) at each stored scale, (S, N)."""
        key = np.ascontiguousarray(negatives).tobytes()
        if self._strongest[0] != key:
            rows = torch.empty(self.codes.shape[:2], dtype=self.dtype)

            def fit(part: slice) -> None:
                rows[:, part] = largest(self._cosines(part, negatives))

            self._each_part(rows.shape[1], fit)
            self._strongest = key, rows
        return self._strongest[1]

    def _each_part(self, count: int, work: Callable[[slice], None]) -> None:
        """Does the work for all of `count` points, chunks side by side."""
        for _ in self._threads.map(work, parts_of(count)):
            pass

    def _cosines(self, part: slice, texts: np.ndarray) -> list[Tensor]:
        """The cosines (T, n) of texts (T, r) at each of the stored scales."""
        rows = torch.from_numpy(np.asarray(texts, np.float32)).to(self.dtype)
        return [rows @ code[part].to(self.dtype).T for code in self.codes]


def parts_of(count: int) -> Iterator[slice]:
    """All of `count` points, a chunk at a time."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def largest(cosines: list[Tensor]) -> Tensor:
    """Of cosines (S of (P, n)) the largest of each column, (S, n)."""
    if len(cosines[0]) == 1:
        return torch.cat(cosines)
    return torch.stack([cosine.amax(0) for cosine in cosines])


def best_row(cosines: list[Tensor], at: Tensor) -> Tensor:
    """Which row of cosines (S of (P, n)) is the largest at each point's scale `at` (n,), (n,).

    Asked for once, since torch finds a maximum quickly, but where it is slowly, and `argmax` is
    slower still than `max`.
    """
    if len(cosines[0]) == 1:
        return torch.zeros_like(at)
    return torch.stack(cosines).gather(0, at.expand(1, len(cosines[0]), -1))[0].max(0)[1]


def peaks(margins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The peak (n,) of margins (S, n) over the scale, where it is in STEPS of the way from one
    stored scale to the next, and the stored scale (n,) nearest to it.

    The parabola goes through the best stored scale and its neighbours; at either end through the
    last three, and where its peak lies beyond them the end itself is the best.
    """
    best, at = margins.max(0)
    if len(margins) < 3:
        return best, at * STEPS, at
    center = at.clamp(1, len(margins) - 2)
    before, middle, after = margins.gather(0, torch.stack([center - 1, center, center + 1]))
    bend, slope = before + after - 2 * middle, (after - before) / 2
    shift = (slope / -bend.clamp_max(-1e-6)).clamp(-1, 1)
    scale = STEPS * (center + shift)
    return torch.maximum(best, middle + slope * shift / 2), scale.round().long(), at


def relevancy(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Computes LERF's relevancy (...,) in 0..1 from cosines, (...,) of a phrase and (..., M).

    The minimum over the negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n)) (LERF,
    section 3.4), which is the sigmoid of t times p minus the strongest negative.
    """
    return torch.sigmoid(temperature * (positive - negatives.amax(-1)))


def bfloat16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than single precision ones."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

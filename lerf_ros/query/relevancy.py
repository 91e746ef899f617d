# SPDX-License-Identifier: Apache-2.0
"""Relevancy of many phrases at all points of an index at once (LERF, section 3.4).

There is one matrix product for each stored scale. How well a phrase fits changes smoothly with the
logarithm of the scale, so the peak between the stored scales is that of a parabola through three of
them. The cosine of the strongest negative at each point and scale is cached, because queries nearly
always use the same negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from lerf_ros.index.language_index import as_tensor
from lerf_ros.index.scales import STEPS
from lerf_ros.query.answer import NEUTRAL

__all__ = ['NEUTRAL', 'Scorer', 'peaks', 'relevancy']

CHUNK = 24576   # points at once: enough for few calls, few enough for a core's cache
# Products in half precision are compiled anew for each shape, which takes ten times as long as the
# product and is kept: so that there are few shapes, the last points come in powers of two of these.
SIZES = tuple(2 ** k for k in range(14, 5, -1))


class Scorer:
    """Computes relevancies at the points of one index, from its codes (S, N, r)."""

    def __init__(self, codes: np.ndarray, temperature: float, device: str = 'cpu') -> None:
        """codes: as stored (S, N, r); they are copied to `device`, which computes with them."""
        self.device = torch.device(device)
        self.codes, self.temperature = as_tensor(codes).to(self.device), temperature
        # Without half precision products a processor is several times faster in single precision.
        fast = bfloat16_products() or self.device.type == 'cuda'
        self.dtype = self.codes.dtype if fast else torch.float32
        self._strongest: tuple[bytes, Tensor] = b'', torch.zeros(0)

    def best_phrase(self, positives: np.ndarray, negatives: np.ndarray
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the phrase that fits each point best.

        positives (P, r), negatives (M, r): codes in the index's basis. Returns for each point the
        relevancy (N,) float32 in 0..1, the best scale (N,) as an index into the searched scales,
        and the phrase (N,) as an index into the positives. LERF takes the minimum over the
        negatives of the pairwise softmax exp(t p) / (exp(t p) + exp(t n)). That is the sigmoid of
        t times p minus the strongest negative, so scale and phrase are chosen before the sigmoid.
        """
        strongest, count = self.strongest(negatives), self.codes.shape[1]
        margin = torch.empty(count, device=self.device)
        scale, phrase = (torch.empty(count, dtype=torch.int64, device=self.device)
                         for _ in range(2))

        def fit(part: slice) -> None:
            cosines = self._cosines(part, positives)
            margins = largest(cosines).float() - strongest[:, part]
            margin[part], scale[part], at = peaks(margins)
            phrase[part] = best_row(cosines, at)

        self._for_each_chunk(count, fit)
        values = torch.sigmoid(self.temperature * margin)
        return values.cpu().numpy(), scale.cpu().numpy(), phrase.cpu().numpy()

    def each_phrase(self, positives: np.ndarray,
                    negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes the relevancies of every phrase by itself.

        positives (P, r), negatives (M, r): codes in the index's basis. Returns the relevancies
        (P, N) float32 in 0..1 and the best scales (P, N) int16, as indices into the searched ones.
        """
        strongest, count = self.strongest(negatives), self.codes.shape[1]
        margin = torch.empty(len(positives), count, device=self.device)
        scale = torch.empty(len(positives), count, dtype=torch.int16, device=self.device)

        def fit(part: slice) -> None:
            cosines = self._cosines(part, positives)
            for row in range(len(positives)):
                margins = torch.stack([cosine[row] for cosine in cosines]).float()
                margin[row, part], at, _ = peaks(margins - strongest[:, part])
                scale[row, part] = at.short()

        self._for_each_chunk(count, fit)
        values = torch.sigmoid(self.temperature * margin)
        return values.cpu().numpy(), scale.cpu().numpy()

    def margins(self, phrase: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """Computes the margins (N,) of a phrase (r,) over negatives (M, r), of `each_phrase`."""
        strongest, out = self.strongest(negatives), np.empty(self.codes.shape[1], np.float32)

        def fit(part: slice) -> None:
            cosines = torch.cat(self._cosines(part, phrase[None])).float()
            out[part] = peaks(cosines - strongest[:, part])[0].cpu().numpy()

        self._for_each_chunk(len(out), fit)
        return out

    def margins_at(self, points: np.ndarray, phrase: np.ndarray,
                   negatives: np.ndarray) -> np.ndarray:
        """Returns the margins (n,) of a phrase (r,) over negatives (M, r) at points (n,) alone.

        They are those of `each_phrase` but for rounding.
        """
        if not len(points):
            return np.zeros(0, np.float32)
        chosen = torch.from_numpy(padded(points)).to(self.device)
        # Those of the usual negatives are known once a search has needed them.
        known = self._strongest[1] if self._strongest[0] == key_of(negatives) else None
        rows = torch.from_numpy((phrase[None] if known is not None else np.concatenate(
            [phrase[None], negatives])).astype(np.float32)).to(self.device, self.dtype)
        margins = []
        for scale, code in enumerate(self.codes):   # one gather over all takes ten times as long
            cosines = rows @ code.index_select(0, chosen).to(self.dtype).T      # (1 + M, n)
            against = known[scale].index_select(0, chosen) if known is not None \
                else cosines[1:].amax(0)
            margins.append(cosines[0].float() - against.float())
        return peaks(torch.stack(margins))[0][:len(points)].cpu().numpy()

    def strongest(self, negatives: np.ndarray) -> Tensor:
        """Returns the largest cosine (S, N) of the negatives (M, r) at each stored scale."""
        key = key_of(negatives)
        if self._strongest[0] != key:
            rows = torch.empty(self.codes.shape[:2], dtype=self.dtype, device=self.device)

            def fit(part: slice) -> None:
                rows[:, part] = largest(self._cosines(part, negatives))

            self._for_each_chunk(rows.shape[1], fit)
            self._strongest = key, rows
        return self._strongest[1]

    def _for_each_chunk(self, count: int, work: Callable[[slice], None]) -> None:
        """Does the work for all of `count` points, chunks in parallel."""
        if self.device.type == 'cuda':      # which is fastest with all points at once
            work(slice(0, count))
            return
        for _ in threads().map(work, chunks(count)):
            pass

    def _cosines(self, part: slice, texts: np.ndarray) -> list[Tensor]:
        """Returns the cosines (T, n) of texts (T, r) at each stored scale."""
        rows = torch.from_numpy(np.asarray(texts, np.float32)).to(self.device, self.dtype)
        return [rows @ code[part].to(self.dtype).T for code in self.codes]


def key_of(rows: np.ndarray) -> bytes:
    """Returns what tells rows (M, r) from others."""
    return np.ascontiguousarray(rows).tobytes()


@cache
def threads() -> ThreadPoolExecutor:
    """Returns the threads that all scorers share: there are hundreds of these in a building."""
    # A chunk is too small for torch to split it among the cores.
    return ThreadPoolExecutor(torch.get_num_threads())


def chunks(count: int) -> Iterator[slice]:
    """Yields slices that cover `count` points, of few sizes: CHUNK, SIZES and what is left."""
    start = 0
    for size in (CHUNK, *SIZES):
        while count - start >= size:
            yield slice(start, start + size)
            start += size
    if start < count:
        yield slice(start, count)


def padded(points: np.ndarray) -> np.ndarray:
    """Returns points (n,), by index, with the first one repeated up to a power of two."""
    size = max(SIZES[-1], 1 << max(len(points) - 1, 0).bit_length())
    return np.concatenate([points, np.full(size - len(points), points[0])])


def largest(cosines: list[Tensor]) -> Tensor:
    """Returns the largest cosine (S, n) of each column of S matrices (P, n)."""
    if len(cosines[0]) == 1:
        return torch.cat(cosines)
    return torch.stack([cosine.amax(0) for cosine in cosines])


def best_row(cosines: list[Tensor], at: Tensor) -> Tensor:
    """Returns the row (n,) of the largest cosine of each column, at the column's scale `at` (n,).

    cosines: S matrices (P, n). This is a step of its own because torch finds a maximum quickly but
    its position slowly, and `argmax` is slower still than `max`.
    """
    if len(cosines[0]) == 1:
        return torch.zeros_like(at)
    return torch.stack(cosines).gather(0, at.expand(1, len(cosines[0]), -1))[0].max(0)[1]


def peaks(margins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the peak of margins (S, n) over the scale.

    Returns its value (n,), its scale (n,) as an index into the searched scales, of which there are
    STEPS from one stored scale to the next, and the nearest stored scale (n,). A parabola goes
    through the best stored scale and its neighbours, at either end through the last three scales.
    Where its peak lies beyond the end, the end itself is the best scale.
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
    """Computes relevancy (...,) in 0..1 from the cosines of a phrase (...,) and negatives (..., M).

    See `Scorer.best_phrase` for the formula.
    """
    return torch.sigmoid(temperature * (positive - negatives.amax(-1)))


def bfloat16_products() -> bool:
    """Returns whether this processor multiplies bfloat16 faster than single precision."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

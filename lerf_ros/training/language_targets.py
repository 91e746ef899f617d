# SPDX-License-Identifier: Apache-2.0
"""Targets of the language field: the encoder's embedding of a pixel at a random scale."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures
from lerf_ros.training.ray_batches import GrowingTensor, to_device

LOW, HIGH, BINS = 1e-4, 1e3, 280   # scene radii; 40 bins a decade, 6 % wide each
TAIL = 0.1                         # part at either end that is too rare to rely on


class ScaleHistogram:
    """Counts the scales of all samples that were trained."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, scales: Tensor) -> None:
        """Counts scales of any shape, scene radii, but for those that are not positive."""
        # The shapes do not depend on the values, which a CUDA graph could not follow.
        flat = scales.reshape(-1)
        counted = flat > 0
        part = torch.log(torch.where(counted, flat, LOW) / LOW) / math.log(HIGH / LOW) * BINS
        self.counts.index_add_(0, part.long().clamp(0, BINS - 1), counted.to(self.counts.dtype))

    def limits(self) -> tuple[float, float]:
        """Returns the scales between which most were trained, scene radii; (LOW, HIGH) if none."""
        part = self.counts.cumsum(0) / self.counts.sum().clamp_min(1)
        if not part[-1]:
            return LOW, HIGH
        first = int((part < TAIL).sum())
        last = int((part < 1 - TAIL).sum())
        width = math.log(HIGH / LOW) / BINS
        return LOW * math.exp(first * width), LOW * math.exp((last + 1) * width)


def dense_rows(features: KeyframeFeatures) -> Tensor:
    """Returns dense features as rows (cells, C), half precision."""
    rows, columns, channels = features.dense.shape
    return torch.from_numpy(features.dense.reshape(rows * columns, channels).astype(np.float16))


WASTE = 0.25    # part of the cells that may belong to forgotten keyframes


class LanguageTargets:
    """The embedding maps and dense features of all keyframes by row, as flat tables.

    A cell holds `codes` entries of a vocabulary with weights, divided by the norm of their sum:
    its embedding is a weighted sum of vocabulary rows and has length 1.
    """

    def __init__(self, device: torch.device, blend: str = 'log') -> None:
        """blend: how widths are interpolated between two levels, `log` or `linear`."""
        self.device, self.blend = device, blend
        self.embedding_dimension = self.dense_dimension = 0
        self._tables: dict[str, GrowingTensor] = {}
        self._shared: dict[int, tuple[np.ndarray, int]] = {}   # vocabulary -> its first row
        self._owned: dict[int, list[int]] = {}     # keyframe row -> vocabulary of each level
        self._wasted = 0                           # cells of keyframes that were replaced

    def put(self, row: int, features: KeyframeFeatures) -> None:
        """Stores the features of the keyframe in a row; those of the one before are forgotten."""
        if row < len(self._owned):
            if self._fits(row, features):
                self._overwrite(row, features)
                return
            self._wasted += self._cells(row)
        self._write(row, features)
        if self._wasted > WASTE * (len(self._tables['ids']) + len(self._tables['dense'])):
            self._compact()

    def bytes_used(self) -> int:
        """Returns the memory of all tables."""
        return sum(table.bytes_used() for table in self._tables.values())

    def _write(self, row: int, features: KeyframeFeatures) -> None:
        if not self._tables:
            self._allocate(features)
        added = [self._add_level(level) for level in features.levels]
        self._tables['keyframe'].write(row, torch.tensor([[added[0], len(added)]]))
        rows, columns, _ = features.dense.shape
        at = self._tables['dense'].append(dense_rows(features))
        self._tables['dense_layout'].write(row, torch.tensor([[at, columns, rows]]))
        self._owned[row] = [id(level.vocabulary) for level in features.levels]

    def _fits(self, row: int, features: KeyframeFeatures) -> bool:
        """Returns whether features are just as large as those of a row, whose words are its own."""
        first, count = self._tables['keyframe'].rows[row].tolist()
        sizes = self._tables['level'].rows[first:first + count, 1:].tolist()
        owned, others = self._owned[row], [key for at, keys in self._owned.items() if at != row
                                           for key in keys]
        return (sizes == [[level.ids.shape[1], level.ids.shape[0]] for level in features.levels]
                and self._tables['dense_layout'].rows[row, 1:].tolist()
                == [features.dense.shape[1], features.dense.shape[0]]
                and all(id(level.vocabulary) == key or (
                    id(level.vocabulary) not in self._shared and key not in others
                    and owned.count(key) == 1
                    and len(level.vocabulary) == len(self._shared[key][0]))
                    for key, level in zip(owned, features.levels, strict=True)))

    def _overwrite(self, row: int, features: KeyframeFeatures) -> None:
        """Writes features over those of a row: a table that is full need not grow."""
        first = int(self._tables['keyframe'].rows[row, 0])
        for number, level in enumerate(features.levels):
            key, new = self._owned[row][number], id(level.vocabulary)
            if new != key:
                self._shared[new] = level.vocabulary, self._shared.pop(key)[1]
                self._tables['vocabulary'].write(self._shared[new][1],
                                                 torch.from_numpy(level.vocabulary))
                self._owned[row][number] = new
            at = int(self._tables['level'].rows[first + number, 0])
            self._write_level(at, first + number, level)
        self._tables['dense'].write(int(self._tables['dense_layout'].rows[row, 0]),
                                    dense_rows(features))

    def _cells(self, row: int) -> int:
        """Counts the cells of all levels of a keyframe and of its dense features."""
        first, count = self._tables['keyframe'].rows[row].tolist()
        levels = self._tables['level'].rows[first:first + count, 1:].prod(-1).sum()
        return int(levels + self._tables['dense_layout'].rows[row, 1:].prod())

    def _compact(self) -> None:
        """Frees the cells, levels and words that no keyframe uses any more."""
        tables, rows = self._tables, range(len(self._owned))
        spans = tables['keyframe'].rows.tolist()
        owner = [vocabulary for row in rows for vocabulary in self._owned[row]]
        starts = tables['level'].keep([(first, count) for first, count in spans])
        tables['geometry'].keep([(first, count) for first, count in spans])
        tables['keyframe'].rows[:, 0] = torch.tensor(starts, device=self.device)
        level = tables['level'].rows
        cells = [(first, columns * height) for first, columns, height in level.tolist()]
        level[:, 0] = torch.tensor(tables['ids'].keep(cells), device=self.device)
        tables['weights'].keep(cells)
        dense = tables['dense_layout'].rows
        dense[:, 0] = torch.tensor(tables['dense'].keep(
            [(first, columns * height) for first, columns, height in dense.tolist()]),
            device=self.device)
        self._compact_words(owner, [count for _, count in cells])
        self._wasted = 0

    def _compact_words(self, owner: list[int], cells: list[int]) -> None:
        """Keeps the vocabularies in use. owner, cells: vocabulary and cell count of each level."""
        used = list(dict.fromkeys(owner))
        ranges = [(self._shared[key][1], len(self._shared[key][0])) for key in used]
        starts = self._tables['vocabulary'].keep(ranges)
        shift = {key: start - first for key, start, (first, _) in zip(used, starts, ranges,
                                                                      strict=True)}
        moved = torch.tensor([shift[key] for key in owner], dtype=torch.int32)
        self._tables['ids'].rows.add_(
            moved.repeat_interleave(torch.tensor(cells)).to(self.device)[:, None])
        self._shared = {key: (self._shared[key][0], start)
                        for key, start in zip(used, starts, strict=True)}

    def _allocate(self, features: KeyframeFeatures) -> None:
        level = features.levels[0]
        self.embedding_dimension = level.vocabulary.shape[1]
        self.dense_dimension = features.dense.shape[2]
        codes = level.ids.shape[2]
        for name, shape, dtype in (
                ('vocabulary', (self.embedding_dimension,), torch.float32),
                ('ids', (codes,), torch.int32), ('weights', (codes,), torch.float16),
                ('level', (3,), torch.int64),            # first cell, columns, rows
                ('geometry', (5,), torch.float32),       # origin x y, stride x y, width: pixels
                ('keyframe', (2,), torch.int64),         # first level, levels
                ('dense', (self.dense_dimension,), torch.float16),
                ('dense_layout', (3,), torch.int64)):    # first cell, columns, rows
            self._tables[name] = GrowingTensor(shape, dtype, self.device)

    def _add_level(self, level: EmbeddingMap) -> int:
        key = id(level.vocabulary)
        if key not in self._shared:
            first_word = self._tables['vocabulary'].append(torch.from_numpy(level.vocabulary))
            self._shared[key] = (level.vocabulary, first_word)   # kept, so that its id stays unique
        rows, columns, _ = level.ids.shape
        at, number = len(self._tables['ids']), len(self._tables['level'])
        self._write_level(at, number, level)
        return self._tables['level'].append(torch.tensor([[at, columns, rows]]))

    def _write_level(self, at: int, number: int, level: EmbeddingMap) -> None:
        """Writes a level whose words are stored: its cells from cell `at` on, and its geometry."""
        first_word, codes = self._shared[id(level.vocabulary)][1], level.ids.shape[2]
        ids = torch.from_numpy(level.ids.reshape(-1, codes).astype(np.int64)).to(self.device)
        weights = torch.from_numpy(level.weights.reshape(-1, codes).astype(np.float32))
        weights = weights.to(self.device)
        words = self._tables['vocabulary'].rows[ids + first_word]          # (M, K, D)
        norm = (weights[..., None] * words).sum(1).norm(dim=-1, keepdim=True).clamp_min(1e-6)
        self._tables['ids'].write(at, (ids + first_word).int())
        self._tables['weights'].write(at, (weights / norm).half())
        self._tables['geometry'].write(number, torch.tensor(
            [[*level.origin_px, *level.stride_px, level.width_px]], dtype=torch.float32))

    def embeddings(self, keyframe: Tensor, pixels: Tensor,
                   generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns targets (R, D), not longer than 1, and their random widths (R,) in source pixels.

        Between two neighbouring levels both are blended, and not made unit again (LERF).
        """
        first, count = self._tables['keyframe'].rows[keyframe].unbind(-1)
        u = to_device(torch.rand(len(keyframe), generator=generator), self.device) * (count - 1)
        low = torch.minimum(u.floor().long(), (count - 2).clamp_min(0))
        part = u - low
        high = torch.minimum(low + 1, count - 1)
        near, near_width = self._at(first + low, pixels)
        far, far_width = self._at(first + high, pixels)
        width = torch.exp(torch.lerp(near_width.log(), far_width.log(), part)) \
            if self.blend == 'log' else torch.lerp(near_width, far_width, part)
        return torch.lerp(near, far, part[:, None]), width

    def _at(self, level: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        first, columns, rows = self._tables['level'].rows[level].unbind(-1)
        geometry = self._tables['geometry'].rows[level]
        cell = (pixels - geometry[:, :2]) / geometry[:, 2:4]
        last = torch.stack([columns, rows], -1) - 1
        cell = torch.minimum(cell.clamp_min(0), last.float())
        low = torch.minimum(cell.floor().long(), (last - 1).clamp_min(0))
        part = cell - low
        total = torch.zeros(len(level), self.embedding_dimension, device=self.device)
        beside = torch.minimum(low + 1, last)
        for column, part_x in ((low[:, 0], 1 - part[:, 0]), (beside[:, 0], part[:, 0])):
            for row, part_y in ((low[:, 1], 1 - part[:, 1]), (beside[:, 1], part[:, 1])):
                total += (part_x * part_y)[:, None] * self._cell(first + row * columns + column)
        return total, geometry[:, 4]

    def _cell(self, at: Tensor) -> Tensor:
        ids, weights = self._tables['ids'].rows[at], self._tables['weights'].rows[at].float()
        words = self._tables['vocabulary'].rows[ids.long()]
        return torch.einsum('rk,rkd->rd', weights, words)

    def dense(self, keyframe: Tensor, pixels: Tensor, size: Tensor) -> Tensor:
        """Returns dense features (R, C) at pixels (R, 2) of images of size (R, 2)."""
        first, columns, rows = self._tables['dense_layout'].rows[keyframe].unbind(-1)
        cells = torch.stack([columns, rows], -1)
        at = torch.minimum((pixels / size * cells).long(), cells - 1)
        return self._tables['dense'].rows[first + at[:, 1] * columns + at[:, 0]].float()

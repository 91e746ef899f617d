# SPDX-License-Identifier: Apache-2.0
"""Replays a training step on an NVIDIA GPU as one CUDA graph.

A step starts several hundred small kernels. Python takes longer to start one than most of them take
to run; a graph starts all of them at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from lerf_ros.training.devices import processes
from lerf_ros.training.learners import LanguageLearner, RadianceLearner

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

WARM_STEPS = 3      # of each kind before it is captured: libraries and optimisers start in these
MOST_GRAPHS = 8     # kept; a step has two kinds, with and without training of the proposals

Value = TypeVar('Value')
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors that it reads, and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[object, ...]
    output: Tensor

    def replay(self, inputs: tuple[object, ...]) -> Tensor:
        for held, given in zip(_tensors(self.inputs), _tensors(inputs), strict=True):
            held.copy_(given)
        self.graph.replay()
        return self.output


class CapturedStep:
    """Calls a function that moves both fields; captures it once and replays it from then on.

    The function may read nothing back from the GPU, and its shapes may depend on those of its
    inputs alone. Where it cannot be captured it is called as it is, with a warning.

    A replayed call returns what the call before it computed, on the CPU: the GPU works on one step
    while the CPU prepares the next.
    """

    def __init__(self, device: torch.device, wanted: bool = True) -> None:
        self.wanted = wanted and device.type == 'cuda' and processes() == 1
        self.clear()

    def clear(self) -> None:
        """Frees the memory of all graphs."""
        self.graphs: dict[Hashable, _Captured] = {}
        self._calls: Counter[Hashable] = Counter()
        self._pool: _POOL_HANDLE | None = None      # memory that the graphs share
        self._stream: torch.cuda.Stream | None = None
        self._underway: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self, move: Callable[..., Tensor], radiance: RadianceLearner,
                 language: LanguageLearner, *inputs: object) -> Tensor:
        """Returns what move(radiance, language, *inputs) returns, or returned the time before."""
        if not self.wanted or not _unattended(radiance, language):
            return move(radiance, language, *inputs)
        assert language.descent is not None
        key = (radiance.descent.generation, language.descent.generation, _kind(inputs))
        if key not in self.graphs:
            self._calls[key] += 1
            if self._calls[key] <= WARM_STEPS or not self._capture(
                    key, lambda held: move(radiance, language, *held), inputs):
                return self._aside(lambda: move(radiance, language, *inputs))
        return self._exchange(self.graphs[key].replay(inputs))

    def _exchange(self, output: Tensor) -> Tensor:
        """Has a replay's output copied to the CPU when it is there; returns that of the one before.
        """
        before = self._underway
        copy, done = torch.empty_like(output, device='cpu', pin_memory=True), torch.cuda.Event()
        copy.copy_(output, non_blocking=True)
        done.record()
        self._underway = copy, done
        copy, done = before or self._underway
        done.synchronize()
        return copy

    def _aside(self, step: Callable[[], Tensor]) -> Tensor:
        """Takes a step in the stream of later captures, as CUDA graphs ask for."""
        if not self.wanted:
            return step()
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            out = step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return out

    def _capture(self, key: Hashable, move: Callable[[tuple[object, ...]], Tensor],
                 inputs: tuple[object, ...]) -> bool:
        """Captures a call without running it; returns whether that worked."""
        if len(self.graphs) >= MOST_GRAPHS:
            self.clear()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        held, graph = tuple(_copied(value) for value in inputs), torch.cuda.CUDAGraph()
        try:
            # Other threads may read images and write snapshots meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream,
                                  capture_error_mode='thread_local'):
                output = move(held)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning('training steps cannot be captured as a CUDA graph (%s): they run one '
                        'kernel at a time, slower', str(error).partition('\n')[0])
            self.wanted = False
            return False
        self.graphs[key] = _Captured(graph, held, output)
        return True


def _unattended(radiance: RadianceLearner, language: LanguageLearner) -> bool:
    return (radiance.descent.unattended and language.descent is not None
            and language.descent.unattended)


def _tensors(value: object) -> Iterator[Tensor]:
    """Yields the tensors in nested tuples and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for entry in fields(value):
            yield from _tensors(getattr(value, entry.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)


def _copied(value: Value) -> Value:
    """Returns the value with copies of its tensors."""
    if isinstance(value, Tensor):
        return value.clone()    # type: ignore[return-value]
    if is_dataclass(value):
        copies = {entry.name: _copied(getattr(value, entry.name)) for entry in fields(value)}
        return replace(value, **copies)     # type: ignore[type-var, return-value]
    return value


def _kind(value: object) -> Hashable:
    """Returns what two inputs of one graph have in common: shapes, types and all that is no tensor.
    """
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if is_dataclass(value):
        return tuple(_kind(getattr(value, entry.name)) for entry in fields(value))
    if isinstance(value, tuple):
        return tuple(_kind(part) for part in value)
    assert isinstance(value, Hashable)
    return value

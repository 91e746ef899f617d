# SPDX-License-Identifier: Apache-2.0
"""What torch.cuda answers on the stand-in, where nothing waits; CUDA graphs are played.

A capture keeps the operations and carries none of them out: results have the right shapes and no
meaning, and what writes to a tensor is left out. A replay carries all of them out, in their order,
and writes the results to where the capture has put them.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from operations import Operation, tensors_of
from torch._ops import OpOverload
from traffic import TRAFFIC

MEMORY = 8 << 30    # bytes, that the device says to have


class Recording:
    """The operations of the capture that is going on, if one is."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] | None = None

    @property
    def capturing(self) -> bool:
        """Whether operations are kept instead of carried out."""
        return self._calls is not None

    @contextlib.contextmanager
    def of(self, graph: Graph, *_: object, **__: object) -> Iterator[None]:
        """Plays torch.cuda.graph: captures what is done inside of it."""
        self._calls, TRAFFIC.capturing = graph.calls, True
        try:
            with torch.random.fork_rng(devices=[]):     # a capture draws no random numbers
                yield
        finally:
            self._calls, TRAFFIC.capturing = None, False

    def keep(self, what: Operation, func: OpOverload, args: Sequence[object],
             kwargs: Mapping[str, object]) -> object:
        """Keeps an operation of CPU tensors; returns what has the shape of its result."""
        assert self._calls is not None
        if not what.launches:
            return func(*args, **kwargs)
        if what.changes:
            self._calls.append(lambda: func(*args, **kwargs))
            return None
        result = func(*args, **kwargs)
        held = list(tensors_of([result]))

        def again() -> None:
            for old, new in zip(held, tensors_of([func(*args, **kwargs)]), strict=True):
                old.copy_(new)

        self._calls.append(again)
        return result


RECORDING = Recording()


class Graph:
    """Plays torch.cuda.CUDAGraph."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.calls: list[Callable[[], None]] = []

    @torch.no_grad()
    def replay(self) -> None:
        """Carries out what was captured, in one launch."""
        TRAFFIC.launch()
        for call in self.calls:
            call()

    def reset(self) -> None:
        """Forgets what was captured."""
        self.calls.clear()


class Stream:
    """Plays torch.cuda.Stream and torch.cuda.Event: everything is done at once."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def wait_stream(self, stream: Stream) -> None:
        """Returns at once."""

    def record(self, stream: Stream | None = None) -> None:
        """Returns at once."""

    def synchronize(self) -> None:
        """Counts a wait."""
        TRAFFIC.wait('synchronize')

    def elapsed_time(self, end: Stream) -> float:
        """Returns a millisecond: times say nothing here."""
        return 1.0


def _properties(_: object = None) -> types.SimpleNamespace:
    return types.SimpleNamespace(name='stand-in', total_memory=MEMORY, major=8, minor=7,
                                 multi_processor_count=16)


# By name in torch.cuda.
CUDA: dict[str, Callable[..., object]] = {
    '_lazy_init': lambda: None, 'is_available': lambda: True, 'device_count': lambda: 1,
    'current_device': lambda: 0, 'set_device': lambda device: None, 'empty_cache': lambda: None,
    'synchronize': lambda device=None: TRAFFIC.wait('synchronize'),
    'mem_get_info': lambda device=None: (MEMORY, MEMORY),
    'memory_allocated': lambda device=None: 0, 'memory_reserved': lambda device=None: 0,
    'max_memory_allocated': lambda device=None: 0,
    'reset_peak_memory_stats': lambda device=None: None,
    'set_per_process_memory_fraction': lambda fraction, device=None: None,
    'get_device_properties': _properties, 'get_device_name': lambda device=None: 'stand-in',
    'get_device_capability': lambda device=None: (8, 7),
    'get_rng_state': lambda device=None: torch.zeros(16, dtype=torch.uint8),
    'set_rng_state': lambda state, device=None: None,
    'is_current_stream_capturing': lambda: RECORDING.capturing,
    'graph': RECORDING.of, 'CUDAGraph': Graph, 'graph_pool_handle': lambda: (0, 0),
    'Stream': Stream, 'Event': Stream, 'current_stream': lambda device=None: Stream(),
    'stream': lambda stream: contextlib.nullcontext()}

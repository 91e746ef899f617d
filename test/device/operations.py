# SPDX-License-Identifier: Apache-2.0
"""What each of torch's operations means for a device: read from its schema, and from its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch._ops import OpOverload

# They make a tensor without writing to it, or look at one differently; no kernel starts.
FREE = frozenset({
    'empty', 'empty_like', 'new_empty', 'empty_strided', 'new_empty_strided', '_unsafe_view',
    '_reshape_alias', 'detach_', 'lift_fresh', 'set_', 'is_same_size', 'sym_size', 'sym_stride',
    'sym_numel', 'size', 'stride', 'numel', '_local_scalar_dense', 'is_nonzero'})
# The host waits for their result, or for its size.
WAITS = frozenset({
    '_local_scalar_dense', 'is_nonzero', 'equal', 'nonzero', 'masked_select', 'bincount',
    'repeat_interleave', '_unique2', 'unique_dim', 'unique_consecutive', 'unique_dim_consecutive',
    '_linalg_eigh', 'linalg_qr'})
CROSSES = frozenset({'copy_', '_to_copy'})
INDEXES = frozenset({'index', '_unsafe_index', 'index_put', 'index_put_', '_unsafe_index_put',
                     '_index_put_impl_'})
PINS = frozenset({'_pin_memory', 'pin_memory', 'is_pinned'})


@dataclass(frozen=True)
class Operation:
    """An operation of torch, seen from a device.

    composite: it is made of others, which are seen on their own. launches: it starts a kernel.
    changes: it writes to an argument. waits: the host waits for it. crosses: it may copy from one
    device to another. indexes: its second argument is a list of indices. pins: it asks for memory
    of the host that a GPU can read.
    outputs: positions and names of the arguments that it writes to and returns.
    """

    name: str
    composite: bool
    launches: bool
    changes: bool
    waits: bool
    crosses: bool
    indexes: bool
    pins: bool
    outputs: tuple[tuple[int, str], ...]

    def written(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
        """Returns the arguments that a call writes to, where these are what it returns."""
        return [args[at] if at < len(args) else kwargs[name] for at, name in self.outputs
                if at < len(args) or name in kwargs]


@cache
def operation(func: OpOverload) -> Operation:
    """Looks an operation up."""
    schema = func._schema
    name = schema.name.partition('::')[2]
    returned = [value.alias_info.is_write for value in schema.returns
                if value.alias_info is not None]
    changed = tuple((at, argument.name) for at, argument in enumerate(schema.arguments)
                    if argument.alias_info is not None and argument.alias_info.is_write)
    looks = bool(returned) and not any(returned)
    return Operation(
        name,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(), torch._C.DispatchKey.CompositeImplicitAutograd),
        launches=not looks and name not in FREE,
        changes=bool(changed), waits=name in WAITS, crosses=name in CROSSES,
        indexes=name in INDEXES, pins=name in PINS,
        outputs=changed if any(returned) else ())


def tensors_of(values: Iterable[object]) -> Iterator[Tensor]:
    """Yields the tensors among the arguments of an operation, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_of(value)

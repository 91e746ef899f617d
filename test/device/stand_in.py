# SPDX-License-Identifier: Apache-2.0
"""The stand-in device: its tensors, and torch patched so that they are to be had."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from unittest import mock

import torch
from cuda_answers import CUDA, RECORDING
from operations import Operation, operation, tensors_of
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from traffic import TRAFFIC, Traffic


def _make_device() -> torch.device:
    """Returns cuda:0 of a CUDA build of torch; gives any other one a device, as its backend."""
    if torch.version.cuda:
        return torch.device('cuda', 0)
    from torch.utils.backend_registration import (
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )

    class Module(_DummyBackendModule):
        """What torch.autocast asks of a backend, also where it is off."""

        @staticmethod
        def get_amp_supported_dtype() -> list[torch.dtype]:
            return [torch.float16]

    _setup_privateuseone_for_python_backend('standin', backend_module=Module())
    return torch.device('standin', 0)


HOST = torch.device('cpu')
DEVICE = _make_device()
NAME = DEVICE.type

Function = TypeVar('Function', bound=Callable[..., object])


class StandInTensor(Tensor):
    """A tensor that says it is on the device; `host` is a CPU tensor that holds its numbers."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> StandInTensor:
        """Wraps a CPU tensor, without a copy."""
        return Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(),
            dtype=host.dtype, layout=host.layout, device=DEVICE, requires_grad=False)

    def __init__(self, host: Tensor) -> None:
        assert type(host) is Tensor, type(host)
        self.host = host

    @classmethod
    def __torch_dispatch__(cls, func: OpOverload, types: Sequence[type],
                           args: Sequence[object] = (),
                           kwargs: Mapping[str, object] | None = None) -> object:
        return run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ['host'], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], meta: None, size: object,
                             stride: object) -> StandInTensor:
        return StandInTensor(inner['host'])

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f'StandInTensor({tuple(self.shape)}, {self.dtype})'

    def __deepcopy__(self, memo: dict[int, object]) -> StandInTensor:
        new = self._like(StandInTensor(self.host.clone()))
        memo[id(self)] = new
        return new

    def _like(self, new: StandInTensor) -> StandInTensor:
        """Makes another tensor a parameter, or require gradients, where this one does."""
        new.requires_grad_(self.requires_grad)
        if getattr(self, '_is_param', False):
            new._is_param = True  # type: ignore[attr-defined]
        return new

    def numpy(self, *, force: bool = False) -> object:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. "
                        'Use Tensor.cpu() to copy the tensor to host memory first.')

    def __array__(self, *_: object, **__: object) -> object:
        return self.numpy()

    def data_ptr(self) -> int:
        raise RuntimeError(f'a kernel was given the address of a tensor on {DEVICE}, where it '
                           'cannot run')

    def tolist(self) -> object:
        TRAFFIC.wait('tolist')
        return self.host.tolist()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, StandInTensor):
            raise TypeError(f'the data of a tensor on {DEVICE} was set to one on {value.device}')
        torch.utils.swap_tensors(self, self._like(StandInTensor(value.host)))


class StandInMode(TorchDispatchMode):
    """Inside of it, operations that are told to make tensors on the device do so."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spares each operation a detour: nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: OpOverload, types: Sequence[type],
                           args: Sequence[object] = (),
                           kwargs: Mapping[str, object] | None = None) -> object:
        return run(func, args, kwargs or {})


def run(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """Carries out an operation on CPU tensors; raises as a GPU does where devices mix."""
    what = operation(func)
    if what.pins:   # memory that a GPU reads faster is like any other here
        return False if what.name == 'is_pinned' else args[0].clone()  # type: ignore[attr-defined]
    tensors = list(tensors_of(args)) + list(tensors_of(kwargs.values()))
    ours = any(isinstance(tensor, StandInTensor) for tensor in tensors)
    wanted = kwargs.get('device')
    goal = None if wanted is None else torch.device(wanted).type  # type: ignore[arg-type]
    if not ours and goal != NAME:
        return func(*args, **kwargs)
    if what.composite:
        with StandInMode():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    if ours:
        check_devices(what, args, tensors)
    plain = {name: on_host(value) for name, value in kwargs.items()}
    if goal == NAME:
        plain['device'] = HOST
    if plain.get('pin_memory'):
        plain['pin_memory'] = False
    if TRAFFIC.watching:
        count(what, args, kwargs, goal)
    do = RECORDING.keep if RECORDING.capturing else carry_out
    result = do(what, func, tuple(map(on_host, args)), plain)
    written = what.written(args, kwargs)
    if written:
        return handed_back(func, written)
    return result if goal == 'cpu' else on_device(result)


def carry_out(_: Operation, func: OpOverload, args: Sequence[object],
              kwargs: Mapping[str, object]) -> object:
    """Computes an operation of CPU tensors."""
    return func(*args, **kwargs)


def on_host(value: object) -> object:
    """Returns an argument with the CPU tensors that hold its numbers, also in lists."""
    if isinstance(value, StandInTensor):
        return value.host
    return type(value)(map(on_host, value)) if type(value) in (list, tuple) else value


def on_device(value: object) -> object:
    """Wraps the tensors in a result."""
    if isinstance(value, Tensor):
        return StandInTensor(value)
    return type(value)(map(on_device, value)) if type(value) in (list, tuple) else value


def handed_back(func: OpOverload, written: Sequence[object]) -> object:
    """Returns the arguments that an operation has written to, in its own form."""
    for tensor in written:
        if isinstance(tensor, StandInTensor) and tensor.shape != tensor.host.shape:
            raise RuntimeError(f'{func} resized a tensor in place, which the stand-in cannot')
    return written[0] if len(func._schema.returns) == 1 else tuple(written)


def check_devices(what: Operation, args: Sequence[object], tensors: Sequence[Tensor]) -> None:
    """Raises RuntimeError where tensors of the host meet some of the device, unless they may.

    Numbers in tensors without dimensions may.
    """
    strangers = [tensor for tensor in tensors if not isinstance(tensor, StandInTensor)]
    if what.crosses or not strangers:
        return
    if what.indexes:
        table, indices, *values = args
        on_device = [isinstance(index, StandInTensor) for index in indices  # type: ignore
                     if index is not None]
        if any(on_device) and not isinstance(table, StandInTensor):
            raise RuntimeError('indices should be either on cpu or on the same device as the '
                               'indexed tensor (cpu)')
        strangers = [x for x in values if isinstance(x, Tensor)
                     and isinstance(x, StandInTensor) != isinstance(table, StandInTensor)]
    for tensor in strangers:
        if tensor.dim() > 0:
            raise RuntimeError(
                'Expected all tensors to be on the same device, but found at least two devices, '
                f'{DEVICE} and cpu! ({what.name} met a tensor {tuple(tensor.shape)} of the cpu)')


def count(what: Operation, args: Sequence[object], kwargs: Mapping[str, object],
          goal: str | None) -> None:
    """Counts an operation that was carried out as a launch, a copy, a wait, or several."""
    if what.indexes:
        count_indices(args)
    if what.crosses:
        source = args[0] if what.name == '_to_copy' else args[1]
        from_device = isinstance(source, StandInTensor)
        to_device = isinstance(args[0], StandInTensor) if what.name == 'copy_' \
            else from_device if goal is None else goal == NAME
        if from_device != to_device:
            if to_device:
                TRAFFIC.copy()
            if not kwargs.get('non_blocking') and True not in args[2:3]:
                TRAFFIC.wait('copy to the device' if to_device else 'copy to the host')
            return
    if what.waits:
        TRAFFIC.wait(what.name)
    if what.launches:
        TRAFFIC.launch()


def count_indices(args: Sequence[object]) -> None:
    """Counts what an operation does about its indices before it can use them."""
    table, indices, *values = args
    # A mask that writes one number needs no list of the places where it is true.
    fills = bool(values) and isinstance(values[0], Tensor) and values[0].numel() == 1
    for index in indices:  # type: ignore[attr-defined]
        if isinstance(index, Tensor) and not isinstance(index, StandInTensor):
            TRAFFIC.copy()
            TRAFFIC.wait('indices of the host')
        if index is not None and index.dtype in (torch.bool, torch.uint8) and not fills:
            TRAFFIC.wait('mask as index')


class StandInGenerator(torch.Generator):
    """Random numbers of the device are drawn on the CPU."""

    def __new__(cls, device: str | torch.device = 'cpu') -> StandInGenerator:
        """Makes a generator of the CPU, whatever device is asked for."""
        return super().__new__(cls, 'cpu')


@contextlib.contextmanager
def stand_in(driver: ctypes.CDLL | None) -> Iterator[Traffic]:
    """Makes the device be there; yields what is counted.

    driver: the library of driver_stub.cpp, loaded before torch, where torch is built for CUDA.
    """
    with contextlib.ExitStack() as stack:
        if driver is not None:
            torch._C._ensureCUDADeviceGuardSet()
            driver.stub_devices(64)
            for name, answer in CUDA.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, answer))
            stack.enter_context(mock.patch('torch.cuda.amp.common.amp_definitely_not_available',
                                           lambda: False))
        # There are no wrappers of inference tensors.
        stack.enter_context(mock.patch.object(torch, 'inference_mode', _no_grad))
        stack.enter_context(mock.patch.object(torch, 'Generator', StandInGenerator))
        for kind in ('flash', 'mem_efficient', 'cudnn'):    # these attentions ask the driver
            getattr(torch.backends.cuda, f'enable_{kind}_sdp')(False)
        # Parameters that move to the device are exchanged as wholes, not by their storage.
        torch.__future__.set_swap_module_params_on_conversion(True)
        # So torch.tensor(numbers, device=...) copies them, as it does to a GPU.
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(StandInMode())
        yield TRAFFIC


def _no_grad(mode: bool | Function = True) -> contextlib.AbstractContextManager[None] | Function:
    """Plays torch.inference_mode, which is a context, a decorator, and one with parentheses."""
    return torch.no_grad()(mode) if callable(mode) else torch.no_grad()

# SPDX-License-Identifier: Apache-2.0
"""One map trained by several processes: each takes a part of the rays, gradients are averaged.

`torchrun --nproc-per-node=N` starts the processes and tells them who they are; all of them hold
the whole field and all keyframes. Without it these functions change nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed

from lerf_ros.errors import ConfigError
from lerf_ros.training.ray_batches import PixelBatch

# Options of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 29    # larger blocks go back to the system at once, such as outgrown tables
PAD_BYTES = 1 << 26     # asked of the system at once


def choose_device(name: str) -> torch.device:
    """Returns the device of this name; `auto` is a GPU where torch has one.

    Under torchrun each process has a GPU of its own. Raises ConfigError for a device that does not
    exist, or that torch cannot use here.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name == 'cuda' and 'LOCAL_RANK' in os.environ:
        name = f'cuda:{os.environ["LOCAL_RANK"]}'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f'device {name!r}: torch knows no such device; choose auto, cpu, cuda '
                          'or cuda:N') from error
    if device.type == 'cuda' and not torch.cuda.is_available():
        built = 'finds none (nvidia-smi says whether the driver does; containers need --gpus)' \
            if torch.version.cuda else 'was built without CUDA: install another torch'
        raise ConfigError(f'device {name!r}: there is no GPU for it here, torch '
                          f'{torch.__version__} {built}; or choose cpu, for training auto')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f'device {name!r}: there are {torch.cuda.device_count()} GPUs here, '
                          'counted from 0')
    return device


def is_out_of_memory(error: RuntimeError) -> bool:
    """Returns whether torch, or tiny-cuda-nn in words of its own, found too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or 'out of memory' in str(error).lower()


def free_megabytes(device: torch.device) -> int:
    """Returns the free memory of a GPU, MB; 0 for a CPU."""
    return torch.cuda.mem_get_info(device)[0] >> 20 if device.type == 'cuda' else 0


def reuse_memory() -> bool:
    """Makes glibc keep freed blocks for the next step; returns whether that worked.

    Otherwise glibc maps each large tensor anew and the system clears its pages, which takes a
    third of an encoder's time. Other C libraries have no such option.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and all([
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES),
        mallopt(M_TOP_PAD, PAD_BYTES)])


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun started; they talk by NCCL on GPUs, by Gloo on CPUs."""
    if int(os.environ.get('WORLD_SIZE', '1')) == 1:
        yield
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus:     # or all processes of a machine would use the first one
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', '0')))
    distributed.init_process_group('nccl' if on_gpus else 'gloo')
    try:
        yield
        distributed.barrier()     # nobody leaves while the first one still writes
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Returns which of the processes this is; 0 is the one that writes."""
    return distributed.get_rank() if _together() else 0


def processes() -> int:
    """Returns how many processes train together."""
    return distributed.get_world_size() if _together() else 1


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextlib.contextmanager
def own_directory(target: Path, resume: bool) -> Iterator[Path]:
    """Yields where this process writes its map: `target`, or a temporary folder for all but one.

    resume: whether the others begin with a copy of `target`.
    """
    with tempfile.TemporaryDirectory(prefix='lerf_ros_') if rank() else \
            contextlib.nullcontext('') as folder:
        place = Path(folder) / 'map' if folder else target
        if resume and folder:
            shutil.copytree(target, place, ignore=shutil.ignore_patterns('.*'))
        if _together():
            distributed.barrier()       # nobody writes while others still read
        yield place


def for_any(wish: bool) -> bool:
    """Returns whether any of the processes wishes so; all of them have to call this."""
    if processes() == 1:
        return wish
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    wishes = torch.tensor(float(wish), device=device)
    distributed.all_reduce(wishes)
    return bool(wishes > 0)


def separate_noise(seed: int) -> None:
    """Seeds each process differently, for the jitter of its samples."""
    if processes() > 1:
        torch.manual_seed(seed + rank())


def own_rays(batch: PixelBatch) -> PixelBatch:
    """Returns this process's part of a batch that all of them drew alike."""
    if processes() == 1:
        return batch
    return batch[torch.arange(rank(), len(batch), processes(), device=batch.keyframe.device)]


def own_count(count: int) -> int:
    """Returns how many of `count` rays this process takes, at least one."""
    return max(count // processes(), 1)


@torch.no_grad()
def average_gradients(parameters: Sequence[torch.nn.Parameter], loss: Tensor) -> Tensor:
    """Replaces gradients by their mean over the processes; returns the mean loss.

    One message carries all of it: the loss, which parameters have a gradient, and the gradients. A
    loss that is not finite in one process is so in all; a gradient that no process has stays None.
    """
    if processes() == 1:
        return loss
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
    message = torch.cat([loss.reshape(1).float(), present, *(g.reshape(-1).float() for g in grads)])
    distributed.all_reduce(message)
    sizes = [1, len(present), *(g.numel() for g in grads)]
    total, present, *sums = message.split(sizes)
    for parameter, grad, summed, had in zip(parameters, grads, sums, present.tolist(), strict=True):
        parameter.grad = (summed / processes()).reshape(grad.shape).to(grad.dtype) if had else None
    return (total / processes()).reshape(())

# SPDX-License-Identifier: Apache-2.0
"""Where the fields are trained, and how the processor's memory is kept there."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from lerf_ros.errors import ConfigError

# Options of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 29    # larger blocks go back to the system at once, such as outgrown tables
PAD_BYTES = 1 << 26     # asked of the system at once


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch has one; under torchrun each process has its own.

    Raises ConfigError for a device that does not exist, or that torch cannot use here.
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


def reuse_memory() -> bool:
    """Keeps freed blocks for the next step instead of giving them back; whether that worked.

    glibc maps each large tensor anew and the system clears its pages, which takes a third of an
    encoder's time. Other C libraries are left as they are.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and all([
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES),
        mallopt(M_TOP_PAD, PAD_BYTES)])

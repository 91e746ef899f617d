# SPDX-License-Identifier: Apache-2.0
"""Where the fields are trained."""

from __future__ import annotations

import os

import torch


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch has one; under torchrun each process has its own."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name == 'cuda' and 'LOCAL_RANK' in os.environ:
        name = f'cuda:{os.environ["LOCAL_RANK"]}'
    return torch.device(name)

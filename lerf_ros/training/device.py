# SPDX-License-Identifier: Apache-2.0
"""Where the fields are trained."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch has one."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    return torch.device(name)

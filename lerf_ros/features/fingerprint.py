# SPDX-License-Identifier: Apache-2.0
"""Telling two sets of weights apart."""

from __future__ import annotations

import hashlib

import torch

# Values of each tensor that enter the fingerprint: enough to tell any two trainings apart.
FINGERPRINT_VALUES = 64


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of the first values of every tensor, the same on CPU and GPU."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        head = value.flatten()[:FINGERPRINT_VALUES].cpu()
        digest.update(key.encode())
        digest.update((head.half() if head.is_floating_point() else head).numpy().tobytes())
    return digest.hexdigest()[:16]

# SPDX-License-Identifier: Apache-2.0
"""TF look-up: tf2_ros where it is installed, else the same calls in Python."""

from __future__ import annotations

from typing import Any

import yaml

try:
    from tf2_ros import Buffer, TransformException
except ImportError:
    from lerf_ros.nodes.common.tf_buffer import Buffer, TransformException

__all__ = ['Buffer', 'TransformException', 'known_frames']


def known_frames(buffer: Any) -> list[str]:
    """The names of all frames that a buffer has heard of, sorted."""
    tree = yaml.safe_load(buffer.all_frames_as_yaml() or '{}') or {}
    if not isinstance(tree, dict):      # tf2 answers '[]' while it knows nothing
        return []
    return sorted(set(tree) | {edge['parent'] for edge in tree.values()})

# SPDX-License-Identifier: Apache-2.0
"""An encoder that remembers phrases: all submaps are asked for the same ones, one after another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from lerf_ros.encoders.image_text import ImageTextEncoder

MOST = 64       # lists of phrases that are remembered


class RememberedTexts:
    """Encodes as another encoder does; what was encoded lately is not encoded again."""

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self._encoder, self._lock = encoder, threading.Lock()
        self._known: OrderedDict[tuple[str, ...], np.ndarray] = OrderedDict()

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)     # all else is the encoder's own

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, D) float32 of N phrases. Raises as the encoder does."""
        key = tuple(texts)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key].copy()
        rows = self._encoder.encode_texts(texts)
        with self._lock:
            self._known[key] = rows.copy()
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return rows

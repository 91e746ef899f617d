# SPDX-License-Identifier: Apache-2.0
"""How English a phrase is, from its sentence embedding: other languages lie apart from it.

There is no sure rule for single words in Latin letters: the encoder has learned some, `bottle` and
`botella` are near each other to it, and languages share words. What is surely foreign is refused,
what may be is said where nothing was found. Weights and shares: bench/fit_english.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WEIGHTS = Path(__file__).parent / 'weights' / 'english.json'
# Logits above which a phrase is of another language, and may be. Held out: above the first are
# 0.1 % of English names of things and 11 % of the words and phrases of 16 other languages, above
# the second 4 % and 77 %.
FOREIGN, DOUBTFUL = 6.0, 2.0


class EnglishJudge:
    """Logistic regression on sentence embeddings of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        stored = json.loads(WEIGHTS.read_text())
        self._weights, self._bias = np.array(stored['weights'], np.float32), stored['bias']

    def foreignness(self, rows: np.ndarray) -> np.ndarray:
        """Logits (N,) that phrases are not English, of their embeddings (N, 384)."""
        return np.asarray(rows @ self._weights + self._bias)

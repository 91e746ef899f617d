# SPDX-License-Identifier: Apache-2.0
"""Finds what an English text encoder cannot read in a phrase: scripts, emoji, other languages.

The encoder returns an embedding for any text, so the failure would go unnoticed: all emoji share
one embedding, and an object that is present would be reported absent.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

WEIGHTS = Path(__file__).parent / 'weights' / 'english.json'
# Logits above which a phrase is foreign, or may be. On held-out data 0.1 % of English object names
# and 11 % of words and phrases of 16 other languages lie above the first, 4 % and 77 % above the
# second.
FOREIGN, DOUBTFUL = 6.0, 2.0


class EnglishClassifier:
    """Logistic regression on sentence embeddings of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        stored = json.loads(WEIGHTS.read_text())
        self._weights, self._bias = np.array(stored['weights'], np.float32), stored['bias']

    def foreignness(self, rows: np.ndarray) -> np.ndarray:
        """Computes the logits (N,) that phrases with embeddings (N, 384) are not English."""
        return np.asarray(rows @ self._weights + self._bias)


# Prefixes of the Unicode names of letters that Latin text contains.
LATIN = ('LATIN', 'FEMININE ORDINAL', 'MASCULINE ORDINAL', 'MICRO SIGN', 'MODIFIER LETTER')


def foreign_letters(word: str) -> str:
    """Returns the script of a word's first non-Latin letter, such as 'CYRILLIC', or ''."""
    for letter in filter(str.isalpha, word):
        name = unicodedata.name(letter, 'UNKNOWN')
        if not name.startswith(LATIN):
            return name.split()[0]
    return ''


def unread_words(text: str, is_unknown: Callable[[str], bool]) -> Iterator[str]:
    """Yields, for each word of a phrase that cannot be read, the reason as shown to the user.

    is_unknown: tells whether the encoder's vocabulary lacks a part of a word.
    """
    if not any(letter.isalnum() for letter in text):
        yield 'it holds no word'
        return
    for word in text.split():
        if script := foreign_letters(word):
            yield f'{word!r} is written in {script.lower()} letters'
        elif is_unknown(word):
            yield f'{word!r} is no word'

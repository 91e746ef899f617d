# SPDX-License-Identifier: Apache-2.0
"""What of a phrase an English text encoder cannot read: other scripts, emoji, other languages.

It has an embedding for everything, so that nobody notices: all emoji have the same one, and a thing
that is there would be called absent.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
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


# Letters that belong to no script of their own, by the beginning of their Unicode name.
LATIN = ('LATIN', 'FEMININE ORDINAL', 'MASCULINE ORDINAL', 'MICRO SIGN', 'MODIFIER LETTER')


def foreign_letters(word: str) -> str:
    """The script of the first letter of a word that is not Latin, as 'CYRILLIC'; empty if none."""
    for letter in filter(str.isalpha, word):
        name = unicodedata.name(letter, 'UNKNOWN')
        if not name.startswith(LATIN):
            return name.split()[0]
    return ''


def unread_words(text: str, is_unknown: Callable[[str], bool]) -> Iterator[str]:
    """Why words of a phrase cannot be read, in words for people.

    is_unknown: whether the encoder has no piece for some of a word.
    """
    if not any(letter.isalnum() for letter in text):
        yield 'it holds no word'
        return
    for word in text.split():
        if script := foreign_letters(word):
            yield f'{word!r} is written in {script.lower()} letters'
        elif is_unknown(word):
            yield f'{word!r} is no word'

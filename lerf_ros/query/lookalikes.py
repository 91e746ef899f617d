# SPDX-License-Identifier: Apache-2.0
"""What else the places of a phrase look like: words that fit them better than the phrase does.

Whoever asks for a mug and is told of a bowl knows what to make of an absence or of a doubtful hit.

Canonical phrases such as `object` are easily beaten by a phrase that is near in meaning to what is
there: "laptop" beats them at a keyboard. A name of the thing itself is beaten by few words of a
large vocabulary, a description of it by some more, a near miss by many. On three maps of simulated
layouts (100, 101, 104; `conse`, whose 1000 class names are the vocabulary) 33 of 35 names of things
that are there are beaten by no word, the others by 2 at most. A limit of 3 leaves 12 of 18 near
misses that were found, of 41 asked, and 35 of 41 descriptions such as "thing to type on". On two
other maps (demo tables 31 and 33) it leaves all 20 names that were found, and 12 of 17 near misses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Hit
from lerf_ros.query.places import SCORE_POINTS, SCORE_SHARE, Place
from lerf_ros.query.question import Question
from lerf_ros.query.search import PhraseResult, SearchResult, inside_region
from lerf_ros.query.text_query import TextEncoder, TextQuery

MOST = 3            # words that are told
MARGIN = 0.02       # of cosine, by which a word must fit better: less is noise
# Of the twelve finds that more than 3 words fit better, on those three maps, six are near misses
# and none is a name; the six right ones are descriptions, which are rarer than names.
SELDOM_RIGHT = 0.3
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
    """Returns what was found with the words that each phrase's best place looks more like.

    Without the places that look more like too many other words (`query.most_rival_words`).
    """
    if question.picture:
        return found
    words, known = words_of(query.encoder, question), vocabulary_of(query.encoder)
    phrases = []
    for phrase, row in zip(found.phrases, question.positives, strict=True):
        kept = contrasted(query, phrase, row, question.negatives, known) if known.names else phrase
        phrases.append(replace(kept, looks_more_like=lookalikes(query, kept, row, words)))
    return replace(found, phrases=tuple(phrases))


def contrasted(query: TextQuery, phrase: PhraseResult, row: np.ndarray, negatives: np.ndarray,
               known: Words) -> PhraseResult:
    """Returns what a phrase found without what is rather something else.

    row (D,): its embedding; negatives (M, D).
    """
    most = query.config.most_rival_words
    if not most or not phrase.places:
        return phrase
    rivals = [len(rival_words(query, phrase.name, place, row, negatives, known))
              for place in phrase.places]
    kept = tuple(place for place, count in zip(phrase.places, rivals, strict=True)
                 if count <= most)
    if kept:
        return replace(phrase, places=kept, candidate=kept[0].hit)
    told = [f'{rivals[0]} other words fit its best place better',
            ', '.join(lookalikes(query, phrase, row, known))]
    return replace(phrase, places=(), candidate=phrase.places[0].hit,
                   fit=SELDOM_RIGHT * phrase.fit, reason=': '.join(filter(None, told)))


def rival_words(query: TextQuery, name: str, place: Place, row: np.ndarray,
                negatives: np.ndarray, known: Words) -> list[int]:
    """Returns which words, by number, fit a place better than a phrase and share no word with it.

    name, row (D,): of the phrase, negatives (M, D). They are compared where the phrase is most
    relevant, at the scale at which it is.
    """
    basis = query.index.basis
    members = place.members[::max(1, len(place.members) // MOST_POINTS)]
    codes = query.index.codes_of(members)                                   # (n, S, r)
    margins = codes @ (row @ basis) - (codes @ (negatives @ basis).T).max(2)    # (n, S)
    best = np.argsort(-margins.max(1))[:max(SCORE_POINTS, round(SCORE_SHARE * len(members)))]
    code = codes[best, margins[best].argmax(1)].mean(0)                     # (r,)
    fits, asked = known.rows @ (basis @ code), set(plain_words(name))
    return [int(k) for k in np.flatnonzero(fits > row @ (basis @ code))
            if not asked & set(plain_words(known.names[k]))]


def plain_words(phrase: str) -> list[str]:
    """Returns the words in lower case, without articles and without plural s."""
    spaced = phrase.lower().replace('-', ' ').split()
    return [word.removesuffix('s') for word in spaced if word not in ('a', 'an', 'the')]


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
    if hit is None:
        return ()
    own, fits = fits_of(query, hit, row, words)
    better = [int(k) for k in np.argsort(-fits, kind='stable') if fits[k] > own + MARGIN]
    asked = set(phrase.name.lower().split())
    names = dict.fromkeys(words.names[k] for k in better)
    return tuple(name for name in names if set(name.lower().split()) != asked)[:MOST]


def fits_of(query: TextQuery, hit: Hit, row: np.ndarray,
            words: Words) -> tuple[float, np.ndarray]:
    """Returns how well an embedding (D,), and W words (W,), fit a place: the largest cosines."""
    members = points_of(query, hit)
    if not len(members):
        return 0.0, np.zeros(len(words.names))
    codes = query.index.codes_of(members).mean(0)                           # (S, r)
    codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-6)
    meant = codes @ query.index.basis.T         # (S, D), far fewer rows than words
    return float((meant @ row).max()), (meant @ words.rows.T).max(0)


def points_of(query: TextQuery, hit: Hit) -> np.ndarray:
    """Returns the points of an index, by number, in the box of a hit."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    size = np.maximum(hit.size, 1e-6) * (1 + 1e-6)
    members = np.flatnonzero(inside_region(query.index, Region(T, size)))
    return members[::max(1, len(members) // MOST_POINTS)]

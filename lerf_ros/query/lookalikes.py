# SPDX-License-Identifier: Apache-2.0
"""What else the places of a phrase look like: words that fit them better than the phrase does.

Whoever asks for a mug and is told of a bowl knows what to make of an absence or of a doubtful hit.

Canonical phrases such as `object` are easily beaten by a phrase that is near in meaning to what is
there: "laptop" beats them at a keyboard. A name of the thing itself is beaten by few words of a
large vocabulary, a description of it by some more, a near miss by many. Words and phrase are
compared as relevancies are: by the field, and by second looks where there are any.

On maps of six simulated layouts (0 to 5, `conse`, whose 1000 class names are the vocabulary) 66
names, 97 synonyms, kinds and descriptions ("pail", "fruit") and 12 near misses reach the threshold.
A limit of 3 words leaves 66, 89 and 11 of them; one clear rival as well 66, 88 and 8. On four
others (100 to 103), which chose nothing, it is 45, 68 and 10; 45, 66 and 8; 45, 64 and 6. Compared
by the field alone, two names more were lost on the first six. How many words fit better also says
how likely a place is right: each doubling of 1 + their number counts as much as ln 2 of log-odds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from lerf_ros.geometry.region import Region
from lerf_ros.query.answer import Hit
from lerf_ros.query.places import SCORE_POINTS, SCORE_SHARE, Place
from lerf_ros.query.presence import Calibration
from lerf_ros.query.question import Question
from lerf_ros.query.search import PhraseResult, SearchResult, inside_region
from lerf_ros.query.second_look import odds_shift
from lerf_ros.query.text_query import TextEncoder, TextQuery

MOST = 3            # words that are told
MARGIN = 0.02       # of cosine, by which a word must fit better: less is noise
# One word alone refuses a place if it means something else, by the cosine of both, and fits it
# better by so much, in log-odds, and by the field alone as well.
APART, CLEARLY = 0.6, 0.9
MOST_POINTS = 512   # of a place, evenly chosen, whose embeddings are compared


@runtime_checkable
class NamedWords(Protocol):
    """An encoder with a vocabulary whose embeddings it knows."""

    def words(self) -> tuple[list[str], np.ndarray]:
        """Returns W words and their unit embeddings (W, D)."""


class Words(NamedTuple):
    """W words, their unit embeddings (W, D), and each as its plain words."""

    names: tuple[str, ...]
    rows: np.ndarray
    plain: tuple[tuple[str, ...], ...] = ()


def with_lookalikes(query: TextQuery, question: Question, found: SearchResult,
                    calibration: Calibration | None = None) -> SearchResult:
    """Returns what was found with the words that each phrase's best place looks more like.

    Without the places that look more like too many other words (`query.most_rival_words`). Hits
    have the number of these words, and with a calibration the probability that follows.
    """
    if question.picture:
        return found
    words, known = words_of(query.encoder, question), vocabulary_of(query.encoder)
    phrases = []
    for phrase, row in zip(found.phrases, question.positives, strict=True):
        rivals = Rivals(query, phrase.name, row, question.negatives, known)
        kept = contrasted(rivals, phrase, calibration) if known.names else phrase
        phrases.append(replace(kept, looks_more_like=lookalikes(query, kept, row, words)))
    return replace(found, phrases=tuple(phrases))


class Contest(NamedTuple):
    """words: that fit a place better than a phrase, the best first. clear: the best of another
    meaning that does so clearly, or ''."""

    words: tuple[str, ...]
    clear: str

    def rivals(self, most: int) -> int:
        """Returns the number of words; a clear one counts as one more than `most`."""
        return max(len(self.words), most + 1) if self.clear else len(self.words)

    def told(self) -> str:
        """Returns in words why the place is something else."""
        if self.clear:
            return f'{self.clear!r} fits its best place clearly better'
        names = ', '.join(self.words[:MOST])
        return f'{len(self.words)} other words fit its best place better: {names}'


@dataclass(frozen=True)
class Rivals:
    """Tells which known words fit places better than a phrase does.

    name, row (D,): of the phrase. negatives (M, D).
    """

    query: TextQuery
    name: str
    row: np.ndarray
    negatives: np.ndarray
    known: Words

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Returns the plain words of the phrase."""
        return tuple(plain_words(self.name))

    def _is_other(self, k: int) -> bool:
        """Whether word k shares none with the phrase, and so is not another name of it."""
        return not set(self.asked) & set(self.known.plain[k])

    def _is_apart(self, k: int) -> bool:
        """Whether word k means something else, and is not of the kind of the phrase."""
        words = self.known.plain[k]
        return bool(words[-1:] != self.asked[-1:] and not set(self.asked) <= set(words)
                    and self.known.rows[k] @ self.row < APART)

    def at(self, members: np.ndarray) -> Contest:
        """Returns the words that fit a place of these points (indices) better, the best first."""
        members = members[::max(1, len(members) // MOST_POINTS)]
        field = odds = self._odds(self._embedding(members))
        if self.query.looks_again:
            look = self.query.looks.mean_of(np.unique(self.query.index.segments[members]))
            if look is not None:
                odds = odds + odds_shift(self._odds(look), odds, self.query.config.look_weight)
        better = odds[1:] - odds[0]
        order = [k for k in np.argsort(-better, kind='stable').tolist() if better[k] > 0]
        # Looks show all of a segment, which may hold more things than the one that is meant.
        clear = (self.known.names[k] for k in order if better[k] > CLEARLY
                 and field[1 + k] > field[0] and self._is_apart(k))
        return Contest(tuple(self.known.names[k] for k in order if self._is_other(k)),
                       next(clear, ''))

    def _embedding(self, members: np.ndarray) -> np.ndarray:
        """The mean embedding (D,) where the phrase is most relevant, at the scale where it is."""
        basis = self.query.index.basis
        codes = self.query.index.codes_of(members)                          # (n, S, r)
        margins = codes @ (self.row @ basis) - (codes @ (self.negatives @ basis).T).max(2)
        best = np.argsort(-margins.max(1))[:max(SCORE_POINTS, round(SCORE_SHARE * len(members)))]
        return basis @ codes[best, margins[best].argmax(1)].mean(0)

    def _odds(self, embedding: np.ndarray) -> np.ndarray:
        """The log-odds (1 + W,) of the phrase and of each word at an embedding (D,)."""
        fits = np.concatenate([self.row[None], self.known.rows]) @ embedding
        return self.query.config.temperature * (fits - (self.negatives @ embedding).max())


def contrasted(rivals: Rivals, phrase: PhraseResult,
               calibration: Calibration | None) -> PhraseResult:
    """Returns what a phrase found without what is rather something else."""
    most = rivals.query.config.most_rival_words
    if not phrase.places:
        return phrase if phrase.candidate is None else replace(phrase, candidate=doubted(
            phrase.candidate, rivals.at(points_of(rivals.query, phrase.candidate)).rivals(most),
            calibration))
    contests = [rivals.at(place.members) for place in phrase.places]
    places = [Place(doubted(place.hit, contest.rivals(most), calibration), place.members)
              for place, contest in zip(phrase.places, contests, strict=True)]
    kept = tuple(place for place in places if not most or place.hit.rivals <= most)
    if kept:
        return replace(phrase, places=kept, candidate=kept[0].hit)
    return replace(phrase, places=(), candidate=places[0].hit, reason=contests[0].told())


def doubted(hit: Hit, rivals: int, calibration: Calibration | None) -> Hit:
    """Returns a hit that so many words fit better; what else its probability says stays."""
    out = replace(hit, rivals=rivals)
    if calibration is None:
        return out
    before = max(calibration.of_hit(hit), 1e-9)
    return replace(out, probability=hit.probability * calibration.of_hit(out) / before)


def plain_words(phrase: str) -> list[str]:
    """Returns the words in lower case, without articles and without plural s."""
    spaced = phrase.lower().replace('-', ' ').split()
    return [word.removesuffix('s') for word in spaced if word not in ('a', 'an', 'the')]


def words_of(encoder: TextEncoder, question: Question) -> Words:
    """Returns all words that may fit better: those that were asked together, the vocabulary.

    Rivals are not among them: what they fit better is no place of the phrase.
    """
    nouns = [reading.thing.noun for reading in question.readings] or list(question.names)
    known = vocabulary_of(encoder)
    asked = question.positives
    return Words((*nouns, *known.names),
                 np.concatenate([asked, known.rows]) if known.names else asked)


# The vocabularies of encoders, which are read once.
_known: WeakKeyDictionary[TextEncoder, Words] = WeakKeyDictionary()


def vocabulary_of(encoder: TextEncoder) -> Words:
    """Returns the vocabulary of an encoder, empty where it has none."""
    if not isinstance(encoder, NamedWords):
        return Words((), np.zeros((0, 0), np.float32))
    if encoder not in _known:
        names, rows = encoder.words()
        _known[encoder] = Words(tuple(names), rows, tuple(tuple(plain_words(n)) for n in names))
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

# SPDX-License-Identifier: Apache-2.0
"""What is asked of a map: immutable, checked on arrival, in world coordinates, without ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.errors import (
    EmptyNegativeError,
    EmptyTextError,
    InvalidRequestError,
    InvalidThresholdError,
)
from lerf_ros.geometry.region import Region
from lerf_ros.query.phrases.grammar import NotUnderstood, read, thing_of
from lerf_ros.query.phrases.reading import (
    VIEWER,
    Reading,
    Relation,
    RelationKind,
    Thing,
    Viewpoint,
)
from lerf_ros.query.phrases.vocabulary import CHOICES, COLORS, SIZES, SUPERLATIVES

MAX_PHRASES = 256          # in one request
MAX_CHARACTERS = 1000      # of one phrase: encoders read far fewer
SEPARATOR = ';'            # between phrases that are typed or published as one text


@dataclass(frozen=True)
class KeyframeCrop:
    """A rectangle of a keyframe's image, in pixels. Keyframes are numbered from 0."""

    keyframe: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class QueryRequest:
    """One question: exactly one of text, texts, image and crop; the other fields narrow it.

    negatives: replace the configured negatives; empty keeps those. rather_than: further negatives.
    part: look for this part of the thing only. image: (H, W, 3) uint8 RGB. region: where to look;
    None for everywhere. max_hits: of each phrase. threshold and max_hits: 0 for the configured
    values. colors, sizes, relations: what else must hold for the things, in addition to what the
    phrases say of that. viewpoint: from where relations such as 'left of' are seen; None for the
    newest keyframe. whole_phrase: phrases go to the encoder as they are; nothing is read in them.
    """

    text: str = ''
    texts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    rather_than: tuple[str, ...] = ()
    part: str = ''
    image: np.ndarray | None = None
    crop: KeyframeCrop | None = None
    region: Region | None = None
    threshold: float = 0.0
    max_hits: int = 0
    plan_grasps: bool = True
    colors: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    viewpoint: Viewpoint | None = None
    whole_phrase: bool = False

    @property
    def phrases(self) -> tuple[str, ...]:
        """Returns the phrases to look for; empty when the question is an image."""
        return self.texts or ((self.text,) if self.text.strip() else ())

    def least_relevancy(self, config: QueryConfig) -> float:
        """Returns the relevancy that counts: that of the request, or else the configured one."""
        return self.threshold or (
            config.threshold if self.phrases else config.picture_threshold)

    def readings(self) -> tuple[Reading, ...]:
        """Returns how each of the phrases is understood, with the fields that add to it."""
        return tuple(self._reading(text) for text in self.phrases)

    def _reading(self, text: str) -> Reading:
        reading = Reading(text, Thing(text)) if self.whole_phrase else read(text)
        thing, looks = reading.thing, tuple(map(str.lower, self.colors))
        return replace(
            reading, relations=(*reading.relations, *self.relations), thing=replace(
                thing, colors=tuple(dict.fromkeys((*thing.colors, *looks))),
                sizes=tuple(dict.fromkeys((*thing.sizes, *map(str.lower, self.sizes))))))

    def check(self) -> None:
        """Checks that the request can be answered.

        Raises EmptyTextError, EmptyNegativeError, InvalidThresholdError or InvalidRequestError.
        """
        given = [self.text.strip() != '', bool(self.texts), self.image is not None,
                 self.crop is not None]
        if sum(given) == 0 or any(not text.strip() for text in self.texts):
            raise EmptyTextError('the phrase is empty: say what to look for, such as "red mug"')
        if sum(given) > 1:
            raise InvalidRequestError('text, texts, image and keyframe_crop ask for different '
                                      'things: give one of them')
        if any(not text.strip() for text in (*self.negatives, *self.rather_than)):
            raise EmptyNegativeError('a negative phrase is empty: leave it out, or send no '
                                     'negatives to use the configured ones')
        if not (math.isfinite(self.threshold) and 0 <= self.threshold <= 1):
            raise InvalidThresholdError(f'threshold {self.threshold} is not between 0 and 1 '
                                        '(0 takes the configured one)')
        self._check_lengths()
        self._check_region()
        self._check_clauses()

    def _check_clauses(self) -> None:
        for words, known, what in ((self.colors, COLORS, 'colour'),
                                   (self.sizes, {**SIZES, **SUPERLATIVES}, 'size')):
            unknown = [word for word in words if word.lower() not in known]
            if unknown:
                raise InvalidRequestError(f'{unknown[0]!r} is no known {what}: '
                                          f'known are {", ".join(known)}')
        if (self.colors or self.sizes or self.relations) and not self.phrases:
            raise InvalidRequestError('colours, sizes and relations need a phrase: a picture is '
                                      'looked for as it is')

    def _check_lengths(self) -> None:
        words = [word for word in (self.text, *self.texts, *self.negatives, *self.rather_than,
                                   self.part, *self._anchors()) if word]
        if len(words) > MAX_PHRASES:
            raise InvalidRequestError(f'{len(words)} phrases in one request: at most '
                                      f'{MAX_PHRASES} are answered; send several requests')
        longest = max(map(len, words), default=0)
        if longest > MAX_CHARACTERS:
            raise InvalidRequestError(f'a phrase of {longest} characters: at most '
                                      f'{MAX_CHARACTERS} are read')

    def _anchors(self) -> list[str]:
        return [anchor.noun for relation in self.relations for anchor in relation.anchors]

    def _check_region(self) -> None:
        if self.region is None:
            return
        numbers = np.concatenate([self.region.T_world_region.ravel(), self.region.size])
        if not np.isfinite(numbers).all() or (self.region.size <= 0).any():
            raise InvalidRequestError('the region needs a finite pose and three positive lengths')


def relation(kind: str, *anchors: str) -> Relation:
    """Returns a relation, such as relation('on', 'blue box'), for a request.

    kind: a value of RelationKind, or a superlative of one thing among others ('leftmost',
    'nearest'). anchors: two phrases for 'between', one otherwise, with colours and sizes where
    need be; 'me' is the viewer. Raises InvalidRequestError.
    """
    kind = kind.strip().lower().replace('_', ' ')
    if kind in CHOICES and not anchors:
        choice = CHOICES[kind]
        alone = choice in (RelationKind.NEAREST_TO, RelationKind.FARTHEST_FROM)
        return Relation(choice, (VIEWER,) if alone else ())
    try:
        known = RelationKind(kind)
    except ValueError:
        names = ', '.join(repr(k.value) for k in RelationKind)
        raise InvalidRequestError(f'{kind!r} is no known relation: known are {names}, and '
                                  f'without an anchor {", ".join(map(repr, CHOICES))}') from None
    wanted = 2 if known is RelationKind.BETWEEN else 1
    if len(anchors) != wanted:
        raise InvalidRequestError(f'{kind!r} needs {wanted} anchor{"s" * (wanted > 1)}, not '
                                  f'{len(anchors)}')
    return Relation(known, tuple(map(anchor_of, anchors)))


def anchor_of(phrase: str) -> Thing:
    """Returns the thing that a phrase names; raises InvalidRequestError."""
    try:
        thing, choices = thing_of(phrase.lower().split(), viewer=True)
    except NotUnderstood as error:
        raise InvalidRequestError(f'the anchor {phrase!r}: {error}') from None
    if choices:
        raise InvalidRequestError(f'the anchor {phrase!r} is chosen among others: ask for it first')
    return thing


def split_phrases(text: str) -> tuple[str, ...]:
    """Returns the phrases between the semicolons of a text, without surrounding or empty space."""
    return tuple(phrase.strip() for phrase in text.split(SEPARATOR) if phrase.strip())

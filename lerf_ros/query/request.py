# SPDX-License-Identifier: Apache-2.0
"""What is asked of a map: immutable, checked on arrival, in world coordinates, without ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lerf_ros.errors import (
    EmptyNegativeError,
    EmptyTextError,
    InvalidRequestError,
    InvalidThresholdError,
)
from lerf_ros.geometry.region import Region

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
    values.
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

    @property
    def phrases(self) -> tuple[str, ...]:
        """Returns the phrases to look for; empty when the question is an image."""
        return self.texts or ((self.text,) if self.text.strip() else ())

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

    def _check_lengths(self) -> None:
        words = [word for word in (self.text, *self.texts, *self.negatives, *self.rather_than,
                                   self.part) if word]
        if len(words) > MAX_PHRASES:
            raise InvalidRequestError(f'{len(words)} phrases in one request: at most '
                                      f'{MAX_PHRASES} are answered; send several requests')
        longest = max(map(len, words), default=0)
        if longest > MAX_CHARACTERS:
            raise InvalidRequestError(f'a phrase of {longest} characters: at most '
                                      f'{MAX_CHARACTERS} are read')

    def _check_region(self) -> None:
        if self.region is None:
            return
        numbers = np.concatenate([self.region.T_world_region.ravel(), self.region.size])
        if not np.isfinite(numbers).all() or (self.region.size <= 0).any():
            raise InvalidRequestError('the region needs a finite pose and three positive lengths')


def split_phrases(text: str) -> tuple[str, ...]:
    """Returns the phrases between the semicolons of a text, without surrounding or empty space."""
    return tuple(phrase.strip() for phrase in text.split(SEPARATOR) if phrase.strip())

# SPDX-License-Identifier: Apache-2.0
"""A request turned into embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from lerf_ros.errors import BadImageError, DatasetError, NotUnderstoodError
from lerf_ros.frames.image_files import read_color
from lerf_ros.query.answer import PhraseAnswer
from lerf_ros.query.parts import part_phrase
from lerf_ros.query.phrases.reading import Reading, Viewpoint
from lerf_ros.query.request import KeyframeCrop, QueryRequest
from lerf_ros.query.spelling import doubtful_spelling
from lerf_ros.query.text_query import TextEncoder, TextQuery

MIN_IMAGE_PX = 8   # an image with a shorter side shows nothing


@dataclass(frozen=True)
class Question:
    """What to look for: unit embeddings (P, D), and those of the negatives (M, D).

    names: P labels for the hits. part: the part that is wanted, and parts: unit embeddings (P, D)
    of that part of each thing; empty and None for the things themselves. doubt: why a phrase may
    not have been understood; empty where there is no doubt. readings: how each of P phrases was
    read, none for a picture. rows: unit embeddings (D,) of the nouns in readings that are not
    plain, and of those with their colours. picture: whether it asks with one.
    """

    names: tuple[str, ...]
    positives: np.ndarray
    negatives: np.ndarray
    part: str = ''
    parts: np.ndarray | None = None
    doubt: str = ''
    readings: tuple[Reading, ...] = ()
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    picture: bool = False


def negative_phrases(request: QueryRequest, configured: Sequence[str]) -> list[str]:
    """Returns the request's negatives, or else the configured ones, and its `rather_than`."""
    return [*(request.negatives or configured), *request.rather_than]


def encode_phrases(request: QueryRequest, encoder: TextEncoder,
                   configured: Sequence[str]) -> Question:
    """Returns the question of a request in words. The encoder is called once for all phrases.

    Raises NotUnderstoodError for phrases that the encoder cannot read.
    """
    readings, part = request.readings(), request.part.strip()
    nouns = [reading.thing.noun for reading in readings]
    of_parts = [part_phrase(noun, part) for noun in nouns] if part else []
    named = list(dict.fromkeys(
        text for reading in readings if not reading.plain
        for thing in (reading.thing, *reading.things) for text in (thing.noun, thing.described)))
    rivals = negative_phrases(request, configured)
    check_readable(encoder, [*nouns, *named, *filter(None, [part]), *rivals])
    rows, negatives = encode_against([*nouns, *of_parts, *named], rivals, encoder)
    things, parts = rows[:len(nouns)], rows[len(nouns):len(nouns) + len(of_parts)]
    wholes = [f'{reading.text!r} is asked as a whole: {reading.not_understood}'
              for reading in readings if reading.not_understood]
    doubt = '; '.join(filter(None, [check_language(encoder, nouns, things),
                                    doubtful_spelling([*request.phrases, part]), *wholes]))
    return Question(request.phrases, things, negatives, part, parts if part else None, doubt,
                    readings, dict(zip(named, rows[len(nouns) + len(of_parts):], strict=True)))


# The negatives of an encoder's newest question and their embeddings: questions share them.
_negatives: WeakKeyDictionary[TextEncoder, tuple[tuple[str, ...], np.ndarray]] = WeakKeyDictionary()


def encode_against(phrases: Sequence[str], negatives: Sequence[str],
                   encoder: TextEncoder) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit embeddings of phrases (P, D) and of negatives (M, D).

    The encoder is called once at most, without the negatives if they are those of its question
    before. That also keeps their embeddings the same bit by bit.
    """
    known, rows = _negatives.get(encoder, ((), np.zeros((0, 0), np.float32)))
    if known == tuple(negatives):
        return (encoder.encode_texts(phrases) if phrases else rows[:0]), rows
    both = encoder.encode_texts([*phrases, *negatives])
    _negatives[encoder] = tuple(negatives), both[len(phrases):]
    return both[:len(phrases)], both[len(phrases):]


def image_question(request: QueryRequest, embedding: np.ndarray, query: TextQuery) -> Question:
    """Returns the question of a request with an image, which has the embedding (1, D).

    Images are nearer to each other than to any phrase. So the mean embedding of the map is one more
    negative: a place must look more like this image than like the map in general.
    """
    phrases, part = negative_phrases(request, query.config.negatives), request.part.strip()
    generic = query.index.mean_embedding()
    name = 'picture' if request.crop is None else f'keyframe {request.crop.keyframe}'
    asked = [*phrases, part] if part else phrases
    check_readable(query.encoder, asked)
    rows, negatives = encode_against([part] if part else [], phrases, query.encoder)
    return Question((name,), embedding, np.concatenate([negatives, generic[None]]), part,
                    rows if part else None, picture=True)


@runtime_checkable
class PhraseChecker(Protocol):
    """An encoder that knows which phrases it cannot read."""

    def unreadable(self, text: str) -> str:
        """Returns why a phrase cannot be read; empty where it can."""


@runtime_checkable
class LanguageDetector(Protocol):
    """An encoder of one language that can tell from an embedding whether a phrase belongs to it."""

    def doubts(self, texts: Sequence[str], rows: np.ndarray) -> tuple[list[str], list[str]]:
        """Returns the texts, with embeddings (N, D), that are foreign, and those that may be."""


def check_readable(encoder: TextEncoder, texts: Sequence[str]) -> None:
    """Raises NotUnderstoodError, which names the phrases that the encoder cannot read."""
    if not isinstance(encoder, PhraseChecker):
        return
    unread = [f'{text!r} ({why})' for text in texts if (why := encoder.unreadable(text))]
    if unread:
        raise NotUnderstoodError(
            f"the map's encoder cannot read {', '.join(unread)}: nothing can be said of whether it "
            'is there. Ask in English words, or with a picture')


def check_language(encoder: TextEncoder, texts: Sequence[str], rows: np.ndarray) -> str:
    """Returns a remark on phrases, with embeddings (N, D), that may not be English; or ''.

    Raises NotUnderstoodError for phrases that certainly are not English.
    """
    if not isinstance(encoder, LanguageDetector):
        return ''
    foreign, doubtful = encoder.doubts(texts, rows)
    if foreign:
        raise NotUnderstoodError(
            f"the map's encoder reads English alone, and {', '.join(map(repr, foreign))} is not: "
            'nothing can be said of whether it is there. Ask in English words, or with a picture')
    return (f'{", ".join(map(repr, doubtful))} may not be English, which is all that the '
            "map's encoder reads") if doubtful else ''


def request_image(request: QueryRequest, map_directory: Path) -> np.ndarray | None:
    """Returns the image (H, W, 3) uint8 RGB of a request; None when it asks in words.

    Raises BadImageError for an unusable image, and for a keyframe or a crop that does not exist.
    """
    if request.crop is not None:
        return crop_keyframe(request.crop, map_directory)
    if request.image is None:
        return None
    image = request.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise BadImageError(f'the picture has shape {image.shape} and type {image.dtype}: '
                            'height x width x 3 of 8 bits (RGB) is needed')
    return check_size(image)


def crop_keyframe(crop: KeyframeCrop, map_directory: Path) -> np.ndarray:
    """Returns the crop (height, width, 3) uint8 RGB of a stored keyframe; raises BadImageError."""
    file = map_directory / 'images' / f'{crop.keyframe:06d}.png'
    try:
        image = read_color(file)
    except DatasetError as error:
        raise BadImageError(f'keyframe {crop.keyframe} has no image in the map: keyframes count '
                            f'from 0 ({error})') from error
    height, width = image.shape[:2]
    if (crop.x < 0 or crop.y < 0 or crop.width <= 0 or crop.height <= 0
            or crop.x + crop.width > width or crop.y + crop.height > height):
        raise BadImageError(
            f'the crop {crop.width} x {crop.height} at ({crop.x}, {crop.y}) is not inside of '
            f'keyframe {crop.keyframe}, which has {width} x {height} pixels')
    return check_size(image[crop.y:crop.y + crop.height, crop.x:crop.x + crop.width])


def check_size(image: np.ndarray) -> np.ndarray:
    """Returns the image; raises BadImageError when it is too small to show anything."""
    if min(image.shape[:2]) < MIN_IMAGE_PX:
        raise BadImageError(f'the picture has {image.shape[1]} x {image.shape[0]} pixels: at '
                            f'least {MIN_IMAGE_PX} x {MIN_IMAGE_PX} are needed')
    return image


def as_read(phrases: Sequence[PhraseAnswer], question: Question,
            viewer: Viewpoint | None) -> tuple[PhraseAnswer, ...]:
    """Returns the answers with how each phrase was read, and from where its relations are seen."""
    readings = question.readings or [None] * len(phrases)
    return tuple(phrase if reading is None else replace(
        phrase, not_understood=reading.not_understood, understood=str(reading) + (
            f', seen from {viewer.name}' if viewer and reading.needs_viewer else ''))
        for phrase, reading in zip(phrases, readings, strict=True))

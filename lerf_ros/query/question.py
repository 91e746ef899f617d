# SPDX-License-Identifier: Apache-2.0
"""A request as embeddings, and what it finds in an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.query.answer import Hit
from lerf_ros.query.presence import EVEN
from lerf_ros.query.relevancy import best_phrase
from lerf_ros.query.request import QueryRequest, Region
from lerf_ros.query.text_query import TextEncoder, TextQuery, rank


@dataclass(frozen=True)
class Question:
    """What to look for: unit embeddings (P, D) with their names, and those to win against (M, D).

    names: what a hit of each is called, P of them.
    """

    names: tuple[str, ...]
    positives: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True)
class Found:
    """relevancy (N,) of each index point's best phrase, which one that is (N,), and the hits.

    candidate: the best place of all; None where no place beats the negatives.
    """

    relevancy: np.ndarray
    labels: np.ndarray
    hits: tuple[Hit, ...]
    candidate: Hit | None


def negative_phrases(request: QueryRequest, configured: Sequence[str]) -> list[str]:
    """What the request must win against: its negatives or the configured ones, and the rivals."""
    return [*(request.negatives or configured), *request.rather_than]


def encode_phrases(request: QueryRequest, encoder: TextEncoder,
                   configured: Sequence[str]) -> Question:
    """The question of a request in words; all of its phrases go through the encoder at once."""
    phrases = request.phrases
    rows = encoder.encode_texts([*phrases, *negative_phrases(request, configured)])
    return Question(phrases, rows[:len(phrases)], rows[len(phrases):])


def picture_question(request: QueryRequest, picture: np.ndarray, query: TextQuery) -> Question:
    """The question of a request with a picture, whose embedding is (1, D).

    Pictures are nearer to each other than to any phrase, so a place must look more like this
    picture than like the map in general; that also counts as something to win against.
    """
    phrases = negative_phrases(request, query.config.negatives)
    generic = query.index.codes.astype(np.float32).mean((0, 1)) @ query.index.basis.T
    generic /= max(float(np.linalg.norm(generic)), 1e-6)
    name = 'picture' if request.crop is None else f'keyframe {request.crop.keyframe}'
    return Question((name,), picture,
                    np.concatenate([query.encoder.encode_texts(phrases), generic[None]]))


def inside_region(points_world: np.ndarray, region: Region) -> np.ndarray:
    """Which of the points (N, 3) lie in the box (N,)."""
    R, center = region.T_world_region[:3, :3], region.T_world_region[:3, 3]
    return (np.abs((points_world - center) @ R) <= region.size / 2).all(1)


def search(query: TextQuery, question: Question, region: Region | None, threshold: float,
           max_hits: int) -> Found:
    """Every point gets its best phrase; each phrase's hits are made of its own points.

    Outside of the region nothing is relevant. The best hits of all phrases are kept.
    """
    index = query.index
    values, scales, labels = best_phrase(
        index.codes, question.positives @ index.basis, question.negatives @ index.basis,
        query.config.temperature)
    if region is not None:
        values = np.where(inside_region(index.points_world, region), values, 0.0)
    hits: list[Hit] = []
    for label, name in enumerate(question.names):
        own = values if len(question.names) == 1 else np.where(labels == label, values, 0.0)
        hits.extend(replace(hit, label=name)
                    for hit in query.hits(own, scales, threshold, max_hits))
    best = tuple(sorted(hits, key=rank)[:max_hits])
    enough = np.count_nonzero(values > EVEN) >= 2 * query.config.min_points
    place = query.best_place(values, scales) if not best and enough else None
    candidate = best[0] if best else place[0] if place else None
    return Found(values, labels.astype(np.uint32), best, candidate)

# SPDX-License-Identifier: Apache-2.0
"""The control experiment: the same map with a language field that was never trained.

It must find nothing. A pipeline that still answered right would be getting its answers from
somewhere else than the language field.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lerf_ros.field.language_field import LanguageField
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Answer
from lerf_ros.query.language_index import LanguageIndex
from lerf_ros.stored_map import open_map


def control_answers(map_directory: Path, texts: Sequence[str], rays: int = 20000) -> list[Answer]:
    """What the map answers with an untrained language field, its own threshold and encoder."""
    query = MapQuery(map_directory)
    query.refresh()
    query.replace_index(untrained_index(map_directory, rays))
    return [query.answer(text) for text in texts]


def untrained_index(map_directory: Path, rays: int = 20000, seed: int = 0) -> LanguageIndex:
    """The index of the newest snapshot's radiance field with a language field of random weights.

    Raises NoSnapshotError when the map has no snapshot.
    """
    stored = open_map(map_directory, {'index.rays': rays})
    torch.manual_seed(seed)
    language = LanguageField(stored.config.language, stored.language.embedding_dimension, 0)
    # Entries as large as trained ones: with the initial 1e-4 it would hardly depend on position.
    for table in language.encodings.parameters():
        torch.nn.init.uniform_(table, -1, 1)
    return stored.survey(language).index

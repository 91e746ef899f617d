# SPDX-License-Identifier: Apache-2.0
"""The control experiment: the same map with a language field that was never trained.

It must find nothing. A pipeline that still answered right would be getting its answers from
somewhere else than the language field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from lerf_ros.config import LerfConfig
from lerf_ros.errors import NoSnapshotError
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.scene_frame import SceneFrame
from lerf_ros.keyframes.nerfstudio import load_folder
from lerf_ros.map_directory import MapDirectory
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Answer
from lerf_ros.query.language_index import LanguageIndex, build_index
from lerf_ros.query.scales import index_scales
from lerf_ros.query.surface import find_surface, view_grid
from lerf_ros.training.checkpoint import load_fields


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
    directory = MapDirectory(map_directory)
    snapshot = directory.newest()
    if snapshot is None:
        raise NoSnapshotError(f'{map_directory} holds no snapshot')
    meta = directory.meta()
    config = LerfConfig().override(meta['config'])
    radiance, trained = load_fields(config, snapshot.arrays('field'))
    torch.manual_seed(seed)
    language = LanguageField(config.language, trained.embedding_dimension, 0)
    # Entries as large as trained ones: with the initial 1e-4 it would hardly depend on position.
    for table in language.encodings.parameters():
        torch.nn.init.uniform_(table, -1, 1)
    scene = SceneFrame(tuple(meta['scene']['center']), meta['scene']['radius'])
    views = []
    frames = load_folder(map_directory).frames
    step = max(1, math.ceil(math.sqrt(frames[0].camera.width * frames[0].camera.height
                                      * len(frames) / rays)))
    for frame in frames:
        views.append(view_grid(frame.camera, scene.pose_to_scene(frame.T_world_camera), step,
                               frame.valid, torch.device('cpu')))
    surface = find_surface(radiance, views, config.index, config.language.samples)
    scales = index_scales(config.index, scene.radius, tuple(snapshot.info['trained_scales']))
    return build_index(surface, language, scene, scales, config.index)

# SPDX-License-Identifier: Apache-2.0
"""Converts the fields, and the state of their training, to named arrays and back.

Encoders' weights are never among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from lerf_ros.config import LerfConfig
from lerf_ros.errors import MapUnreadableError
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.training.learners import Trainer
from lerf_ros.training.optimizers import Descent

LATEST = 'latest.language.'     # the weights after the last step


def field_arrays(radiance: RadianceField, language: LanguageField) -> dict[str, np.ndarray]:
    """Returns all parameters of both fields, float32, by name."""
    return {f'{part}.{name}': value.detach().cpu().numpy()
            for part, module in (('radiance', radiance), ('language', language))
            for name, value in module.state_dict().items()}


def load_fields(config: LerfConfig, scene: SceneFrame,
                arrays: Mapping[str, np.ndarray]) -> tuple[RadianceField, LanguageField]:
    """Makes both fields with the stored parameters; MapUnreadableError when they do not fit."""
    try:
        embedding = arrays[f'language.embedding_network.{2 * config.language.layers}.bias']
        dense = arrays.get('language.dense_network.2.bias', np.zeros(0))
        radiance = RadianceField(config.field, config.keyframes.max_count, scene.skipped)
        language = LanguageField(config.language, len(embedding), len(dense))
        _load(radiance, 'radiance.', arrays)
        _load(language, 'language.', arrays)
    except (KeyError, RuntimeError) as error:
        raise MapUnreadableError(
            f'the stored field does not fit its settings: {error}') from error
    return radiance, language


def _load(module: nn.Module, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
    module.load_state_dict({name[len(prefix):]: torch.from_numpy(value)
                            for name, value in arrays.items() if name.startswith(prefix)})


def training_arrays(trainer: Trainer) -> dict[str, np.ndarray]:
    """Returns what training needs, beside the fields and the keyframes, to go on exactly."""
    radiance, language = trainer.radiance, trainer.language
    tensors = {
        'counters': torch.tensor([radiance.steps, radiance.newest_step, radiance.schedule.since]),
        'annealing': radiance.annealing.starts.rows, 'coverage': radiance.visited.cells,
        'scales': language.scales.counts,
        'generator.radiance': radiance.generator.get_state(),
        'generator.language': language.generator.get_state(),
        'random': torch.get_rng_state()}
    if trainer.device.type == 'cuda':
        tensors['random_cuda'] = torch.cuda.get_rng_state(trainer.device)
    if radiance.poses is not None:
        tensors['poses'] = radiance.poses.table
    for name, descent in _descents(trainer):
        tensors.update({f'{name}.{key}': value for key, value in descent.state().items()})
    if language.field is not None:
        # A map holds the mean of these.
        tensors.update({f'{LATEST}{name}': value
                        for name, value in language.field.state_dict().items()})
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def load_training(trainer: Trainer, fields: Mapping[str, np.ndarray],
                  arrays: Mapping[str, np.ndarray], rows: Sequence[int] | None = None) -> None:
    """Brings a trainer with the same settings to where another one stopped.

    rows: the stored rows of this trainer's first keyframes; its further rows stay as they are.
    Without it the keyframes must be the same. Raises MapUnreadableError when the arrays do not fit.
    """
    radiance, language = trainer.radiance, trainer.language
    assert language.field is not None and language.average is not None, 'keyframes come first'
    try:
        stored = {name: torch.from_numpy(value) for name, value in arrays.items()}
        present = len(radiance.annealing.starts)
        if rows is None and len(stored['annealing']) != present:
            raise MapUnreadableError(
                f'training stopped with {len(stored["annealing"])} keyframes, now there are '
                f'{present}: resume with the same images')
        known = torch.arange(present) if rows is None else torch.tensor(rows, dtype=torch.int64)
        _load(radiance.field, 'radiance.', fields)
        _load(language.average.module, 'language.', fields)
        # A map of an older version has no mean: its field is the latest.
        latest = {name: value for name, value in arrays.items() if name.startswith(LATEST)}
        _load(language.field, LATEST if latest else 'language.', latest or fields)
        radiance.steps, radiance.newest_step, radiance.schedule.since = \
            stored['counters'].tolist()
        radiance.annealing.starts.rows[:len(known)] = \
            stored['annealing'][known].to(trainer.device)
        radiance.visited.cells.copy_(stored['coverage'])
        language.scales.counts.copy_(stored['scales'])
        if radiance.poses is not None:
            radiance.poses.table.data[:len(known)] = stored['poses'][known].to(trainer.device)
        if radiance.field.appearance is not None:
            radiance.field.appearance.keep_rows(known, present)
        for name, descent in _descents(trainer):
            descent.load_state({key.removeprefix(f'{name}.'): value
                                for key, value in stored.items() if key.startswith(f'{name}.')})
            descent.set_rates(radiance.steps)
        _load_generators(trainer, stored)
    except (KeyError, RuntimeError, IndexError) as error:
        raise MapUnreadableError(
            f'the stored training does not fit its settings: {error}') from error


def _load_generators(trainer: Trainer, stored: Mapping[str, torch.Tensor]) -> None:
    trainer.radiance.generator.set_state(stored['generator.radiance'])
    trainer.language.generator.set_state(stored['generator.language'])
    torch.set_rng_state(stored['random'])
    if trainer.device.type == 'cuda' and 'random_cuda' in stored:
        torch.cuda.set_rng_state(stored['random_cuda'], trainer.device)


def _descents(trainer: Trainer) -> list[tuple[str, Descent]]:
    found = [('radiance', trainer.radiance.descent)]
    if trainer.language.descent is not None:
        found.append(('language', trainer.language.descent))
    return found

# SPDX-License-Identifier: Apache-2.0
"""The presets of the method, made small, find things; language never touches the density."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_end_to_end import SMALL, assert_in_cube
from tiny_world import COLORS, CUBES, WORDS, ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.config import load_preset, preset_path
from lerf_ros.field import radiance_field
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.storage.map_directory import MapDirectory

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / 'config' / 'presets').is_dir():
    pytest.skip('not run from the source tree', allow_module_level=True)
VIEWS = 24
# What makes a preset small enough for a CPU; the rules, losses and schedules stay its own. The
# features of LERF's pyramid are crops, so a crop that fills a cube must be among them.
SHRUNK = {
    'scene.keyframes': VIEWS, 'features.dense_model': '', 'training.device': 'cpu',
    'field.log2_table': 13, 'field.max_resolution': 128, 'field.levels': 6,
    'field.proposal_log2_table': 12, 'field.samples': 16,
    'language.log2_table': 11, 'language.hidden': 32,
    'training.rays': 256, 'training.language_rays': 96, 'field.near': 0.4,
    'index.rays': 8000, 'index.scales': 4, 'index.rank': 9, 'index.voxel': 0.02,
    'query.cluster_radius': 0.08, 'query.min_points': 5}


class CropEncoder:
    """Knows the colours of whole crops, as CLIP does: every place needs crops of its own."""

    name, dimension = ColorEncoder.name, ColorEncoder.dimension

    def identity(self):
        return {'name': self.name}

    def encode_texts(self, texts):
        return ColorEncoder().encode_texts(texts)

    def encode_images(self, images):
        return ColorEncoder().encode_images(images)

    def encode_squares(self, squares):
        """The same as encode_images for crops (N, side, side, 3), faster."""
        shares = np.zeros((len(squares), self.dimension))
        for i, color in enumerate(COLORS.values()):
            near = np.abs(squares.astype(np.int16) - np.array(color, np.int16)).max(-1) < 30
            shares[:, i] = near.mean((1, 2))
        shares[:, WORDS.index('floor')] = 1 - shares.sum(1)
        return (shares / np.linalg.norm(shares, axis=1, keepdims=True)).astype(np.float32)


def small(name, **changes):
    config = load_preset(preset_path(name, ROOT))
    samples = [max(16, n // 8) for n in config.field.proposal_samples]
    return config.override({**SHRUNK, 'field.proposal_samples': samples, **changes})


def mapper_of(folder, config, encoder, frames):
    mapper = Mapper(config, MapDirectory(folder, True), encoder, 'map', True)
    for frame in frames:
        mapper.add_frame(frame)
    return mapper


def run(mapper, steps):
    return [mapper.guard.step() for _ in range(steps)]


def radiance_of(mapper):
    return [value.detach().clone() for value in mapper.trainer.radiance.field.parameters()]


# Kinds of encoders, and where paper and released code differ: a temperature of 1 leaves relevancy
# near 0.5, and the preset's threshold is made for it.
CASES = [('reference', CropEncoder), ('paper', CropEncoder), ('online', CropEncoder)]


@pytest.mark.parametrize('name, make', CASES)
def test_a_preset_made_small_finds_the_cubes(name, make, tmp_path, monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: make())
    # Only `online` uses the depth that all frames have; the others learn from colour alone.
    views, steps = (16, 150) if name == 'online' else (VIEWS, 250)
    config = small(name, **{'scene.keyframes': views})
    mapper = mapper_of(tmp_path, config, make(), [photograph(T) for T in orbit(views)])
    run(mapper, steps)
    mapper.snapshot()
    assert mapper.trainer.language.targets.blend == (
        'log' if name == 'online' else 'linear')
    query = MapQuery(tmp_path)
    assert query.refresh()
    for word in COLORS:
        answer = query.answer(word)
        # Relevancies saturate here, and the floor around a cube may be as relevant as the cube.
        best = [hit for hit in answer.hits if hit.relevancy > answer.hits[0].relevancy - 1e-4]
        assert_in_cube(replace(answer, hits=tuple(sorted(
            best, key=lambda hit: np.abs(hit.position - np.mean(CUBES[word], 0)).max()))), word,
            margin=0.1)
    low, high = mapper.trainer.language.trained_scales()
    scales = MapDirectory(tmp_path).newest().arrays('index')['scales'] / mapper.trainer.scene.radius
    assert (scales >= low * 0.999).all() and (scales <= high * 1.001).all()


def test_the_pyramid_of_the_released_code_has_seven_levels(tmp_path):
    mapper = mapper_of(tmp_path, small('reference', **{'scene.keyframes': 1}), CropEncoder(),
                       [photograph(orbit(1)[0])])
    levels = mapper.extractor.extract(photograph(orbit(1)[0])).levels
    # Parts 0.05, 0.125, ..., 0.5 of 72 pixels.
    assert [level.width_px for level in levels] == [3, 9, 14, 19, 25, 30, 36]


# Everything of language that could reach the radiance field: through gradients, through the loss,
# through the random numbers that it draws or that its weights start from.
LANGUAGES = [
    {}, {'training.language_weight': 0.0, 'training.dense_weight': 0.0},
    {'training.language_weight': 50.0, 'training.language_rays': 17},
    {'language.hidden': 16, 'language.levels': [2, 3], 'language.base_resolutions': [16, 32],
     'language.max_resolutions': [32, 64]},
    {'language.scale_rule': 'none', 'language.samples': 2, 'features.widths': [0.05, 0.3],
     'training.language_optimizer': 'radam', 'training.embedding_loss': 'huber'}]


def test_no_setting_of_language_changes_the_radiance_field(tmp_path):
    frames = [photograph(T) for T in orbit(6)]
    config = SMALL.override({'field.appearance': 4, 'poses.refine': True, 'training.rays': 64})
    fields, losses = [], []
    for index, settings in enumerate(LANGUAGES):
        mapper = mapper_of(tmp_path / str(index), config.override(settings), ColorEncoder(), frames)
        losses.append(run(mapper, 12)[-1].loss)
        fields.append([*radiance_of(mapper), mapper.trainer.radiance.poses.table])
    assert len(set(losses)) == len(LANGUAGES)      # while language itself was another each time
    for other in fields[1:]:
        assert all(torch.equal(a, b) for a, b in zip(fields[0], other, strict=True))


class BrokenEncoder(ColorEncoder):
    """Gives no numbers for a part of the second image that it sees."""

    def __init__(self):
        self.images = 0

    def dense(self, image, factor):
        found = super().dense(image, factor)
        self.images += 1
        if self.images == 2:
            found.weights[:, :4] = np.nan
        return found

    def dense_with_features(self, image, factor):
        features = np.ones((4, 4, 3), np.float16) / np.float16(np.sqrt(3))
        if self.images == 1:
            features[1] = np.nan
        return self.dense(image, factor), features


@pytest.mark.parametrize('kind', ['cosine', 'huber'])
def test_features_that_are_no_numbers_do_no_harm(kind, tmp_path):
    config = SMALL.override({'training.embedding_loss': kind, 'training.rays': 64})
    mapper = mapper_of(tmp_path, config, BrokenEncoder(), [photograph(T) for T in orbit(6)])
    targets, _ = mapper.trainer.language.targets.embeddings(
        torch.ones(64, dtype=torch.long), torch.rand(64, 2) * 70, torch.Generator())
    assert 10 < torch.isnan(targets).any(-1).sum() < 64        # the test is not empty
    assert_goes_on_down(mapper, run(mapper, 60))


@pytest.mark.parametrize(('weight', 'columns'), [(0.3, 3), (0.0, 0)])
def test_a_head_that_nothing_trains_is_no_part_of_the_map(weight, columns, tmp_path):
    """Things are told apart by dense features: those of an untrained head would be noise."""
    config = SMALL.override({'training.dense_weight': weight, 'training.rays': 64})
    mapper = mapper_of(tmp_path, config, BrokenEncoder(), [photograph(T) for T in orbit(6)])
    run(mapper, 2)
    mapper.snapshot()
    names = MapDirectory(tmp_path).newest().arrays('field')
    assert any('dense_network' in name for name in names) == bool(columns)
    assert mapper.trainer.language.field.dense_dimension == columns


def test_rays_that_see_nothing_do_no_harm(tmp_path, monkeypatch):
    mapper = mapper_of(tmp_path, SMALL.override({'training.rays': 64}), ColorEncoder(),
                       [photograph(T) for T in orbit(6)])
    reports = run(mapper, 10)
    with monkeypatch.context() as empty:
        empty.setattr(radiance_field, 'density', lambda raw, config: 0 * raw)
        batch = mapper.trainer.radiance.store.grid_of(0, 50)
        assert mapper.trainer.radiance.field(batch.rays).accumulation.abs().max() == 0
        run(mapper, 3)
    assert_goes_on_down(mapper, reports + run(mapper, 50))


def assert_goes_on_down(mapper, reports):
    learners = mapper.trainer
    for module in (learners.radiance.field, learners.language.field):
        assert all(torch.isfinite(p).all() for p in module.parameters())
    losses = [report.loss for report in reports]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])

# SPDX-License-Identifier: Apache-2.0
"""The presets against the method's published numbers: the paper (arXiv 2303.09553), its code."""

from pathlib import Path

import pytest

from lerf_ros.config import LerfConfig, load_preset, preset_path
from lerf_ros.errors import ConfigError
from lerf_ros.settings import flat_fields

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / 'config' / 'presets').is_dir():
    pytest.skip('not run from the source tree', allow_module_level=True)
NAMES = sorted(p.stem for p in (ROOT / 'config' / 'presets').glob('*.yaml'))

# setting: (paper, reference, lite, big)
TABLE = {
    'language.levels': ((32,), (12, 12), (16,), (16, 16)),
    'language.base_resolutions': ((16,), (16, 128), (16,), (16, 128)),
    'language.max_resolutions': ((512,), (128, 512), (512,), (128, 512)),
    'language.log2_table': (21, 19, 19, 19),
    'language.features': (8, 8, 8, 8),
    'language.layers': (3, 4, 4, 4),
    'language.hidden': (256, 256, 256, 256),
    'language.dense_hidden': (256, 256, 256, 256),
    'language.samples': (24, 24, 12, 32),
    'language.scale_rule': ('width', 'reference', 'reference', 'reference'),
    'training.embedding_loss': ('cosine', 'huber', 'huber', 'huber'),
    'training.huber_delta': (1.25, 1.25, 1.25, 1.25),
    'training.language_weight': (0.01, 0.1, 0.1, 0.1),
    'training.language_optimizer': ('adam', 'radam', 'radam', 'radam'),
    'training.language_weight_decay': (1e-9, 1e-9, 1e-9, 1e-9),
    'training.language_learning_rate': (1e-2, 1e-2, 1e-2, 1e-2),
    'training.language_final_learning_rate': (1e-3, 1e-3, 1e-3, 1e-3),
    'training.language_decay_steps': (5000, 4000, 7000, 3000),
    'training.language_average_steps': (1, 1, 1, 1),
    'training.optimizer': ('adam', 'adam', 'radam', 'adam'),
    'training.rays': (4096, 4096, 4096, 4096),
    'features.openclip_model': ('ViT-B-16', 'ViT-B-16', 'ViT-B-16', 'ViT-L-14'),
    'features.overlap_small': (0.5, 0.0, 0.0, 0.0),
    'features.overlap': (0.5, 0.5, 0.5, 0.5),
    'query.temperature': (1.0, 10.0, 10.0, 10.0),
    'index.search_high': (2.0, 1.5, 1.5, 1.5),
    'index.search_unit': ('world', 'scene', 'scene', 'scene'),
    'index.search_steps': (30, 30, 30, 30),
    'index.min_keyframes': (5, 1, 1, 1),
    'index.look_views': (0, 0, 0, 0),
    'field.proposal_samples': ((256, 96),) * 4,
    'field.samples': (48,) * 4,
}


def of(name):
    return load_preset(preset_path(name, ROOT))


@pytest.mark.parametrize('name', NAMES)
def test_every_preset_loads_and_overrides_something(name):
    changed = [n for n, _, value in flat_fields(of(name))
               if value != dict((k, v) for k, _, v in flat_fields(LerfConfig()))[n]]
    assert changed


@pytest.mark.parametrize('column, name', list(enumerate(['paper', 'reference', 'lite', 'big'])))
def test_presets_have_the_published_numbers(column, name):
    values = {n: value for n, _, value in flat_fields(of(name))}
    assert {key: values[key] for key in TABLE} == {key: row[column] for key, row in TABLE.items()}


def test_nerfacto_numbers_of_the_reference():
    config = of('reference')
    f, t, p = config.field, config.training, config.poses
    assert (f.levels, f.base_resolution, f.max_resolution, f.log2_table, f.features) == (
        16, 16, 2048, 19, 2)
    assert (f.near, f.skipped, f.far, f.histogram_padding, f.single_jitter) == (
        0.05, 0.0, 1000.0, 0.01, True)
    assert (f.proposal_resolutions, f.proposal_levels, f.proposal_log2_table) == (
        (128, 256), 5, 17)
    assert (f.hidden, f.layers, f.geometry_features, f.color_hidden, f.color_layers) == (
        64, 1, 15, 64, 2)
    assert (f.appearance, f.harmonics, f.background, f.initial_density) == (
        32, 4, 'last_sample', 1.0)
    assert (t.learning_rate, t.final_learning_rate, t.decay_steps, t.beta2) == (
        1e-2, 1e-3, 30000, 0.999)
    assert (t.interlevel_weight, t.distortion_weight, t.anneal_steps, t.anneal_slope) == (
        1.0, 0.002, 1000, 10.0)
    assert (t.proposal_every, t.proposal_warmup) == (5, 5000)
    assert (p.refine, p.learning_rate, p.final_learning_rate, p.decay_steps) == (
        True, 1e-3, 1e-4, 5000)
    assert (p.translation_penalty, p.rotation_penalty, p.start_step) == (1e-2, 1e-3, 0)


def test_the_two_contractions_of_the_released_code():
    config = of('reference')
    assert (config.field.contraction, config.language.contraction) == ('max', 'euclidean')


def test_parameters_of_the_reference_grids():
    """19.8 M and 50.3 M for the two grids of the released code, 42.0 M for lerf-lite's one."""
    from lerf_ros.field.hash_encoding import level_geometry
    for name, expected in (('reference', (19.8, 50.3)), ('lite', (42.0,))):
        g = of(name).language
        sizes = [sum(level_geometry(levels, base, finest, g.log2_table)['size']) * g.features / 1e6
                 for levels, base, finest in zip(g.levels, g.base_resolutions, g.max_resolutions,
                                                 strict=True)]
        assert sizes == pytest.approx(expected, rel=0.01)


def test_a_preset_that_does_not_exist_names_those_that_do():
    with pytest.raises(ConfigError, match='reference'):
        preset_path('referense', ROOT)
    with pytest.raises(ConfigError, match='no such file'):
        preset_path('nowhere.yaml')


def test_a_base_chain(tmp_path):
    (tmp_path / 'a.yaml').write_text('training: {rays: 100}\nfield: {levels: 3}\n')
    (tmp_path / 'b.yaml').write_text('base: a\ntraining: {rays: 200}\n')
    config = load_preset(tmp_path / 'b.yaml')
    assert (config.training.rays, config.field.levels) == (200, 3)
    (tmp_path / 'c.yaml').write_text('base: c\n')
    with pytest.raises(ConfigError, match='itself'):
        load_preset(tmp_path / 'c.yaml')


def test_the_reference_scale_needs_its_pyramid():
    with pytest.raises(ConfigError, match='fractions'):
        LerfConfig().override({'language.scale_rule': 'reference'})

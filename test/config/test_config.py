# SPDX-License-Identifier: Apache-2.0
"""Settings: checked when made, overridden by name, errors that say what to do."""

import dataclasses

import pytest

from lerf_ros.config import KeyframeConfig, LerfConfig, load_preset
from lerf_ros.errors import ConfigError
from lerf_ros.settings import flat_fields, to_dict


def test_every_setting_has_a_meaning_and_a_default_within_its_range():
    """Making the defaults checks them; descriptors need a text."""
    for name, field, value in flat_fields(LerfConfig()):
        assert field.metadata.get('doc'), f'{name} has no meaning'
        assert dataclasses.replace(LerfConfig()).override({name: value}) == LerfConfig()


def test_overrides_nested_and_dotted_are_the_same():
    nested = LerfConfig().override({'keyframes': {'min_rotation': 5.0}})
    assert nested == LerfConfig().override({'keyframes.min_rotation': 5.0})
    assert nested.keyframes.min_rotation == 5.0
    assert nested.keyframes.min_translation == LerfConfig().keyframes.min_translation


def test_integers_pass_for_floats_and_lists_for_tuples():
    config = LerfConfig().override({'keyframes.min_rotation': 5, 'features.widths': [1, 2]})
    assert isinstance(config.keyframes.min_rotation, float)
    assert config.features.widths == (1.0, 2.0) and isinstance(config.features.widths[0], float)


def test_powers_of_ten_are_numbers_as_yaml_has_them(tmp_path):
    """YAML 1.1 reads 5e-4 as text, because it has no point."""
    preset = tmp_path / 'slow.yaml'
    preset.write_text('poses: {learning_rate: 5e-4}\n')
    assert load_preset(preset).poses.learning_rate == 5e-4
    with pytest.raises(ConfigError, match='expected float, got str'):
        LerfConfig().override({'poses.learning_rate': 'e4'})


@pytest.mark.parametrize('name, hint', [
    ('keyframes.min_rotaton', "'keyframes.min_rotation'"),
    ('keyframes.min_translatoin', "'keyframes.min_translation'"),
    ('rays', "rays'")])
def test_a_misspelt_setting_names_the_nearest(name, hint):
    with pytest.raises(ConfigError) as raised:
        LerfConfig().override({name: 1})
    assert repr(name) in str(raised.value) and f'did you mean {hint}' in str(raised.value).replace(
        "'training.rays'", "rays'").replace("'index.rays'", "rays'")


def test_a_name_that_is_like_nothing_gets_no_hint():
    with pytest.raises(ConfigError) as raised:
        LerfConfig().override({'qqqqqqqq': 1})
    assert 'did you mean' not in str(raised.value)


@pytest.mark.parametrize('overrides, part', [
    ({'keyframes.min_rotation': 'far'}, "min_rotation = 'far': expected float"),
    ({'keyframes.min_rotation': True}, 'expected float'),
    ({'keyframes.min_rotation': 181}, 'between 0.0 and 180.0 degrees'),
    ({'keyframes.min_rotation': float('nan')}, 'must lie between'),
    ({'keyframes.max_count': 7.5}, 'expected int'),
    ({'features.widths': [0.1, -1.0]}, 'widths = -1.0'),
    ({'features.widths': 'wide'}, 'expected a list'),
    ({'scene.center': [1.0, 2.0]}, 'give x, y, z'),
    ({'field.proposal_samples': [64, 32]}, 'one for each proposal')])
def test_values_that_cannot_be(overrides, part):
    with pytest.raises(ConfigError, match=part):
        LerfConfig().override(overrides)


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        KeyframeConfig().min_rotation = 3.0


def test_to_dict_and_back():
    config = LerfConfig().override({'training.rays': 64, 'query.negatives': ['thing']})
    assert LerfConfig().override(to_dict(config)) == config


def test_presets(tmp_path):
    path = tmp_path / 'preset.yaml'
    path.write_text('keyframes:\n  min_rotation: 3\n')
    assert load_preset(path).keyframes.min_rotation == 3.0
    base = LerfConfig().override({'keyframes.max_count': 9})
    assert load_preset(path, base).keyframes.max_count == 9
    path.write_text('')
    assert load_preset(path) == LerfConfig()


@pytest.mark.parametrize('content, part', [
    ('- 1', 'must be a mapping'), ('{', 'cannot be read'),
    ('keyframe:\n  min_rotation: 3', 'did you mean')])
def test_broken_presets(tmp_path, content, part):
    path = tmp_path / 'preset.yaml'
    path.write_text(content)
    with pytest.raises(ConfigError, match=part):
        load_preset(path)
    with pytest.raises(ConfigError, match='cannot be read'):
        load_preset(tmp_path / 'none.yaml')

# SPDX-License-Identifier: Apache-2.0
"""A finished map's index built anew from its stored fields, without training."""

import numpy as np
import pytest
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros import cli
from lerf_ros.errors import ConfigError, NoSnapshotError
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.reindex import open_stored_map, reindex
from lerf_ros.storage.map_directory import MapDirectory

CONFIG = SMALL.override({'poses.refine': True, 'poses.start_step': 0, 'field.appearance': 2})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('map')
    mapper = Mapper(CONFIG, MapDirectory(path, True), ColorEncoder(), 'map', True)
    for T in orbit(10):
        mapper.add_frame(photograph(T))
    for _ in range(60):
        mapper.guard.step()
    mapper.snapshot()
    return path


def test_the_same_settings_give_the_same_index(folder):
    """Also with refined poses, and with a held-out keyframe in between (the eighth of ten)."""
    before = MapDirectory(folder).newest()
    poses = before.arrays('training')['poses']
    assert np.abs(poses[:9]).max(1).min() > 0 and not poses[9:].any()
    assert len(before.arrays('index')['look_keyframes'])
    assert reindex(folder, encoder=ColorEncoder()) == before.number + 1
    after = MapDirectory(folder).newest()
    assert after.info['files'] == before.info['files']     # the checksums of all arrays
    assert after.info['encoder'] == before.info['encoder']
    assert after.info['stamp_ns'] > before.info['stamp_ns']


def test_other_settings_give_another_index_of_the_same_field(folder, capsys):
    before = MapDirectory(folder).newest()
    assert cli.main(['reindex', str(folder), '--set', 'index.rays=2000', 'query.max_hits=3']) == 0
    after = MapDirectory(folder).newest()
    assert f'snapshot {after.number}' in capsys.readouterr().out
    assert 0 < after.info['points'] < before.info['points']
    assert after.info['files']['field.safetensors'] == before.info['files']['field.safetensors']
    assert open_stored_map(folder).config.query.max_hits == 3


def test_what_was_trained_cannot_change(folder):
    with pytest.raises(ConfigError, match='field.levels: a finished map is trained'):
        reindex(folder, {'field.levels': 4})


def test_nothing_to_reindex(tmp_path):
    with pytest.raises(NoSnapshotError):
        reindex(tmp_path)

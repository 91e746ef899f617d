# SPDX-License-Identifier: Apache-2.0
"""Devices that are not there are named, with what to do, wherever they are given."""

import pytest
import torch
from hand_made_map import write_map

from lerf_ros import cli
from lerf_ros.errors import ConfigError
from lerf_ros.map_query import MapQuery
from lerf_ros.training.devices import choose_device, process_group


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


def test_a_gpu_that_is_not_there_is_named_with_advice(no_gpu, tmp_path):
    for make in (choose_device, lambda name: MapQuery(tmp_path, device=name)):
        with pytest.raises(ConfigError, match=r"device 'cuda:1': there is no GPU.*choose cpu"):
            make('cuda:1')
    assert choose_device('auto').type == 'cpu'


def test_a_gpu_beyond_those_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert choose_device('cuda:1').index == 1
    with pytest.raises(ConfigError, match='there are 2 GPUs here, counted from 0'):
        choose_device('cuda:2')


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="'gpu': torch knows no such device"):
        choose_device('gpu')


def test_the_command_line_ends_with_2_and_one_line(no_gpu, tmp_path, capsys):
    pytest.importorskip('viser', reason='viser is not installed: pip install .[view]')
    assert cli.main(['view', str(write_map(tmp_path / 'map')), '--device', 'cuda']) == 2
    assert 'no GPU' in capsys.readouterr().err


def test_each_process_of_a_group_has_a_gpu_of_its_own(monkeypatch):
    done = []
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda number: done.append(('device', number)))
    monkeypatch.setattr(torch.distributed, 'init_process_group',
                        lambda backend: done.append(('join', backend)))
    monkeypatch.setattr(torch.distributed, 'barrier', lambda: None)
    monkeypatch.setattr(torch.distributed, 'destroy_process_group', lambda: None)
    with process_group():
        assert done == [('device', 1), ('join', 'nccl')]

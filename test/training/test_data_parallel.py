# SPDX-License-Identifier: Apache-2.0
"""Several processes train one map: gradients are the mean, and the map is that of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
import yaml
from test_end_to_end import SMALL
from tiny_world import orbit, photograph
from torch import distributed, nn

from lerf_ros.frames.frame import Keyframe
from lerf_ros.settings import flat_fields
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.training import devices as data_parallel
from lerf_ros.training.optimizers import Decay, Descent, ParameterGroup

ROOT = Path(__file__).resolve().parents[2]
X = torch.arange(24.0).reshape(8, 3) / 10
Y = X.sum(1, keepdim=True) + 1


def descend(rows, steps=5, bad_step=-1):
    """Parameters after some steps of regression on the rows; the second layer never takes part."""
    torch.manual_seed(0)
    model, spare = nn.Linear(3, 1), nn.Linear(2, 2)
    parameters = [*model.parameters(), *spare.parameters()]
    descent = Descent([ParameterGroup(parameters, 'adam', Decay(0.1, 0.1, 1), 0.99)],
                      torch.device('cpu'), False)
    losses = []
    for step in range(steps):
        loss = (model(X[rows]) - Y[rows]).square().mean()
        if step == bad_step and data_parallel.rank() == 1:
            loss = loss * float('nan')
        losses.append(float(descent.step(loss)))
    assert spare.weight.grad is None
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), losses


def member(rank, port, place, bad_step):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank),
                      WORLD_SIZE='2')
    with data_parallel.process_group():
        rows = slice(rank, None, 2)
        torch.save(descend(rows, bad_step=bad_step), Path(place) / f'{rank}.pt')
        assert data_parallel.own_count(193) == 96
        assert distributed.get_world_size() == 2


def two_members(tmp_path, port, bad_step=-1):
    torch.multiprocessing.spawn(member, (port, str(tmp_path), bad_step), nprocs=2)
    return [torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1)]


def test_two_halves_of_a_batch_move_as_the_whole(tmp_path, free_port):
    (first, losses), (second, _) = two_members(tmp_path, free_port)
    alone, expected = descend(slice(None))
    assert torch.equal(first, second)
    assert torch.allclose(first, alone, atol=1e-6)
    assert losses == pytest.approx(expected, rel=1e-5)


def test_what_is_no_number_for_one_moves_nobody(tmp_path, free_port):
    (first, losses), (second, others) = two_members(tmp_path, free_port, bad_step=4)
    assert torch.equal(first, second)
    assert torch.allclose(first, descend(slice(None), steps=4)[0], atol=1e-6)
    assert losses[4] != losses[4] and others[4] != others[4]     # NaN for both


def test_alone_nothing_is_shared():
    assert (data_parallel.rank(), data_parallel.processes()) == (0, 1)
    assert data_parallel.own_count(7) == 7
    with data_parallel.own_directory(Path('there'), True) as place:
        assert place == Path('there')


# What `lerf_ros train` does, with an encoder that needs no weights.
COMMAND = """
import sys
import lerf_ros.encoders.image_text
from tiny_world import ColorEncoder
from lerf_ros import cli
lerf_ros.encoders.image_text.load_encoder = lambda *_, **__: ColorEncoder()
raise SystemExit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def train(tmp_path):
    """Trains a map of a tiny folder and returns its newest snapshot; `launcher` starts Python."""
    capture = MapDirectory(tmp_path / 'capture', True)
    for i, T in enumerate(orbit(12)):
        capture.keyframes.add(Keyframe(i, photograph(T, i)))
    capture.keyframes.write_transforms()
    small = SMALL.override({'keyframes.holdout_every': 4})
    (tmp_path / 'small.yaml').write_text(yaml.safe_dump(
        {name: list(value) if isinstance(value, tuple) else value
         for name, _, value in flat_fields(small)}))
    (tmp_path / 'command.py').write_text(COMMAND)

    def run(name, steps, *more, launcher=()):
        subprocess.run(
            [sys.executable, *launcher, str(tmp_path / 'command.py'), 'train',
             str(tmp_path / 'capture'), '--map', str(tmp_path / name), '--preset',
             str(tmp_path / 'small.yaml'), '--steps', str(steps), *more], check=True, timeout=300,
            env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'PYTHONPATH':
                 f'{ROOT}:{ROOT / "test"}:{os.environ.get("PYTHONPATH", "")}'})
        return MapDirectory(tmp_path / name).newest().info
    return run


def test_two_processes_train_the_map_of_one(train):
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2')
    two, one = train('two', 150, launcher=torchrun), train('one', 150)
    assert (two['steps'], two['keyframes']) == (150, one['keyframes'])
    # The same rays in all; but samples are jittered by other numbers.
    assert abs(two['psnr'] - one['psnr']) < 1
    assert two['depth_error'] < 1.5 * one['depth_error'] < 0.1, (one, two)


@pytest.fixture
def free_port():
    import socket
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]

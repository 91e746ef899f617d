# SPDX-License-Identifier: Apache-2.0
"""Submaps of a recorded drive are trained side by side; a worker that dies costs nothing."""

import math
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_end_to_end import SMALL
from test_submaps import HERE, there
from tiny_world import ColorEncoder

import lerf_ros.mapping.submap_workers as submap_workers
from lerf_ros import cli
from lerf_ros.commands import train_workers
from lerf_ros.commands.train import check_submaps
from lerf_ros.encoders import image_text
from lerf_ros.errors import ConfigError, StorageError, TrainingFailedError
from lerf_ros.frames.frame import Keyframe
from lerf_ros.mapping.submap_workers import SubmapSorter, raise_for, train_submap
from lerf_ros.settings import flat_fields
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.storage.submaps import SubmapFolder
from lerf_ros.submap_mapper import SubmapMapper

FRAMES = [*HERE, *there(HERE)]
STEPS = 120
# As `train` has it: all images are there before training begins.
CONFIG = SMALL.override({'training.newest_fraction': 0.0, 'submaps.use': True,
                         'map.checkpoint_interval': 1.0})


def sorted_into(path):
    sorter = SubmapSorter(CONFIG, path, ColorEncoder(), 'map', True)
    for frame in FRAMES:
        assert sorter.store(frame)
    sorter.close_all()
    sorter.share_out(STEPS)
    return sorter


@pytest.fixture(scope='module')
def in_one_process(tmp_path_factory):
    """The same drive, trained by one process."""
    mapper = SubmapMapper(CONFIG, tmp_path_factory.mktemp('one') / 'map', ColorEncoder(), 'map',
                          True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    mapper.share_out(STEPS)
    mapper.train_for(math.inf, STEPS)
    mapper.snapshot()
    return mapper


def agree(path, other):
    """Asserts that two maps have the same keyframes and steps, and nearly the same index."""
    for ours, theirs in zip(SubmapFolder(path, True).directories(),
                            SubmapFolder(other, True).directories(), strict=True):
        a, b = ours.newest().info, theirs.newest().info
        assert ours.keyframes.indices() == theirs.keyframes.indices()
        assert (a['steps'], a['keyframes']) == (b['steps'], b['keyframes']) == (60, 10)
        assert a['points'] == pytest.approx(b['points'], rel=0.1)
        assert a['psnr'] == pytest.approx(b['psnr'], abs=1.0)       # dB


def test_sorting_learns_nothing_and_opens_the_same_submaps(tmp_path, in_one_process):
    sorter = sorted_into(tmp_path / 'map')
    assert sorter.submaps.cells == in_one_process.submaps.cells
    assert sorter.stored == len(FRAMES) and sorter.steps == 0 and not sorter.active
    jobs = sorter.jobs(None, ColorEncoder)
    assert [(job.number, job.steps) for job in jobs] == [(0, 60), (1, 60)]


def test_each_submap_trains_alone_to_the_same_map(tmp_path, in_one_process):
    sorter = sorted_into(tmp_path / 'map')
    seen = []
    for job in sorter.jobs(None, ColorEncoder):
        # Stopped half way, as by Ctrl-C, and gone on with.
        train_submap(job, lambda number, steps: seen.append((number, steps)) or steps > 20)
        assert train_submap(job, lambda number, steps: False) == 60
    assert {number for number, _ in seen} == {0, 1}
    agree(tmp_path / 'map', in_one_process.path)
    sorter.share_out(STEPS)
    assert sorter.jobs(None, ColorEncoder) == [] and sorter.quality.psnr > 10


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path):
    job, = sorted_into(tmp_path / 'map').jobs(None, ColorEncoder)[:1]
    (tmp_path / 'map').rename(tmp_path / 'elsewhere')
    with pytest.raises(StorageError, match='mount at this path'):
        train_submap(job, lambda *_: False)
    assert not (tmp_path / 'map').exists()
    sorted_into(tmp_path / 'map')
    with pytest.raises(StorageError, match='another map'):
        train_submap(job, lambda *_: False)


def test_what_failed_is_named_and_how_to_go_on():
    raise_for({})
    with pytest.raises(TrainingFailedError, match='submap 0003: no space.*--resume'):
        raise_for({3: 'no space'})


def test_without_ray_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ConfigError, match='pip install ray'):
        submap_workers.ray_module()


@pytest.mark.parametrize(('workers', 'submaps', 'words'), [
    (-1, True, 'a number from 1'), (2, False, 'submaps.use=true')])
def test_what_workers_cannot_train_is_refused(workers, submaps, words):
    asked = SimpleNamespace(workers=workers, ray='', time=None)
    with pytest.raises(ConfigError, match=words):
        check_submaps(asked, submaps)


def test_a_cluster_that_does_not_answer_costs_no_map(tmp_path, monkeypatch, capsys):
    def unreachable(count, address, config):
        raise ConfigError(f'--ray {address}: no Ray cluster answers there')
    monkeypatch.setattr(submap_workers, 'ray_module', lambda: None)
    monkeypatch.setattr(submap_workers, 'workers', unreachable)
    monkeypatch.setattr(image_text, 'load_encoder', lambda *_, **__: ColorEncoder())
    drive = KeyframeFiles(tmp_path / 'drive', True)
    for index, frame in enumerate(FRAMES[:4]):
        drive.add(Keyframe(index, frame))
    drive.write_transforms()
    sorted_into(tmp_path / 'map')
    before = sorted(path for path in (tmp_path / 'map').rglob('*') if path.is_file())
    assert cli.main(['train', str(tmp_path / 'drive'), '--map', str(tmp_path / 'map'), '--force',
                     '--set', 'submaps.use=true', '--ray', 'nowhere:1', '--trust-input']) != 0
    assert 'no Ray cluster answers there' in capsys.readouterr().err
    assert before and sorted(path for path in (tmp_path / 'map').rglob('*')
                             if path.is_file()) == before


@pytest.mark.slow
def test_a_worker_of_ray_that_is_killed_costs_nothing(tmp_path, in_one_process, monkeypatch,
                                                      capsys):
    """The whole command, on a recorded drive; one of its two workers is killed as it trains."""
    pytest.importorskip('ray.actor', reason='Ray is not installed (pip install ray)')
    import yaml
    here = Path(__file__).resolve().parents[1]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(map(str, (here, here.parent))))
    monkeypatch.setattr(image_text, 'load_encoder', lambda *_, **__: ColorEncoder())
    killed, showing = [], train_workers.showing

    def killing(*arguments):
        told = showing(*arguments)

        def also_killing(steps, processes):
            if not killed and steps.get(0, 0) > 0:
                killed.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)
            return told(steps, processes)
        return also_killing
    monkeypatch.setattr(train_workers, 'showing', killing)
    preset, drive = tmp_path / 'small.yaml', KeyframeFiles(tmp_path / 'drive', True)
    preset.write_text(yaml.safe_dump({name: list(value) if isinstance(value, tuple) else value
                                      for name, _, value in flat_fields(CONFIG)}))
    for index, frame in enumerate(FRAMES):
        drive.add(Keyframe(index, frame))
    drive.write_transforms()
    assert cli.main(['train', str(tmp_path / 'drive'), '--map', str(tmp_path / 'map'), '--preset',
                     str(preset), '--steps', str(STEPS), '--workers', '2', '--trust-input']) == 0
    out = capsys.readouterr()
    assert '20 keyframes in 2 submaps; 2 are to be trained, on at most 2 workers' in out.out
    assert len(killed) == 1 and '2 of 2 submaps' in out.err
    agree(tmp_path / 'map', in_one_process.path)

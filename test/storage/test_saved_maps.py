# SPDX-License-Identifier: Apache-2.0
"""Named copies of maps: whole or not at all, verified, and never outside of their root."""

import contextlib
import errno
import json
import os
import shutil

import pytest
from test_end_to_end import SMALL
from test_resume import run
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.errors import (
    InvalidNameError,
    MapUnreadableError,
    NameTakenError,
    NoSnapshotError,
    NoSuchMapError,
    StorageError,
)
from lerf_ros.map_query import MapQuery
from lerf_ros.mapper import Mapper
from lerf_ros.storage import durable, lock, saved_maps
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.saved_maps import SavedMaps, finish_load


def mapped(folder, start, steps):
    mapper = Mapper(SMALL, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for i, T in enumerate(orbit(6, start)):
        mapper.add_frame(photograph(T, i))
    run(mapper, steps).snapshot()
    return MapDirectory(folder, True)


@pytest.fixture(scope='module')
def two_maps(tmp_path_factory):
    root = tmp_path_factory.mktemp('maps')
    return mapped(root / 'kitchen', 0.0, 4).path, mapped(root / 'hall', 0.5, 6).path


@pytest.fixture
def maps(tmp_path, two_maps, monkeypatch):
    """The kitchen is current, the hall is saved."""
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: ColorEncoder())
    shutil.copytree(two_maps[0], tmp_path / 'map')
    saved = SavedMaps(tmp_path / 'saved')
    saved.save(MapDirectory(two_maps[1]), 'hall')
    return MapDirectory(tmp_path / 'map'), saved


def contents(folder):
    """Relative names and bytes of all files but the locks."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file() and p.name != lock.NAME}


def test_a_saved_map_is_a_map(maps, two_maps):
    current, saved = maps
    path = saved.save(current, 'kitchen')
    assert saved.names() == ['hall', 'kitchen']
    assert saved_maps.verify(MapDirectory(path)) == 6
    assert contents(path) == {n: b for n, b in contents(two_maps[0]).items()
                              if not n.startswith('checkpoints')}
    with pytest.raises(NameTakenError, match="'kitchen' already"):
        saved.save(current, 'kitchen')
    saved.save(current, 'kitchen', overwrite=True)
    assert {p.name for p in saved.root.iterdir()} == {lock.NAME, 'hall', 'kitchen'}


@pytest.mark.parametrize('name', ['', '.', '..', '../x', 'a/b', '/etc', '.hidden', 'ä', 'a b',
                                  'x' * 101, 'a\nb', '~'])
def test_names_cannot_leave_the_root(maps, name):
    current, saved = maps
    for action in (lambda: saved.save(current, name), lambda: saved.load(name, current, print)):
        with pytest.raises(InvalidNameError):
            action()


def test_a_link_is_not_followed(maps, two_maps):
    current, saved = maps
    (saved.root / 'link').symlink_to(two_maps[1])
    with pytest.raises(InvalidNameError, match='link'):
        saved.load('link', current, lambda _: None)


def test_an_empty_map_is_not_saved(maps, tmp_path):
    with pytest.raises(NoSnapshotError):
        maps[1].save(MapDirectory(tmp_path / 'nothing'), 'nothing')
    assert maps[1].names() == ['hall']


def test_a_loaded_map_answers_and_goes_on(maps):
    current, saved = maps
    query = MapQuery(current.path)
    assert query.refresh()
    before = query.answer('red').points_world
    assert saved.load('hall', current, lambda _: None) == 6
    assert query.refresh() and not query.refresh()
    after = query.answer('red')
    assert len(after.points_world) != len(before) or (after.points_world != before).any()
    expected = MapQuery(saved.path('hall'))
    expected.refresh()
    assert (expected.answer('red').points_world == after.points_world).all()
    assert (expected.answer('red').relevancy == after.relevancy).all()
    mapper = Mapper(SMALL, MapDirectory(current.path, True), ColorEncoder(), 'map', True)
    mapper.restore()
    while mapper.learn_next():
        pass
    assert mapper.steps == 6
    assert run(mapper, 1).snapshot() == 2 and query.refresh()


def test_the_same_map_loaded_again_is_noticed(maps):
    """Its identity is the same and its snapshot is older: the edition tells."""
    current, saved = maps
    saved.save(current, 'kitchen')
    current.write_snapshot({'index': current.newest().arrays('index')},
                           {k: v for k, v in current.newest().info.items() if k != 'files'}, 2)
    query = MapQuery(current.path)
    query.refresh()
    assert query.snapshot_id == 2
    saved.load('kitchen', current, lambda _: None)
    assert query.refresh() and query.snapshot_id == 1


def damage(folder, name, how):
    path = sorted(folder.rglob(name))[0]
    data = path.read_bytes()
    if how == 'missing':
        path.unlink()
    elif how == 'truncated':
        path.write_bytes(data[:len(data) // 2])
    else:
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 4]) + data[-2:])


@pytest.mark.parametrize('how', ['missing', 'truncated', 'flipped'])
@pytest.mark.parametrize('name', ['meta.json', 'manifest.json', 'index.safetensors',
                                  'training.safetensors', '000003.json', '000003.png'])
def test_a_damaged_map_is_refused_and_the_current_one_stays(maps, name, how):
    current, saved = maps
    damage(saved.path('hall'), name, how)
    before = contents(current.path)
    if (name, how) == ('meta.json', 'flipped'):     # white space at the end
        return
    error = NoSuchMapError if (name, how) == ('meta.json', 'missing') else MapUnreadableError
    with pytest.raises(error):
        saved.load('hall', current, lambda _: None)
    assert contents(current.path) == before


def test_a_refusal_keeps_the_current_map(maps):
    current, saved = maps
    before = contents(current.path)

    def refuse(_):
        raise MapUnreadableError('not this one')
    with pytest.raises(MapUnreadableError, match='not this one'):
        saved.load('hall', current, refuse)
    with pytest.raises(NoSuchMapError, match='there are: hall'):
        saved.load('attic', current, refuse)
    assert contents(current.path) == before


class Killed(BaseException):
    """What SIGKILL is to a process."""


def killed_at(monkeypatch, step):
    """The step-th change of the file system kills."""
    count = iter(range(10**6))
    for name in ('replace', 'unlink'):
        real = getattr(os, name)

        def act(*arguments, real=real, **more):
            if next(count) == step:
                raise Killed
            return real(*arguments, **more)
        monkeypatch.setattr(os, name, act)


@pytest.mark.parametrize('step', range(0, 40, 3))
def test_a_kill_at_any_moment_of_a_load_leaves_one_map_or_the_other(maps, monkeypatch, step):
    current, saved = maps
    whole = {current.identity()[0], MapDirectory(saved.path('hall')).identity()[0]}
    with monkeypatch.context() as patched:
        killed_at(patched, step)
        with contextlib.suppress(Killed):
            saved.load('hall', current, lambda _: None)
    finish_load(current.path)       # what the next mapper does first
    again = MapDirectory(current.path)
    assert saved_maps.verify(again) == 6
    assert again.identity()[0] in whole
    assert not [p for p in current.path.iterdir() if p.name.startswith(durable.OURS)
                and p.name != lock.NAME]


@pytest.mark.parametrize('step', range(6))
def test_a_kill_at_any_moment_of_a_save_leaves_the_old_or_the_new(maps, monkeypatch, step):
    current, saved = maps
    with monkeypatch.context() as patched:
        killed_at(patched, step)
        with contextlib.suppress(Killed):
            saved.save(current, 'hall', overwrite=True)
    assert saved.names() == ['hall']
    saved.save(current, 'other')
    assert saved_maps.verify(MapDirectory(saved.path('hall'))) == 6


def test_a_full_disk_is_named_and_nothing_is_left(maps, monkeypatch):
    current, saved = maps

    def full(source, target):
        raise OSError(errno.ENOSPC, 'No space left on device', str(target))
    monkeypatch.setattr(saved_maps, 'copy_file', full)
    with pytest.raises(StorageError, match='No space left'):
        saved.save(current, 'kitchen')
    with pytest.raises(StorageError, match='No space left'):
        saved.load('hall', current, lambda _: None)
    assert saved.names() == ['hall'] and saved_maps.verify(current) == 6
    assert {p.name for p in saved.root.iterdir()} == {lock.NAME, 'hall'}


def test_a_reset_map_has_nothing_of_the_old_one(maps):
    current, _ = maps
    query = MapQuery(current.path)
    query.refresh()
    identity = current.identity()
    current.clear({k: v for k, v in current.meta().items() if k not in ('id', 'edition')}
                  | {'scene': None})
    assert current.identity() != identity and current.newest() is None
    assert not query.refresh() and not query.ready
    assert json.loads((current.path / 'meta.json').read_text())['scene'] is None


def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(maps, caplog):
    current, _ = maps
    first = current.newest()
    parts = {name: first.arrays(name) for name in ('index', 'coverage')}
    for _ in range(2):
        current.write_snapshot(parts, {k: v for k, v in first.info.items() if k != 'files'}, 3)
    damage(current.path / 'snapshots' / '000003', 'index.safetensors', 'flipped')
    query = MapQuery(current.path)
    assert query.refresh() and query.snapshot_id == 2
    assert '000003/index.safetensors is damaged' in caplog.text
    with pytest.raises(MapUnreadableError, match='damaged'):    # said again, and answers stay
        query.refresh()
    assert len(query.answer('red').points_world)
    shutil.rmtree(current.path)
    assert not query.refresh() and len(query.answer('red').points_world)

# SPDX-License-Identifier: Apache-2.0
"""Submaps without a field: each fuses what shows its cube, and all answer as one map."""

import time

import numpy as np
import pytest
from test_end_to_end import SMALL
from test_submaps import APART, HERE, request, there
from tiny_world import CUBES, ColorEncoder

from lerf_ros.index.looks import SecondLooks
from lerf_ros.mapping import fused_map
from lerf_ros.mapping.submap_workers import SubmapSorter, train_submap
from lerf_ros.query.answer import Presence
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

CONFIG = SMALL.override({'training.field': 'none', 'submaps.most_active': 1})
FRAMES = [*HERE, *there(HERE)]


@pytest.fixture(scope='module')
def building(tmp_path_factory):
    """Two places, fused one after the other by a mapper that keeps one submap in memory."""
    mapper = SubmapMapper(CONFIG, tmp_path_factory.mktemp('fused') / 'map', ColorEncoder(), 'map',
                          True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    mapper.snapshot()
    return mapper


def assert_answers(path):
    query = SubmapQuery(path, encoder=ColorEncoder())
    assert query.refresh()
    for name, (low, high) in CUBES.items():
        hits = query.ask(request(name)).hits
        middle = (np.array(low) + np.array(high)) / 2
        off = np.array([[np.linalg.norm(hit.position - middle - [shift, 0, 0]) for hit in hits]
                        for shift in (0.0, APART)])
        assert off.min(1).max() < 0.15, (name, off)         # each place has a hit,
        assert off.min(0).max() < 0.2, (name, off)          # and nothing else is one
    missing = query.ask(request('purple'))
    assert missing.presence == Presence.NOT_OBSERVED and 'without a field' in missing.too_coarse


def test_both_places_are_mapped_without_a_training_step(building):
    assert building.count == 2 and len(building.active) == 1 and not building.unfinished
    assert [building.written_of(k).keyframes for k in range(2)] == [10, 10]
    assert_answers(building.path)


def test_a_submap_that_was_closed_goes_on_with_all_of_its_keyframes(building):
    again = SubmapMapper(CONFIG, building.path, ColorEncoder(), 'map', True)
    again.restore()
    assert not again.active         # nothing is unfinished
    submap = again.opened(0)
    while submap.learn_next():
        pass
    assert len(submap.learned) == 10 and submap.steps == again.written_of(0).steps


def test_waiting_for_keyframes_ends(building):
    start = time.monotonic()
    building.train_for(0.05)
    assert time.monotonic() - start < 60.0


def test_workers_fuse_submaps_alone(tmp_path):
    sorter = SubmapSorter(CONFIG, tmp_path / 'map', ColorEncoder(), 'map', True)
    for frame in FRAMES:
        assert sorter.store(frame)
    sorter.close_all()
    sorter.share_out(2000)
    assert sorter.goals == {0: 10, 1: 10}
    for job in sorter.jobs(None, ColorEncoder):
        train_submap(job, lambda number, steps: False)
    sorter.share_out(2000)
    assert sorter.jobs(None, ColorEncoder) == []
    assert_answers(tmp_path / 'map')


def at_rest(mapper, monkeypatch):
    """Works until nothing is left to be done."""
    monkeypatch.setattr(fused_map, 'REST_S', 0.0)
    for _ in range(20):
        mapper.train_for(0.01)
        mapper.snapshot()
        if mapper.settled and all(m.steps <= m.written.steps for m in mapper.active.values()):
            return


def looks_in(mapper, number):
    """How many second looks the newest snapshot of a submap has."""
    return len(SecondLooks.from_arrays(mapper.directory(number).newest().arrays('index')))


def test_looks_that_a_closed_submap_lacks_are_taken_at_rest(tmp_path, monkeypatch):
    config = CONFIG.override({'index.look_seconds': 0.0})       # none until the map rests
    mapper = SubmapMapper(config, tmp_path / 'map', ColorEncoder(), 'map', True)
    for frame in FRAMES:
        mapper.add_frame(frame)
    mapper.snapshot()
    assert mapper.unfinished == [0] and not mapper.settled
    assert not looks_in(mapper, 0) and not looks_in(mapper, 1)
    at_rest(mapper, monkeypatch)
    assert mapper.settled and looks_in(mapper, 0) and looks_in(mapper, 1)


def test_a_hurried_mapper_keeps_keyframes_first_and_maps_them_at_rest(tmp_path, monkeypatch):
    mapper = SubmapMapper(CONFIG, tmp_path / 'map', ColorEncoder(), 'map', True)
    mapper.hurried = True
    for frame in FRAMES:
        assert mapper.store(frame)
    assert mapper.stored == 20 and mapper.unfinished == [0]
    assert mapper.directory(0).newest() is None     # nothing took the time for a snapshot
    assert mapper.words() == ['1 submap is finished once no keyframes come']
    while mapper.learn_next():
        pass
    mapper.snapshot()           # of the one in memory, as when the mapper is stopped now
    query = SubmapQuery(tmp_path / 'map', encoder=ColorEncoder())
    query.refresh()
    assert query.ask(request('purple')).learning.startswith('1 of 2 submaps have no snapshot yet')
    mapper.hurried = False
    while mapper.learn_next():
        pass
    at_rest(mapper, monkeypatch)
    assert mapper.settled and [mapper.written_of(k).keyframes for k in range(2)] == [10, 10]
    assert mapper.words() == []
    assert_answers(tmp_path / 'map')


def test_all_that_a_kill_left_out_of_snapshots_is_in_them_in_the_end(tmp_path, monkeypatch):
    mapper = SubmapMapper(CONFIG.override({'submaps.most_active': 3}), tmp_path / 'map',
                          ColorEncoder(), 'map', True)
    for frame in FRAMES:
        mapper.store(frame)                     # on the disk, and in no snapshot
    again = SubmapMapper(CONFIG, tmp_path / 'map', ColorEncoder(), 'map', True)
    again.restore()
    assert again.unfinished == [0] and list(again.active) == [1]    # one fits into memory
    while again.learn_next():
        pass
    at_rest(again, monkeypatch)
    assert again.settled and [again.written_of(k).keyframes for k in range(2)] == [10, 10]
    assert_answers(tmp_path / 'map')

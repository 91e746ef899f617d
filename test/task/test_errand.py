# SPDX-License-Identifier: Apache-2.0
"""What a sentence asks for, where a base collides, and how errands are counted."""

import itertools
import json

import numpy as np
import pytest

from lerf_ros import cli
from lerf_ros.errors import EmptyTextError

for needed in ('mujoco', 'open3d', 'coacd', 'trimesh'):    # coacd after open3d
    pytest.importorskip(needed, reason='the physics of errands needs the extras sim and physics')

from lerf_ros.config import GraspConfig  # noqa: E402
from lerf_ros.simulation.room import TABLE_HEIGHT  # noqa: E402
from lerf_ros.task import command, errand  # noqa: E402
from lerf_ros.task.bodies import Body  # noqa: E402
from lerf_ros.task.errand import Try, phrase_of, results  # noqa: E402
from lerf_ros.task.ground import ROOM, hall  # noqa: E402
from lerf_ros.task.table import Table  # noqa: E402


@pytest.mark.parametrize(('task', 'phrase'), [
    ('bring me the red mug', 'red mug'), ('Please fetch a wine bottle.', 'wine bottle'),
    ('could you get me the mug on the table, please?', 'mug on the table'),
    ('pick up the ball', 'ball'), ('red mug', 'red mug'), ('take the takeaway box', 'takeaway box'),
    ('hand us some bread!', 'bread'), ('the hand brush', 'hand brush')])
def test_the_thing_that_a_sentence_asks_for(task, phrase):
    assert phrase_of(task) == phrase


def test_a_sentence_without_a_thing_is_refused(capsys, tmp_path):
    for task in ('bring me the ', ' . '):
        with pytest.raises(EmptyTextError, match='names no thing'):
            phrase_of(task)
    assert cli.main(['demo', '--task', 'bring me the ', '--out', str(tmp_path / 'out')]) == 2
    assert 'names no thing' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('place', 'met'), [
    ((0.0, 0.0), 'table'), ((0.99, 0.0), 'table'), ((1.01, 0.0), ''), ((0.9, 0.7), ''),
    ((0.8, 0.6), 'table'), ((2.3, 0.0), 'wall')])
def test_a_base_of_30_cm_meets_the_table_and_the_walls(place, met):
    # The table is 1.4 m by 0.9 m, the walls are 2.5 m from its middle.
    assert ROOM.meets(np.array(place), 0.3) == met


@pytest.mark.parametrize(('place', 'met'), [
    ((2.5, 0.0), 'table'), ((5.0, 0.4), 'table'), ((1.25, 0.0), 'table'), ((2.5, 0.8), ''),
    ((7.3, 0.0), 'wall'), ((7.1, 0.0), ''), ((-2.3, 0.0), 'wall'), ((5.0, 2.3), 'wall')])
def test_a_base_meets_each_table_of_a_corridor_and_its_walls(place, met):
    # Tables of 1.4 m by 0.9 m at x = 0, 2.5 and 5, so gaps of 1.1 m; walls at -2.5 and 7.5.
    assert hall(3).meets(np.array(place), 0.6 if place == (1.25, 0.0) else 0.3) == met


def test_each_table_of_a_corridor_carries_what_stands_on_it():
    names, places = ('left', 'right'), ((0.0, 0.0), (2.5, 0.0))
    cube = np.array(list(itertools.product((-0.03, 0.03), repeat=3)))
    bodies = [Body(name, np.array([x, y, TABLE_HEIGHT + 0.03]), (cube,), 0.06 ** 3)
              for name, (x, y) in zip(names, places, strict=True)]
    assert Table(bodies, GraspConfig(), places).fallen == ()
    assert Table(bodies, GraspConfig(), places[:1]).fallen == (1,)      # onto the floor


def test_errands_are_counted_by_what_was_asked():
    def made(there, outcome):
        return Try(1, 'bring me the x', 'x', there, outcome)

    counted = results([made(True, 'brought'), made(True, 'brought'), made(True, 'slipped'),
                       made(True, 'not_found'), made(False, 'refused'),
                       made(False, 'found_absent')], 'conse', ['1: ball'])
    assert (counted['tries'], counted['success']) == (4, 2)
    assert (counted['absent_asked'], counted['refused_rightly']) == (2, 1)
    assert counted['failures'] == {'slipped': 1, 'not_found': 1, 'found_absent': 1}
    # Wilson's interval of 2 of 4 at 95 % (Wilson, 1927).
    assert counted['success_wilson_95'] == pytest.approx([0.15, 0.85], abs=0.001)
    assert json.loads(json.dumps(counted, allow_nan=False))['errands'][0]['way'] is None
    assert errand.wilson(0, 0) == [0.0, 1.0]


def test_a_missing_package_is_named_with_its_extras(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__('sys').modules, 'mujoco', None)
    with pytest.raises(command.ConfigError, match=r"needs mujoco: pip install '\.\[sim,physics\]'"):
        command.run('bring me the mug', 0, tmp_path)


@pytest.mark.parametrize(('phrase', 'target'), [
    ('blue mug', 1), ('blue mug on the table', 1), ('ball', 3), ('tennis ball', 2),
    ('kettle', None), ('banana', 4), ('yellow banana', 4), ('bana', 4)])
def test_which_object_a_phrase_means(phrase, target):
    names = ['white mug', 'blue mug', 'tennis ball', 'ball', 'banana']
    assert command.meant(names, phrase) == target


def test_a_phrase_that_may_mean_several_is_refused():
    with pytest.raises(command.ConfigError, match="'mug' may mean red mug or tan mug"):
        command.meant(['red mug', 'tan mug', 'ball'], 'mug')

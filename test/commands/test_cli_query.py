# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros query MAP ...` as a user types it: words, files, and what cannot be asked."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hand_made_map import COLORS, CUBES, WordEncoder, write_map

import lerf_ros.map_query
from lerf_ros import cli
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Grasp
from lerf_ros.query.request import QueryRequest, relation
from lerf_ros.show.files import answer_fields, export_answer, file_name


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())


@pytest.fixture(scope='module')
def map_directory(tmp_path_factory):
    return write_map(tmp_path_factory.mktemp('maps') / 'map')


def run(capsys, *arguments):
    code = cli.main(['query', *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read_ply(path):
    """The vertices, by property."""
    head, _, body = path.read_bytes().partition(b'end_header\n')
    kinds = {'float': '<f4', 'double': '<f8', 'uchar': 'u1', 'int': '<i4'}
    fields = [line.split()[1:] for line in head.decode().splitlines() if 'property' in line]
    return np.frombuffer(body, [(name, kinds[kind]) for kind, name in fields])


def test_a_query_for_each_phrase(map_directory, capsys):
    code, out, _ = run(capsys, map_directory, 'mug', 'ball')
    assert code == 0
    assert "'mug': 1 place" in out and "'ball': 1 place" in out


def test_one_picture_from_above_shows_all_phrases(map_directory, capsys, tmp_path):
    out = tmp_path / 'plan'
    code, told, _ = run(capsys, map_directory, 'mug', 'ball', '--from-above', out)
    assert code == 0 and told.rstrip().endswith(str(out / 'from_above.png'))
    assert cv2.imread(str(out / 'from_above.png')).shape[1] > 400
    (tmp_path / 'mine.txt').write_text('mine')
    code, _, said = run(capsys, map_directory, 'mug', '--from-above', tmp_path)
    assert code == 2 and 'mine.txt' in said


def test_phrases_together_share_the_points_and_each_has_its_own_answer(map_directory, capsys,
                                                                       tmp_path):
    code, out, _ = run(capsys, map_directory, 'mug', 'plate', 'things', '--together',
                       '--max-hits', 1, '--export', tmp_path)
    assert code == 0 and "'mug': 1 place" in out and "'plate': 1 place" in out
    assert "'things' was not found: no place of 40 points" in out
    fields = json.loads((tmp_path / 'mug_plate_things.json').read_text())
    assert [(phrase['text'], phrase['found'], phrase['places']) for phrase in fields['phrases']] \
        == [('mug', 'PRESENT', 1), ('plate', 'PRESENT', 1), ('things', 'ABSENT', 0)]
    cloud = read_ply(tmp_path / 'mug_plate_things.ply')
    assert set(cloud['label'][:216]) == {0} and set(cloud['label'][216:432]) == {1}


def test_export_holds_the_whole_answer(map_directory, capsys, tmp_path):
    code, out, _ = run(capsys, map_directory, 'mug', '--export', tmp_path / 'deep' / 'folder')
    assert code == 0 and 'mug.ply' in out and 'mug.json' in out
    cloud = read_ply(tmp_path / 'deep' / 'folder' / 'mug.ply')
    assert len(cloud) == 3 * 216 + 1600
    assert (cloud['relevancy'][:216] > 0.9).all() and (cloud['relevancy'][216:] <= 0.5).all()
    assert cloud['hit'].tolist() == [1] * 216 + [0] * (2 * 216 + 1600)
    center = [cloud[axis][:216].mean() for axis in 'xyz']
    np.testing.assert_allclose(center, CUBES['mug'][0], atol=1e-6)
    first = [int(cloud[channel][0]) for channel in ('red', 'green', 'blue')]
    assert first == pytest.approx([122, 4, 2], abs=4)
    fields = json.loads((tmp_path / 'deep' / 'folder' / 'mug.json').read_text())
    assert (fields['text'], fields['found'], fields['metric']) == ('mug', 'PRESENT', True)
    np.testing.assert_allclose(fields['hits'][0]['position'], CUBES['mug'][0], atol=0.01)
    assert fields['cloud'] == {'file': 'mug.ply', 'points': 2248, 'properties': list(
        cloud.dtype.names)}
    assert fields['units']['timing'] == 'seconds'


def test_grasps_are_exported_and_unknown_numbers_are_null(map_directory, tmp_path):
    query = MapQuery(map_directory)
    query.refresh()
    T = np.eye(4)
    answer = replace(query.ask(QueryRequest('mug')), probability=float('nan'),
                     grasps=(Grasp(T, T, T, 0.05, 1.0, 0.5, 0.25),))
    fields = answer_fields(answer, 'a.ply')
    assert fields['probability'] is None
    assert fields['grasps'][0]['opening_width'] == 0.05
    assert json.loads(export_answer(answer, tmp_path)[1].read_text())['grasps'] == fields['grasps']


def test_a_picture_of_the_thing(map_directory, capsys, tmp_path):
    cv2.imwrite(str(tmp_path / 'thing.png'),
                np.full((20, 20, 3), COLORS['ball'][::-1], np.uint8))
    code, out, _ = run(capsys, map_directory, '--image', tmp_path / 'thing.png')
    x, y, z = CUBES['ball'][0]
    assert code == 0 and f'({x:.2f}, {y:.2f}, {z:.2f})' in out


def test_a_region_leaves_out_what_lies_outside(map_directory, capsys):
    box = [*CUBES['plate'][0], 0.3, 0.3, 0.3]
    assert "'plate': 1 place" in run(capsys, map_directory, 'plate', '--region', *box)[1]
    assert 'not found' in run(capsys, map_directory, 'mug', '--region', *box)[1]


def test_a_part_and_rivals_reach_the_query(map_directory, capsys, monkeypatch):
    asked = []
    ask = MapQuery.ask

    def record(self, request):
        asked.append(request)
        return ask(self, replace(request, part='', rather_than=()))

    monkeypatch.setattr(MapQuery, 'ask', record)
    code, _, _ = run(capsys, map_directory, 'mug', '--part', 'handle', '--rather-than',
                     'plate; ball', '--threshold', 0.6, '--max-hits', 2, '--negatives', 'things')
    assert code == 0
    assert asked == [QueryRequest('mug', part='handle', rather_than=('plate', 'ball'),
                                  threshold=0.6, max_hits=2, negatives=('things',))]


def test_colours_and_relations_reach_the_query(map_directory, capsys, monkeypatch):
    asked = []
    ask = MapQuery.ask

    def record(self, request):
        asked.append(request)
        return ask(self, QueryRequest('mug'))

    monkeypatch.setattr(MapQuery, 'ask', record)
    code, _, _ = run(capsys, map_directory, 'mug', '--color', 'red; blue', '--size', 'largest',
                     '--relation', 'between: plate; blue ball', '--relation', 'leftmost', '--whole')
    assert code == 0
    assert asked == [QueryRequest('mug', colors=('red', 'blue'), sizes=('largest',), relations=(
        relation('between', 'plate', 'blue ball'), relation('leftmost')), whole_phrase=True)]


@pytest.mark.parametrize(('arguments', 'message'), [
    (['mug', '--color', 'reddest'], "'reddest' is no known colour"),
    (['mug', '--relation', 'onto: box'], "'onto' is no known relation"),
    ([], 'say what to look for'), (['mug', '--image', '/nowhere.png'], '/nowhere.png'),
    (['mug', '--threshold', '2'], 'between 0 and 1'), (['mug', '--negatives', ' '], 'negative'),
    (['mug', '--region', '0', '0', '0', '1', '1', '-1'], 'positive')])
def test_what_cannot_be_asked_is_said_in_words(map_directory, capsys, arguments, message):
    code, _, err = run(capsys, map_directory, *arguments)
    assert code == 2 and message in err


@pytest.mark.parametrize(('text', 'name'), [
    ('red mug', 'red_mug'), ('../../etc/passwd', 'etc_passwd'), ('قدح', 'قدح'), ('🙂', 'answer'),
    ('x' * 500, 'x' * 80)])
def test_names_of_files_stay_in_the_folder(text, name):
    assert file_name(text) == name


def test_view_needs_a_map_that_is_one(tmp_path, capsys):
    pytest.importorskip('viser', reason='viser is not installed: pip install .[view]')
    (tmp_path / 'file').write_text('x')
    assert cli.main(['view', str(tmp_path / 'file')]) == 2
    assert 'is a file' in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""A map as an agent meets it: `lerf_ros list`, and the tools through the SDK's own client."""

import asyncio
import base64
import json

import cv2
import numpy as np
import pytest
from hand_made_map import CUBES, WordEncoder, write_map

import lerf_ros.map_query
from lerf_ros import cli
from lerf_ros.agents import server
from lerf_ros.agents.question import Question
from lerf_ros.agents.tools import MapTools
from lerf_ros.errors import InvalidRequestError
from lerf_ros.map_query import MapQuery
from lerf_ros.storage.map_directory import MapDirectory

NAMES = ['mug', 'plate', 'ball', 'floor']


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())


@pytest.fixture(scope='module')
def map_directory(tmp_path_factory):
    folder = write_map(tmp_path_factory.mktemp('maps') / 'map')
    MapDirectory(folder, True).keyframes.write_transforms()
    return folder


@pytest.fixture
def tools(map_directory):
    return MapTools(MapQuery.open(map_directory))


def test_an_inventory_names_each_thing_and_tells_surfaces_apart(tools):
    found = tools.inventory(NAMES)
    assert (found['things'], found['named'], found['unit'], found['frame']) == (3, 3, 'm', 'map')
    assert 'less often than its probability' in found['caution']
    by_name = {item['names'][0]['name']: item for item in found['items']}
    for word, (center, edge) in CUBES.items():
        assert by_name[word]['kind'] == 'thing' and by_name[word]['named']
        np.testing.assert_allclose(by_name[word]['position'], center, atol=0.01)
        np.testing.assert_allclose(by_name[word]['size'], edge, atol=0.02)
    assert by_name['floor']['kind'] == 'surface' and found['items'][-1] is by_name['floor']


def test_a_thing_that_no_name_fits_is_not_named(tools):
    found = tools.inventory(['things', 'mug'])       # `things` is a negative, and fits nothing
    assert (found['things'], found['named']) == (3, 1)
    assert [item['named'] for item in found['items']] == [True, False, False, False]


def test_an_absent_thing_is_said_to_be_absent_with_the_reason(tools):
    found = tools.query('things')
    assert found['presence'] == 'ABSENT' and found['hits'] == [] and found['grasp'] == ''
    assert 'was not found' in found['summary'] and 'stand_off' not in found


def test_what_cannot_be_known_is_said(tools):
    hit = tools.query('mug')
    assert hit['stand_off']['possible'] is False and 'floor' in hit['stand_off']['reason']
    views = tools.next_views()
    assert views['views'] == [] and 'does not tell what was seen' in views['reason']
    assert views['seen'] is None and hit['hits'][0]['probability'] is None
    with pytest.raises(InvalidRequestError, match='a map knows its own frame alone'):
        tools.query(Question('mug', frame='base_link'))
    for box in (([0, 0], [1, 1, 1]), ([0, 0, 0], []), ([0, 0, 0], [1, 0, 1])):
        with pytest.raises(InvalidRequestError, match='a box needs its center'):
            tools.next_views(*box)


def test_a_question_is_narrowed_by_its_other_fields(tools):
    everywhere = Question('mug')
    assert tools.query(everywhere)['presence'] == 'PRESENT'
    elsewhere = Question('mug', center=(0.5, 0, 0), size=(0.2, 0.2, 0.2))
    assert tools.query(elsewhere)['hits'] == []
    rivalled = Question('mug', rather_than=('mug',))
    assert tools.query(rivalled)['presence'] == 'ABSENT'


def test_map_or_robot_but_not_both(map_directory, capsys):
    for words in (['mcp'], ['mcp', str(map_directory), '--ros']):
        assert cli.main(words) == 2
        assert 'the folder of a map, or --ros' in capsys.readouterr().err
    assert cli.main(['mcp', '--ros', '--set', 'query.threshold=0.6']) == 2
    assert '--set does not go with --ros' in capsys.readouterr().err


def test_the_command_lists_the_same(map_directory, capsys):
    assert cli.main(['list', str(map_directory), '--names', 'mug; plate', '--names', 'floor']) == 0
    out = capsys.readouterr().out
    assert out.startswith('3 things, 2 of them with a name that fits')
    assert '1 things or parts that no name fits' in out and 'surfaces:' in out
    assert cli.main(['list', str(map_directory), '--names', 'mug', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['named'] == 1


def test_a_missing_sdk_is_named(tools, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'mcp.server.mcpserver', None)
    with pytest.raises(server.ConfigError, match="pip install 'mcp>=2'"):
        server.make_server(tools)


def test_the_client_of_the_sdk_sees_tools_answers_pictures_and_errors(tools):
    mcp = pytest.importorskip('mcp', reason='the SDK of the protocol is not installed')

    async def session():
        async with mcp.Client(server.make_server(tools)) as client:
            listed = (await client.list_tools()).tools
            return (listed, await client.call_tool('query', {'text': 'mug', 'max_hits': 1}),
                    await client.call_tool('inventory', {'names': NAMES}),
                    await client.call_tool('picture', {'text': 'mug'}),
                    await client.call_tool('picture', {'text': 'mug', 'rank': 7}),
                    await client.call_tool('query', {'text': '  '}))

    listed, query, inventory, picture, no_place, empty = asyncio.run(session())
    assert {tool.name for tool in listed} == {'query', 'inventory', 'next_views', 'picture'}
    assert all(tool.description for tool in listed)
    told = json.loads(query.content[0].text)
    assert told['presence'] == 'PRESENT' and told['unit'] == 'm' and len(told['hits']) == 1
    np.testing.assert_allclose(told['hits'][0]['position'], CUBES['mug'][0], atol=0.01)
    assert json.loads(inventory.content[0].text)['named'] == 3
    image = cv2.imdecode(np.frombuffer(base64.b64decode(picture.content[0].data), np.uint8), 1)
    assert image.shape == (48, 64, 3) and json.loads(picture.content[1].text)['label'] == 'mug'
    assert no_place.is_error and 'so there is no number 7' in no_place.content[0].text
    assert empty.is_error and 'the phrase is empty' in empty.content[0].text

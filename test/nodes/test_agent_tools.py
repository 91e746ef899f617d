# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros mcp --ros`: the SDK's own client over stdio, and a query node on a hand-made map."""

import asyncio
import base64
import json
import os
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from hand_made_map import COLORS, CUBES, WordEncoder, write_map
from ros_bench import overrides, spinning

import lerf_ros.map_query
from lerf_ros.agents.question import Question
from lerf_ros.errors import InvalidRequestError, LerfError
from lerf_ros.nodes.agent_tools import robot_tools
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.storage.map_directory import MapDirectory

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
NAMES = ['mug', 'plate', 'ball']


@pytest.fixture(scope='module')
def robot(ros, tmp_path_factory):
    """A query node in /robot_a on three cubes and a floor; yields its namespace."""
    folder = write_map(tmp_path_factory.mktemp('maps') / 'map')
    MapDirectory(folder, True).keyframes.write_transforms()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
        node = QueryNode(namespace='/robot_a',
                         parameter_overrides=overrides(map_directory=str(folder)))
        assert node.start_alone(), node.failure
        with spinning(node):
            yield '/robot_a'


@pytest.fixture
def tools(robot):
    with robot_tools(robot, 20.0) as found:
        yield found


def test_a_query_says_what_the_tools_of_a_map_say(tools):
    found = tools.query(Question('mug', max_hits=1))
    assert (found['presence'], found['unit'], found['frame']) == ('PRESENT', 'm', 'map')
    np.testing.assert_allclose(found['hits'][0]['position'], CUBES['mug'][0], atol=0.01)
    assert found['hits'][0]['probability'] is None and found['learning'] is False
    assert found['stand_off'] == {'possible': False, 'reason': found['stand_off']['reason']}
    assert 'floor' in found['stand_off']['reason'] and "'mug': 1 place" in found['summary']
    absent = tools.query(Question('things'))
    assert absent['presence'] == 'ABSENT' and absent['hits'] == [] and 'stand_off' not in absent


def test_the_fields_of_a_question_reach_the_node(tools):
    assert tools.query(Question('mug', center=(0.5, 0, 0), size=(0.2, 0.2, 0.2)))['hits'] == []
    assert tools.query(Question('mug', rather_than=('mug',)))['presence'] == 'ABSENT'
    with pytest.raises(LerfError, match='INVALID_THRESHOLD: threshold 1.5'):
        tools.query(Question('mug', threshold=1.5))
    with pytest.raises(LerfError, match='NO_TRANSFORM.*moon'):
        tools.query(Question('mug', frame='moon'))
    with pytest.raises(LerfError, match='EMPTY_TEXT: the phrase is empty'):
        tools.query(Question(' '))
    with pytest.raises(InvalidRequestError, match='max_hits is -1'):
        tools.query(Question('mug', max_hits=-1))


def test_looking_ends_as_the_action_does(tools):
    sure = tools.find(Question('mug'), 10.0, 0.6)
    assert sure['end'] == 'SURE' and sure['next_views'] == [] and len(sure['hits']) == 1
    assert tools.find(Question('things'), 10.0, 0.0)['end'] == 'ALL_SEEN'
    unsure = tools.find(Question('mug', max_hits=1), 0.2, 0.99999)
    assert unsure['end'] == 'TIME_LIMIT' and '1.00 is wanted' in unsure['summary']
    with pytest.raises(InvalidRequestError, match='seconds is 0'):
        tools.find(Question('mug'), 0.0, 0.0)


def test_views_are_proposed_for_what_was_asked(tools):
    with pytest.raises(InvalidRequestError, match='ask for a thing first'):
        tools.next_views()
    tools.query(Question('plate'))
    found = tools.next_views()
    assert found['text'] == 'plate' and found['views'] == [] and found['seen'] is None
    assert 'does not tell what was seen' in found['reason']
    with pytest.raises(InvalidRequestError, match='a box needs its center'):
        tools.next_views([0, 0], [1, 1, 1])


def test_an_inventory_lists_each_place_once(tools):
    found = tools.inventory([*NAMES, 'texture'])
    assert (found['things'], found['unit'], found['left_out']) == (3, 'm', 0)
    by_name = {item['names'][0]['name']: item for item in found['items']}
    for word, (center, edge) in CUBES.items():
        np.testing.assert_allclose(by_name[word]['position'], center, atol=0.01)
        np.testing.assert_allclose(by_name[word]['size'], edge, atol=0.02)


def test_a_robot_that_is_not_there_is_named(ros):
    with robot_tools('/nobody', 0.5) as tools:
        with pytest.raises(LerfError, match='no service .*lerf/query within 0.5 s'):
            tools.query(Question('mug'))
        with pytest.raises(LerfError, match='no action lerf/find within 0.5 s'):
            tools.find(Question('mug'), 1.0, 0.0)


def test_the_client_of_the_sdk_asks_a_running_robot_over_stdio(robot):
    mcp = pytest.importorskip('mcp', reason='the SDK of the protocol is not installed')
    server = mcp.StdioServerParameters(
        command=sys.executable, args=['-m', 'lerf_ros.cli', 'mcp', '--ros', '--namespace', robot],
        env=dict(os.environ))

    async def session():
        async with mcp.Client(server) as client:
            listed = (await client.list_tools()).tools
            return (listed, await client.call_tool('query', {'text': 'mug', 'max_hits': 1}),
                    await client.call_tool('find', {'text': 'plate', 'seconds': 10}),
                    await client.call_tool('inventory', {'names': NAMES}),
                    await client.call_tool('next_views', {}),
                    await client.call_tool('picture', {'text': 'mug'}),
                    await client.call_tool('picture', {'text': 'mug', 'rank': 7}),
                    await client.call_tool('query', {'text': '  '}))

    listed, query, find, inventory, views, picture, no_place, empty = asyncio.run(session())
    assert {tool.name for tool in listed} == {'query', 'find', 'inventory', 'next_views', 'picture'}
    told = json.loads(query.content[0].text)
    assert told['presence'] == 'PRESENT' and told['unit'] == 'm' and len(told['hits']) == 1
    np.testing.assert_allclose(told['hits'][0]['position'], CUBES['mug'][0], atol=0.01)
    assert json.loads(find.content[0].text)['end'] == 'SURE'
    assert json.loads(inventory.content[0].text)['things'] == 3
    assert json.loads(views.content[0].text)['text'] == 'plate'
    image = cv2.imdecode(np.frombuffer(base64.b64decode(picture.content[0].data), np.uint8), 1)
    assert image.shape == (48, 64, 3) and json.loads(picture.content[1].text)['label'] == 'mug'
    assert np.abs(image[15, 20, ::-1].astype(int) - COLORS['mug']).max() < 40
    assert no_place.is_error and 'so there is no number 7' in no_place.content[0].text
    assert empty.is_error and 'EMPTY_TEXT' in empty.content[0].text

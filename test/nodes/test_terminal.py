# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros call`, `lerf_ros status` and the doctor's look at the graph, over real DDS."""

import gc
from dataclasses import replace

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.msg', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import Point
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from ros_bench import FakeMap, spinning
from ros_bench import answer as fake_answer
from sensor_msgs.msg import Image

from lerf_ros import cli
from lerf_ros.msg import ErrorCode, FieldStatus, QueryHit
from lerf_ros.nodes import graph
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.query import answer as core
from lerf_ros.srv import Query

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]


@pytest.fixture
def robot():
    """A node that answers and reports below /robot_a; `asked` holds the requests."""
    # Discovery on one machine reaches few participants: those of earlier commands must be gone.
    gc.collect()
    node = Node('robot', namespace='/robot_a')
    node.asked = []

    def answer(request, response):
        node.asked.append(request)
        if request.text == 'nothing':
            response.success, response.error_code = False, ErrorCode.NO_SNAPSHOT
            response.message = 'the map has no snapshot yet'
            return response
        response.success, response.message = True, f'{request.text}: 1 place'
        response.header.frame_id = 'map'
        hit = QueryHit(label=request.text, relevancy=0.75, probability=float('nan'))
        hit.box.center.position.x, hit.box.size.z = 1.5, 0.25
        response.hits = [hit]
        return response

    node.create_service(Query, topics.QUERY, answer, qos_profile=topics.QUERY_QOS)
    status = node.create_publisher(FieldStatus, topics.STATUS, topics.STATUS_QOS)
    node.create_publisher(Image, 'camera/image', qos_profile_sensor_data)
    report = FieldStatus(
        state=FieldStatus.MAPPING, message='', images_received=7, keyframes_used=3,
        images_refused=2, refusal_reasons=['no pose'], refusal_counts=[2], steps=40, psnr=21.5,
        memory_bytes=2_000_000_000, weak_areas=[Point(x=1.0, y=2.0, z=3.0)],
        diagnoses=["depth: nobody publishes on '/depth'"])
    node.create_timer(0.1, lambda: status.publish(report))
    with spinning(node):
        yield node


def run(capsys, *words):
    code = cli.main([*words, '--namespace', '/robot_a'])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_call_prints_the_answer_with_its_places(robot, capsys):
    code, out, _ = run(capsys, 'call', 'red mug', '--rather-than', 'plate; ball', '--part',
                       'handle', '--max-hits', '2', '--threshold', '0.5')
    assert code == 0
    assert out.splitlines() == [
        'red mug: 1 place', "  1. red mug at (1.500, 0.000, 0.000) in 'map', size (0.000, 0.000, "
        '0.250), relevancy 0.75']
    request = robot.asked[0]
    assert (request.text, request.part, request.max_hits) == ('red mug', 'handle', 2)
    assert (list(request.rather_than), request.threshold) == (['plate', 'ball'], 0.5)


def test_a_call_that_is_refused_ends_with_1(robot, capsys):
    code, out, _ = run(capsys, 'call', 'nothing', 'mug')
    assert code == 1 and 'mug: 1 place' in out
    assert 'not answered (NO_SNAPSHOT): the map has no snapshot yet' in out


def test_a_search_prints_what_is_missing_and_how_it_ended(capsys):
    map_ = type('Map', (FakeMap,), {'result': replace(
        fake_answer(found=False), presence=core.Presence.NOT_OBSERVED, observed=0.25)})
    node = QueryNode(map_, namespace='/robot_a')
    assert node.start_alone(), node.failure
    with spinning(node):
        code, out, _ = run(capsys, 'find', 'red mug', '--limit', '0.5')
        assert code == 1 and 'the time is up' in out.splitlines()[-1]
        assert 's: no place was found yet; 25% of the place was seen' in out.splitlines()[0]
        node.map.result = fake_answer()
        code, out, _ = run(capsys, 'find', 'red mug')
        assert code == 0 and 'found for sure' in out and '1. ' in out
        code, out, _ = run(capsys, 'find', 'red mug', '--probability', '2')
        assert code == 1 and 'not answered (INVALID_REQUEST): min_probability is 2' in out


def test_the_status_says_what_the_mapper_does(robot, capsys):
    code, out, _ = run(capsys, 'status')
    assert code == 0
    for words in ('MAPPING', '7 received, 3 used, 2 refused (2 no pose)', '40 steps', '21.5 dB',
                  '2.0 GB', 'views around (1.00, 2.00, 3.00)', "! depth: nobody publishes on '/d"):
        assert words in out


def test_the_graph_shows_nodes_and_lossy_images(robot):
    seen = graph.look_around(2.0)
    assert '/robot_a/robot' in seen.nodes
    assert graph.ImageTopic('/robot_a/camera/image', ('/robot_a/robot',), True) in seen.images


def test_nobody_there_is_said_with_the_domain(capsys):
    for words in (('call', 'mug'), ('status',), ('find', 'mug')):
        code, _, err = run(capsys, *words, '--timeout', '0.5')
        assert code == 2 and 'ROS_DOMAIN_ID=' in err and 'lerf_ros up' in err

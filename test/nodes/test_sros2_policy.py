# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policy names exactly what the nodes use: compared with the live graph."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

import rclpy
from rclpy.node import Node
from ros_bench import FakeMap, FakeProcess, overrides, spin_until

from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.nodes.query_node import QueryNode

pytestmark = pytest.mark.ros
# A namespace of its own: a node of another test that was killed keeps its name on the graph until
# its lease ends, and the graph would show the endpoints of either.
NAMESPACE = '/policy'
POLICY = Path(__file__).resolve().parents[2] / 'config' / 'sros2' / 'lerf_ros.policy.xml'
# A policy may name more than a node uses: where ROS differs between distributions, and with
# simulated time.
OPTIONAL = {'/clock', '~/get_type_description'}
KINDS = {'publisher': ('topics', 'publish'), 'subscriber': ('topics', 'subscribe'),
         'service': ('services', 'reply'), 'client': ('services', 'request')}
# What an action server has of each kind, below the name of the action.
ACTION = {'publisher': ('feedback', 'status'), 'subscriber': (), 'client': (),
          'service': ('send_goal', 'get_result', 'cancel_goal')}


def allowed(node, kind):
    """The names that the policy allows a node, as they are written there."""
    group, verb = KINDS[kind]
    profile = ElementTree.parse(POLICY).getroot().find(f".//profile[@node='{node}']")
    actions = {f'{action.text}/_action/{part}' for each in profile.findall('actions')
               if each.get('execute') == 'ALLOW' for action in each for part in ACTION[kind]}
    return actions | {name.text for each in profile.findall(group) if each.get(verb) == 'ALLOW'
                      for name in each}


def used(watcher, node, kind):
    """The names on the live graph in the form of a policy: ~/ and relative to the namespace."""
    found = getattr(watcher, f'get_{kind}_names_and_types_by_node')(node, NAMESPACE)
    return {name.replace(f'{NAMESPACE}/{node}/', '~/').removeprefix(f'{NAMESPACE}/')
            for name, _ in found}


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    """A watcher beside both nodes, with every optional input and output on."""
    rclpy.init(args=['--ros-args', '--remap', f'__ns:={NAMESPACE}'])
    folder = str(tmp_path_factory.mktemp('map'))
    nodes = [
        QueryNode(FakeMap, parameter_overrides=overrides(map_directory=folder)),
        MapperNode(FakeProcess, parameter_overrides=overrides(
            map_directory=folder, depth_topic='camera/aligned_depth_to_color/image_raw',
            mask_topic='camera/mask'))]
    watcher = Node('watcher')
    try:
        assert all(node.start_alone() for node in nodes), [node.failure for node in nodes]
        nodes[0].frames.listen()      # as it does when a request names another frame
        assert spin_until((*nodes, watcher), lambda: all(
            used(watcher, node.get_name(), 'service') for node in nodes))
        yield watcher
    finally:
        for node in (*nodes, watcher):
            node.destroy_node()
        rclpy.shutdown()


@pytest.mark.parametrize('node', ['mapper_node', 'query_node'])
@pytest.mark.parametrize('kind', KINDS)
def test_the_policy_allows_what_the_node_uses_and_nothing_else(graph, node, kind):
    in_policy = allowed(node, kind)
    spin_until((graph,), lambda: in_policy - used(graph, node, kind) <= OPTIONAL)
    on_graph = used(graph, node, kind)
    assert on_graph - in_policy - OPTIONAL == set()
    assert in_policy - on_graph - OPTIONAL == set()

# SPDX-License-Identifier: Apache-2.0
"""The heartbeat for nav2's lifecycle manager, with a stand-in for bondpy, which is not on PyPI."""

import sys
import types

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from rclpy.lifecycle import TransitionCallbackReturn
from ros_bench import FakeMap, FakeProcess, overrides

from lerf_ros.errors import LerfError
from lerf_ros.nodes.common.lifecycle import started
from lerf_ros.nodes.mapper_node import MapperNode
from lerf_ros.nodes.query_node import QueryNode

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
SUCCESS = TransitionCallbackReturn.SUCCESS


class StandIn:
    """What bondpy.bondpy.Bond has; its heartbeat must be set before it starts."""

    made = []

    def __init__(self, topic, id, node, on_broken=None, on_formed=None):
        self.topic, self.id, self.node, self.calls = topic, id, node, []
        self.heartbeat_period = 1.0
        StandIn.made.append(self)

    def start(self):
        self.calls.append(('start', self.heartbeat_period))

    def shutdown(self):
        self.calls.append('shutdown')


@pytest.fixture
def bonds(monkeypatch):
    """The bonds that nodes make."""
    module = types.ModuleType('bondpy.bondpy')
    module.Bond = StandIn
    monkeypatch.setitem(sys.modules, 'bondpy', types.ModuleType('bondpy'))
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', module)
    monkeypatch.setattr(StandIn, 'made', [])
    return StandIn.made


@pytest.fixture
def query(nodes):
    def make(map_factory=FakeMap, **settings):
        nodes.append(QueryNode(map_factory, parameter_overrides=overrides(**settings)))
        return nodes[-1]
    return make


def test_the_heartbeat_lasts_from_activation_to_deactivation(bonds, query):
    node = query(autostart=False)
    assert node.trigger_configure() == SUCCESS and not bonds
    assert node.trigger_activate() == SUCCESS and node.bond.formed
    # nav2 looks for a bond on this topic whose id is the name of the node.
    assert [(bond.topic, bond.id) for bond in bonds] == [('bond', 'query_node')]
    assert bonds[0].node is node and bonds[0].calls == [('start', 0.25)]
    assert node.trigger_deactivate() == SUCCESS
    assert bonds[0].calls[1:] == ['shutdown'] and not node.bond.formed
    assert node.trigger_activate() == SUCCESS and len(bonds) == 2      # a new one each time


def test_the_mapper_bonds_too_and_a_node_that_ends_breaks_it(bonds, tmp_path):
    node = MapperNode(FakeProcess, parameter_overrides=overrides(
        autostart=False, map_directory=str(tmp_path)))
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    node.destroy_node()
    assert bonds[0].id == 'mapper_node' and bonds[0].calls[1:] == ['shutdown']


class Broken(FakeMap):
    """Whose first refresh raises what nobody foresaw."""

    def refresh(self):
        raise RuntimeError('a bug')


def test_a_node_that_could_not_be_activated_has_no_heartbeat(bonds, query):
    node = query(Broken, autostart=False)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() != SUCCESS and not bonds


def test_a_deactivation_that_fails_breaks_the_bond_all_the_same(bonds, query, monkeypatch):
    node = query(autostart=False)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    with monkeypatch.context() as broken:
        broken.setattr(node, 'deactivate', lambda: 1 / 0)
        assert node.trigger_deactivate() != SUCCESS
    assert bonds[0].calls[1:] == ['shutdown']


@pytest.mark.parametrize(('settings', 'count'), [
    ({'autostart': True}, 0),                           # no manager waits for it
    ({'autostart': True, 'bond': 'always'}, 1),
    ({'autostart': False, 'bond': 'never'}, 0)])
def test_when_there_is_a_bond(bonds, query, settings, count):
    assert query(**settings).start_alone()
    assert len(bonds) == count


def test_bondpy_is_missed_only_where_it_was_asked_for(query, monkeypatch):
    monkeypatch.setitem(sys.modules, 'bondpy', None)
    managed = query(autostart=False)
    assert managed.trigger_configure() == SUCCESS and managed.trigger_activate() == SUCCESS
    assert not managed.bond.formed
    with pytest.raises(LerfError, match='apt install ros-.*bondpy'):
        started(QueryNode(FakeMap, parameter_overrides=overrides(bond='always')))

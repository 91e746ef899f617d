# SPDX-License-Identifier: Apache-2.0
"""The panel of rqt: what it does without Qt, on an offscreen screen, and over DDS."""

import importlib
import math
import os
import subprocess
import sys
import threading
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from rclpy.node import Node
from ros_bench import FakeMap, spin_until
from std_srvs.srv import Trigger

from lerf_ros.msg import ErrorCode, KeyframeView, PhraseAnswer, Presence, QueryHit
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.nodes.rqt.panel import COLUMNS, QueryPanel
from lerf_ros.nodes.rqt.robot import RosRobot
from lerf_ros.srv import Query, SaveMap

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
NO_QT = 'no Qt is installed (PySide6-Essentials)'
APPLICATION = []        # Qt has one for a process, and it must outlive its widgets


def hit(x, probability, label='mug'):
    made = QueryHit(label=label, probability=probability, relevancy=0.8, keyframes=7)
    made.box.center.position.x = x
    made.box.size.x = made.box.size.y = made.box.size.z = 0.1
    made.confirmed_by = [KeyframeView(keyframe=12)]
    made.last_seen.sec = 90
    return made


def found(**changes):
    """Two mugs, a kettle that is not there, and a plate that was not looked for well enough."""
    return Query.Response(
        success=True, metric=True, message="'mug': 2 places", presence=Presence.PRESENT, phrases=[
            PhraseAnswer(text='mug', presence=Presence.PRESENT, looks_more_like=['cup'],
                         hits=[hit(1.0, 0.9), hit(2.0, math.nan)]),
            PhraseAnswer(text='kettle', presence=Presence.ABSENT, probability=0.05,
                         not_found_reason='best relevancy 0.40, needs 0.55'),
            PhraseAnswer(text='plate', presence=Presence.NOT_OBSERVED, probability=math.nan)],
        **changes)


class FakeRobot:
    """Answers at once with what it was told to, or later."""

    def __init__(self):
        self.asked, self.saved, self.resets, self.later = [], [], 0, None
        self.answer, self.saving, self.reset_ok = found(), SaveMap.Response(success=True), True

    def ask(self, fields, done):
        self.asked.append(dict(fields))
        if self.later is None:
            done(self.answer)
        else:
            self.later.append(done)

    def save(self, name, overwrite, done):
        self.saved.append((name, overwrite))
        done(self.saving)

    def reset(self, done):
        self.resets += 1
        done(self.reset_ok, '' if self.reset_ok else 'NOT_ACTIVE: activate it')


@pytest.fixture
def panel():
    return QueryPanel(FakeRobot())


def test_an_answer_is_a_row_for_each_place_and_for_each_phrase_that_was_not_found(panel):
    panel.ask(' mug; kettle ;plate', 'thing; stuff', 0.6)
    assert panel.robot.asked == [{'texts': ['mug', 'kettle', 'plate'],
                                  'negatives': ['thing', 'stuff'], 'threshold': 0.6}]
    view = panel.view
    assert [row[:len(COLUMNS)] for row in view.rows] == [
        ('mug', 'present', '0.90', '0.80', '1.00, 0.00, 0.00 m', 'cup'),
        ('mug', 'present', '', '0.80', '2.00, 0.00, 0.00 m', 'cup'),
        ('kettle', 'absent', '0.05', '', '', ''),
        ('plate', 'not observed', '', '', '', '')]
    assert view.rows[0].detail == ('size 0.10 x 0.10 x 0.10 m; seen by 7 keyframes, last at 90 s; '
                                   'confirmed by keyframe 12')
    assert view.rows[2].detail == 'best relevancy 0.40, needs 0.55'
    assert (view.message, view.failed, view.busy, view.chosen) == (
        '1 of 3 phrases were found', False, False, 0)


def test_the_next_hit_goes_round_and_passes_what_was_not_found(panel):
    panel.ask('mug')
    chosen = [panel.view.chosen]
    for _ in range(3):
        panel.next_hit()
        chosen.append(panel.view.chosen)
    assert chosen == [0, 1, 0, 1]


def test_phrases_are_remembered_once_and_the_newest_first(panel):
    for text in ('mug', 'plate', 'mug', *map(str, range(40))):
        panel.ask(text)
    assert panel.view.history[:2] == ('39', '38') and len(panel.view.history) == 30
    panel.remember(['a', 'b', 'a'])
    assert panel.view.history == ('a', 'b')


def test_errors_are_said_in_words(panel):
    panel.ask(' ; ')
    assert panel.view.failed and panel.view.message.startswith('say what to look for')
    assert not panel.robot.asked
    panel.robot.answer = Query.Response(success=False, error_code=ErrorCode.NO_SNAPSHOT,
                                        message='there is no snapshot yet')
    panel.ask('mug')
    assert panel.view.message == 'not answered (NO_SNAPSHOT): there is no snapshot yet'
    assert panel.view.failed and not panel.view.busy and not panel.view.rows
    panel.robot.answer = 'no service /lerf/query'
    panel.ask('mug')
    assert panel.view.failed and panel.view.message == 'no service /lerf/query'


def test_an_answer_to_an_earlier_question_is_not_shown(panel):
    panel.robot.later = []
    panel.ask('mug')
    panel.ask('plate')
    assert panel.view.busy
    first, second = panel.robot.later
    second(found())
    first('too late')
    assert not panel.view.failed and len(panel.view.rows) == 4


def test_a_map_is_saved_and_another_one_is_replaced_only_after_a_yes(panel):
    panel.save('  ')
    assert panel.view.failed and 'needs a name' in panel.view.message
    panel.robot.saving = SaveMap.Response(error_code=ErrorCode.NAME_TAKEN, message='taken')
    panel.save('lab')
    assert panel.view.question == "There is a map 'lab' already. Replace it?"
    panel.reply(False)
    assert panel.view.question == '' and panel.robot.saved == [('lab', False)]
    panel.save('lab')
    panel.robot.saving = SaveMap.Response(success=True, message='saved as lab')
    panel.reply(True)
    assert panel.robot.saved[1:] == [('lab', False), ('lab', True)]
    assert panel.view.message == 'saved as lab' and not panel.view.failed


def test_a_map_is_reset_only_after_a_yes(panel):
    panel.ask('mug')
    panel.reset()
    assert 'cannot be undone' in panel.view.question and panel.robot.resets == 0
    panel.reply(False)
    assert panel.robot.resets == 0 and panel.view.rows
    panel.reset()
    panel.robot.reset_ok = False
    panel.reply(True)
    assert panel.view.message == 'not reset: NOT_ACTIVE: activate it' and panel.view.failed
    panel.robot.reset_ok = True
    panel.reset()
    panel.reply(True)
    assert panel.robot.resets == 2 and not panel.view.rows and panel.view.message


@pytest.fixture
def widget(monkeypatch, panel):
    monkeypatch.setenv('QT_QPA_PLATFORM', 'offscreen')
    qt = pytest.importorskip('PySide6.QtWidgets', reason=NO_QT)
    APPLICATION.append(qt.QApplication.instance() or qt.QApplication(['test']))
    made = importlib.import_module('lerf_ros.nodes.rqt.widget').PanelWidget(panel)
    made.settle = APPLICATION[0].processEvents
    yield made
    made.close()
    made.deleteLater()
    made.settle()


def test_the_widget_shows_the_panel_and_hands_on_what_is_typed(widget, panel):
    assert not widget.next_button.isEnabled() and widget.threshold.text() == 'usual'
    widget.phrase.setEditText('mug; kettle')
    widget.negatives.setText('thing')
    widget.threshold.setValue(0.7)
    widget.ask_button.click()
    widget.settle()
    assert panel.robot.asked == [{'texts': ['mug', 'kettle'], 'negatives': ['thing'],
                                  'threshold': pytest.approx(0.7)}]
    assert widget.table.rowCount() == 4 and widget.table.item(0, 4).text() == '1.00, 0.00, 0.00 m'
    assert widget.phrase.itemText(0) == 'mug; kettle'
    widget.next_button.click()
    assert widget.table.currentRow() == 1 and 'seen by 7 keyframes' in widget.detail.text()
    widget.table.selectRow(2)
    assert panel.view.chosen == 2 and widget.detail.text().startswith('best relevancy 0.40')


def test_questions_are_asked_before_a_map_goes(widget, panel):
    asked, answers = [], [False, True]
    widget.confirm = lambda question: asked.append(question) or answers.pop(0)
    widget.ask_name = lambda: ('lab', True)
    widget.reset_button.click()
    assert panel.robot.resets == 0
    widget.reset_button.click()
    assert panel.robot.resets == 1 and len(asked) == 2
    widget.save_button.click()
    assert panel.robot.saved == [('lab', False)]


def test_answers_of_another_thread_are_shown_by_the_thread_of_qt(widget, panel):
    panel.robot.later = []
    widget.phrase.setEditText('mug')
    widget.ask()
    widget.settle()
    assert not widget.ask_button.isEnabled() and widget.message.text() == 'asking for mug ...'
    thread = threading.Thread(target=lambda: panel.robot.later[0]('query_node is gone'))
    thread.start()
    thread.join()
    widget.settle()
    assert widget.message.text() == 'query_node is gone' and widget.ask_button.isEnabled()
    assert 'color' in widget.message.styleSheet()


def test_namespace_and_history_come_back_at_the_next_start(widget):
    heard = []
    widget.reconnect = heard.append
    widget.restore('robot_a', 'mug')        # rqt reads a list of one back as a text
    assert heard == ['robot_a'] and widget.phrase.itemText(0) == 'mug'
    widget.restore(None, None)
    assert heard[-1] == '' and widget.panel.view.history == ()


class Settings(dict):
    """As rqt keeps them."""

    def set_value(self, name, value):
        self[name] = value

    def value(self, name, default):
        return self.get(name, default)


@pytest.fixture
def plugin(monkeypatch):
    """The class that rqt/plugin.xml names, with stand-ins for rqt, which is not on PyPI."""
    exported = ElementTree.parse(ROOT / 'package.xml').getroot().find('export/rqt_gui')
    described = ElementTree.parse(
        ROOT / exported.get('plugin').replace('${prefix}/', '')).getroot().find('class')
    assert described.get('base_class_type') == 'rqt_gui_py::Plugin'
    base = types.ModuleType('rqt_gui_py.plugin')
    base.Plugin = type('Plugin', (), {'__init__': lambda self, context: None,
                                      'setObjectName': lambda self, name: None})
    monkeypatch.setitem(sys.modules, 'rqt_gui_py', types.ModuleType('rqt_gui_py'))
    monkeypatch.setitem(sys.modules, 'rqt_gui_py.plugin', base)
    module, name = described.get('type').rsplit('.', 1)
    monkeypatch.delitem(sys.modules, module, raising=False)
    return getattr(importlib.import_module(module), name)


def test_rqt_gets_a_widget_that_asks_through_its_node(widget, plugin, nodes):
    nodes.append(Node('rqt'))
    shown = []
    made = plugin(types.SimpleNamespace(node=nodes[0], serial_number=lambda: 2,
                                        add_widget=shown.append))
    assert shown[0].windowTitle() == 'lerf_ros (2)'
    assert plugin.__init__.__code__.co_argcount == 2        # rqt looks: the context alone
    made.restore_settings(None, Settings(namespace='robot_a', history=['mug', 'plate']))
    shown[0].phrase.setEditText('plate')
    shown[0].ask()
    assert 'no service /robot_a/lerf/query' in shown[0].panel.view.message
    kept = Settings()
    made.save_settings(None, kept)
    assert kept == {'namespace': 'robot_a', 'history': ['plate', 'mug']}
    made.shutdown_plugin()
    assert not [client for client in nodes[0].clients if 'lerf' in client.srv_name]


def test_what_rqt_reads_is_installed():
    cmake = (ROOT / 'CMakeLists.txt').read_text()
    assert 'rqt' in cmake.split('foreach(folder ')[1].split(')')[0].split()


def test_the_panel_asks_nodes_over_dds(nodes):
    node = QueryNode(FakeMap, namespace='/robot_a')
    nodes.append(node)
    assert node.start_alone(), node.failure
    user = Node('user')
    nodes.append(user)
    user.create_service(Trigger, '/robot_a/' + topics.RESET, lambda _, response: Trigger.Response(
        success=True, message='forgotten'), qos_profile=topics.COMMAND_QOS)
    robot = RosRobot(user, 'robot_a', timeout_s=20.0)
    panel = QueryPanel(robot)
    assert spin_until(nodes, lambda: all(
        client.service_is_ready() for client in (robot._query, robot._reset)))
    panel.ask('red mug')
    assert spin_until(nodes, lambda: not panel.view.busy)
    assert not panel.view.failed and "'red mug'" in panel.view.message
    assert node.map.requests[0].text == 'red mug'
    panel.reset()
    panel.reply(True)
    assert spin_until(nodes, lambda: panel.view.message == 'forgotten')
    panel.save('lab')       # nobody serves it
    assert panel.view.failed and 'no service /robot_a/lerf/save_map' in panel.view.message
    robot.close()


def test_a_window_without_qt_says_what_to_install():
    done = subprocess.run(
        [sys.executable, '-c', "import sys; sys.modules['PySide6'] = None\n"
         "sys.modules['python_qt_binding'] = None\n"
         'from lerf_ros.nodes.panel_node import main; raise SystemExit(main([]))'],
        capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == 2 and 'pip install PySide6-Essentials' in done.stderr

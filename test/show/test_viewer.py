# SPDX-License-Identifier: Apache-2.0
"""The web page: it serves, answers what is typed, and shows it; in a browser where there is one."""

import contextlib
import json
import math
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import replace
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest
from hand_made_map import CAMERA, CUBES, WordEncoder, cube_index, write_map

pytest.importorskip('viser', reason='viser is not installed: pip install .[view]')

from lerf_ros.commands.view import follow
from lerf_ros.errors import ConfigError, NoSnapshotError
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Grasp, Presence
from lerf_ros.query.request import QueryRequest
from lerf_ros.show import page as page_module
from lerf_ros.show.field_view import RELEVANCY
from lerf_ros.show.page import MapPage
from lerf_ros.show.page_drawing import DISCS, point_size, splat_covariances
from lerf_ros.show.page_link import PageLink
from lerf_ros.show.pictures import map_views
from lerf_ros.show.session import NO_WHOLE, NOTHING_ASKED, SURFACES, in_words
from lerf_ros.show.viewpoint import first_view, usual_fov

PHOTOGRAPH = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_for(condition, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def query(tmp_path):
    query = MapQuery(write_map(tmp_path / 'map'), encoder=WordEncoder())
    query.directory.keyframes.add(Keyframe(1, Frame(1, PHOTOGRAPH, CAMERA, np.eye(4))))
    query.directory.keyframes.write_transforms()
    query.refresh()
    return query


@pytest.fixture
def served(query):
    page = MapPage(query.ask, query.directory.path, port=free_port())
    yield page
    page.close()


@pytest.fixture
def page(served):
    """The session of a browser; on the server itself, as no browser is needed then."""
    return served.open(served.server)


def nodes(page):
    return set(page.place.scene._handle_from_node_name)


def shown(page, *phrases):
    """Whether the page answers these phrases, and tells of each."""
    return wait_for(lambda: page.answer is not None and page.answer.text == ', '.join(phrases)
                    and all(phrase in page.words.content for phrase in phrases))


def test_it_serves_to_this_machine_only(served):
    page = served
    assert page.url.startswith('http://127.0.0.1:')
    with urllib.request.urlopen(page.url, timeout=10) as reply:
        assert reply.status == 200 and b'<html' in reply.read()


def test_a_link_restores_question_and_view(served):
    camera = np.array([[1.25, -2.0, 0.5], [0.0, 0.5, 0.25], [0.0, 0.0, 1.0]])
    host = served.url.removeprefix('http://')
    link = PageLink('mug', 'plate', '', 0.75, camera)
    with browser(served, parse_qs(urlsplit(link.address(host)).query)['websocket'][0]):
        assert wait_for(lambda: served.sessions)
        session = next(iter(served.sessions.values()))
        assert (session.phrase.value, session.rather_than.value, session.part.value,
                session.threshold.value) == ('mug', 'plate', '', 0.75)
        assert wait_for(lambda: session.answer is not None)
        assert wait_for(lambda: np.allclose(session.place.camera.look_at, camera[1]))
        np.testing.assert_allclose(session.place.camera.position, camera[0])
        session.show_link()
        assert f'(http://{host}/?websocket=ws' in session.address.content
        again = PageLink.parse(parse_qs(urlsplit(
            session.address.content[session.address.content.index('(') + 1:-1]).query
            )['websocket'][0])
        assert again.phrase == link.phrase
        np.testing.assert_allclose(again.camera, camera, atol=1e-5)


def test_a_link_keeps_every_letter():
    link = PageLink('mug; "teddy bär" & co?', '100 % #1', 'a+b', 0.5)
    place = parse_qs(urlsplit(link.address('robot.local:8080')).query)['websocket'][0]
    assert place.startswith('ws://robot.local:8080/?')
    assert PageLink.parse(place.removeprefix('ws://robot.local:8080')) == link


@pytest.mark.parametrize('path', [
    '', '/', '/?phrase=mug&threshold=high', '/?phrase=mug&threshold=7', '/?phrase=mug&position=1,2',
    '/?phrase=mug&position=1,2,nan&look_at=0,0,0&up=0,0,1'])
def test_a_link_that_is_not_understood_asks_what_it_can(path):
    link = PageLink.parse(path)
    assert link == PageLink('mug' if 'mug' in path else '')


def test_a_link_keeps_places_far_from_the_origin():
    camera = np.array([[500000.1234, 5400000.5, 300.25], [500001.0, 5400000.0, 300.0], [0, 0, 1.0]])
    place = parse_qs(urlsplit(PageLink(camera=camera).address('h:1')).query)['websocket'][0]
    np.testing.assert_allclose(PageLink.parse(place).camera, camera, rtol=0, atol=1e-4)


def test_of_a_map_without_a_field_points_alone_are_offered(query):
    info = {'keyframes': 15, 'steps': 15, 'stamp_ns': 0,
            'config': {'training': {'field': 'none'}}}
    served = MapPage(query.ask, query.directory.path, port=free_port(),
                     text_query=lambda: query.text_query, look=RELEVANCY, info=lambda: info)
    try:
        with browser(served):
            assert wait_for(lambda: served.sessions)
            session = next(iter(served.sessions.values()))
            assert tuple(session.look.options) == SURFACES
            assert wait_for(lambda: session.learned.content.startswith('15 keyframes, no field;'))
        info['config']['training']['field'] = 'lerf'
        with browser(served):
            assert wait_for(lambda: any(len(s.look.options) > len(SURFACES)
                                        for s in list(served.sessions.values())))
    finally:
        served.close()


def test_the_page_tells_how_far_the_map_has_come(query):
    stamp_ns = int(datetime(2026, 3, 4, 14, 3, 20).timestamp() * 1e9)
    info = {'keyframes': 41, 'steps': 1200, 'psnr': 24.06, 'stamp_ns': stamp_ns}
    served = MapPage(query.ask, query.directory.path, port=free_port(), info=lambda: info)
    try:
        page = served.open(served.server)
        expected = '41 keyframes, 1200 steps, PSNR 24.1 dB; snapshot of 14:03:20'
        assert wait_for(lambda: page.learned.content == expected), page.learned.content
        info['steps'], info['psnr'] = 1300, None
        served.refreshed()
        expected = '41 keyframes, 1300 steps; snapshot of 14:03:20'
        assert wait_for(lambda: page.learned.content == expected), page.learned.content
    finally:
        served.close()


def test_before_the_first_phrase_the_surface_is_shown(page):
    assert wait_for(lambda: '/cloud' in nodes(page))
    assert not [name for name in nodes(page) if name.startswith('/keyframes/')]
    page.keyframes.value = True
    page.drawing.show_keyframes(True)
    assert '/keyframes/000000' in nodes(page)
    page.drawing.show_keyframes(False)
    assert '/keyframes/000000' not in nodes(page)
    assert not [name for name in nodes(page) if name.endswith('/box')]
    cloud = page.place.scene._handle_from_node_name['/cloud']
    assert (np.asarray(cloud.colors) == 90).all()       # the map's own grey


def test_a_typed_phrase_is_answered(page):
    page.submit('mug')
    assert shown(page, 'mug')
    assert {'/answer/0/box', '/answer/0/label'} <= nodes(page)
    assert '/answer/gripper' not in nodes(page)     # a solid lattice of points cannot be gripped

    np.testing.assert_allclose(page.answer.hits[0].position, CUBES['mug'][0], atol=0.02)
    cloud = page.place.scene._handle_from_node_name['/cloud']
    # The mug has turbo's end, and what fits as well as the negatives (0.5) turbo's beginning.
    np.testing.assert_allclose(np.asarray(cloud.colors)[:216], [[122, 4, 2]] * 216, atol=4)
    # That is no hit, and faint: a third of turbo's [48, 18, 59], the rest the surface's 90.
    np.testing.assert_allclose(np.asarray(cloud.colors)[216:648], [[75, 65, 79]] * 432, atol=4)
    page.submit('plate')
    assert shown(page, 'plate')
    assert '/answer/1/box' not in nodes(page)


def test_an_answer_comes_with_the_photograph_that_proves_it(page):
    assert not page.photograph.visible and not page.next.visible
    page.submit('mug')
    assert shown(page, 'mug') and wait_for(lambda: page.photograph.visible)
    picture = np.asarray(page.photograph.image)
    assert picture.shape[:2] == (CAMERA.height, CAMERA.width)
    assert any((picture != stored.image).any() for stored in map_views(page._map_directory))
    assert page.next.visible
    page.submit('plate')
    assert shown(page, 'plate')
    assert wait_for(lambda: list(page.asked.options) == [NOTHING_ASKED, 'plate', 'mug'])


def test_a_saved_answer_has_the_cloud_that_it_names(page, monkeypatch):
    sent = {}
    page.submit('mug')
    assert shown(page, 'mug')
    monkeypatch.setattr(page.place, 'send_file_download', sent.__setitem__, raising=False)
    page._save()
    assert sorted(sent) == ['mug.json', 'mug.ply']
    assert json.loads(sent['mug.json'])['cloud']['file'] == 'mug.ply'
    assert sent['mug.ply'].startswith(b'ply')


def test_a_clicked_thing_is_given_names(query, monkeypatch):
    monkeypatch.setattr('lerf_ros.show.session.NAMES', ('plate', 'ball', 'mug'))
    page = MapPage(query.ask, query.directory.path, port=free_port(),
                   text_query=lambda: query.text_query)
    try:
        session = page.open(page.server)
        assert wait_for(lambda: session.answer is not None)
        ball = session.drawing.place(np.array(CUBES['ball'][0]))
        session.point_at(ball + [0.0, 0.0, 2.0], (0.0, 0.0, -1.0))
        assert wait_for(lambda: '**ball**' in session.words.content)
        session.point_at(ball + [0.0, 0.0, 2.0], (0.0, 0.0, 1.0))      # at the sky
        assert wait_for(lambda: 'Nothing' in session.words.content)
    finally:
        page.close()


def test_a_threshold_above_all_relevancies_finds_nothing(page):
    page.submit('mug')
    assert shown(page, 'mug') and page.answer.hits
    page.threshold.value = 1.0
    page.submit('mug')
    assert wait_for(lambda: page.answer.threshold == 1.0)
    assert not page.answer.hits and wait_for(lambda: not page.photograph.visible)


def test_the_surface_is_drawn_as_flat_discs(page):
    page.submit('mug')
    assert shown(page, 'mug')
    page.look.value = DISCS
    page._change_look()
    assert wait_for(lambda: '/discs' in nodes(page))
    assert not page.place.scene._handle_from_node_name['/cloud'].visible
    # On a plane a disc is thin across it, and reaches as far along it in all directions.
    x, y = np.meshgrid(np.arange(12.0), np.arange(12.0))
    flat = splat_covariances(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1))[65]
    across, along, wide = np.sqrt(np.linalg.eigvalsh(flat))
    assert along == pytest.approx(wide) and across < 0.3 * along
    assert abs(flat[2, 2]) == pytest.approx(across ** 2)


def test_a_map_far_from_the_origin_is_shown_around_it(tmp_path):
    index = replace(cube_index(CUBES), origin=np.array([388096.0, 5948996.0, 50.0]))
    query = MapQuery(write_map(tmp_path / 'utm', index), encoder=WordEncoder())
    query.refresh()
    served = MapPage(query.ask, query.directory.path, port=free_port())
    try:
        page = served.open(served.server)
        page.submit('mug')
        assert shown(page, 'mug')
        handles = page.place.scene._handle_from_node_name
        np.testing.assert_allclose(np.asarray(handles['/answer/0/label'].position)[:2],
                                   CUBES['mug'][0][:2], atol=1e-4)
        assert np.abs(handles['/cloud'].position).max() < 1
        assert np.abs(page.place.initial_camera.position).max() < 10
    finally:
        served.close()


def test_the_gripper_stands_at_the_best_grasp(query):
    T = np.eye(4)
    grasp = Grasp(T, T, T, 0.05, 1.0, 1.0, 1.0)
    served = MapPage(lambda request: replace(query.ask(request), grasps=(grasp,),
                                             T_world_target=T),
                     query.directory.path, port=free_port())
    try:
        page = served.open(served.server)
        page.submit('mug')
        assert shown(page, 'mug') and '/answer/gripper' in nodes(page)
    finally:
        served.close()


def test_several_phrases_have_a_colour_each(page):
    page.submit('mug; plate')
    assert shown(page, 'mug', 'plate')
    colors = np.asarray(page.place.scene._handle_from_node_name['/cloud'].colors)
    assert len(np.unique(colors[:216], axis=0)) == len(np.unique(colors[216:432], axis=0)) == 1
    assert (colors[0] != colors[216]).any()


def test_the_other_boxes_make_the_request(page):
    page.phrase.value, page.rather_than.value, page.part.value = 'mug', 'plate; ball', ' handle '
    assert page.request() == QueryRequest('mug', rather_than=('plate', 'ball'), part='handle')
    page.phrase.value = ' ; '
    assert page.request() is None


def test_a_part_without_its_whole_says_what_is_missing(page):
    page.part.value = 'handle'
    page.submit('')
    assert wait_for(lambda: page.words.content == NO_WHOLE)


def test_each_browser_has_its_own_query(served, page):
    import viser
    elsewhere = viser.ViserServer(port=free_port(), verbose=False)
    try:
        other = served.open(elsewhere)
        page.submit('mug')
        assert shown(page, 'mug') and wait_for(lambda: other.answer is not None)
        other.submit('plate')
        assert shown(other, 'plate')
        assert page.answer.text == 'mug' and page.phrase.value == 'mug'
        served.refreshed()
        assert wait_for(lambda: not served.waiting)
        assert shown(page, 'mug') and shown(other, 'plate')
    finally:
        elsewhere.stop()


def test_a_phrase_that_cannot_be_answered_is_told(page):
    page.submit('x' * 5000)
    assert wait_for(lambda: '1000' in page.words.content)
    page.submit('ball')
    assert shown(page, 'ball')


@contextlib.contextmanager
def browser(served, address=''):
    """What a browser does when it opens the page: it connects and tells where its camera is."""
    import viser
    from viser._messages import ViewerCameraMessage
    from websockets.sync.client import connect
    address = address or served.url.replace('http', 'ws')
    with connect(address, subprotocols=[f'viser-v{viser.__version__}'], max_size=None) as socket:
        camera = ViewerCameraMessage((1.0, 0, 0, 0), (3.0, 3.0, 3.0), 1.3, 0.01, 100.0, 600, 800,
                                     (0.0, 0, 0), (0.0, 0, 1.0))
        fields = camera.as_serializable_dict() if hasattr(camera, 'as_serializable_dict') else {
            'type': type(camera).__name__, **vars(camera)}
        socket.send(msgspec.msgpack.encode(fields))
        yield socket


def test_a_session_opens_and_closes_with_its_browser(served):
    with browser(served):
        assert wait_for(lambda: len(served.sessions) == 1)
        page = next(iter(served.sessions.values()))
        page.submit('mug')
        assert shown(page, 'mug') and '/answer/0/box' in nodes(page)
        with browser(served):
            assert wait_for(lambda: len(served.sessions) == 2)
            other = next(s for s in served.sessions.values() if s is not page)
            other.submit('plate')
            assert shown(other, 'plate') and page.answer.text == 'mug'
        assert wait_for(lambda: len(served.sessions) == 1)
    assert wait_for(lambda: not served.sessions)


def test_a_newer_snapshot_is_asked_again(page, served):
    page.submit('mug')
    assert shown(page, 'mug')
    first = page.answer
    served.refreshed()
    assert wait_for(lambda: page.answer is not first)


def test_a_map_that_comes_later_appears(tmp_path):
    (tmp_path / 'map').mkdir()
    query = MapQuery(tmp_path / 'map', encoder=WordEncoder())
    served = MapPage(query.ask, tmp_path / 'map', port=free_port())
    try:
        page = served.open(served.server)
        assert served.waiting
        assert wait_for(lambda: 'no snapshot' in page.words.content)
        with pytest.raises(NoSnapshotError):
            query.ask(QueryRequest('mug'))
        write_map(tmp_path / 'map')

        class Once:     # stops after the first look
            looks = 0

            def wait(self, _):
                self.looks += 1
                return self.looks > 1

        follow(query, served, Once())
        assert wait_for(lambda: page.answer is not None and not served.waiting)
    finally:
        served.close()


def test_without_viser_the_error_says_how_to_install_it(monkeypatch, query):
    def missing():
        raise ConfigError('pip install "lerf_ros[view]"')

    monkeypatch.setattr(page_module, 'require_viser', missing)
    with pytest.raises(ConfigError, match='view'):
        MapPage(query.ask, query.directory.path)


def test_the_words_of_an_answer(query):
    answer = query.ask(QueryRequest('mug'))
    assert '| 1 |' in in_words(answer) and 'nan' not in in_words(answer)
    sure = replace(answer, probability=0.5, hits=(replace(answer.hits[0], probability=0.25),))
    assert '| 25% |' in in_words(sure)
    absent = replace(answer, hits=(), presence=Presence.ABSENT)
    assert 'not found' in in_words(absent) and '| 1 |' not in in_words(absent)


def test_the_table_of_several_phrases_begins_with_the_size(query):
    answer = query.ask(QueryRequest(texts=('mug', 'plate')))
    lines = in_words(answer).splitlines()
    assert lines[lines.index('**mug**') + 2].startswith('| # | size (cm) | relevancy')
    assert any(line.startswith('| 1 | 10\u00a0×\u00a010\u00a0×\u00a010 |') for line in lines)
    assert [line.split()[1] for line in lines if line.startswith('| ') and 'cm' not in line
            and '-' not in line] == ['1', '2']


def looking(position, target, up):
    """The pose (4, 4) of a level camera."""
    forward = np.subtract(target, position) / np.linalg.norm(np.subtract(target, position))
    right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T[:3, 3] = position
    return T


def ring(up=(0, 0, 1.0), count=8):
    """Cameras around the origin that look at it, a little down."""
    up = np.array(up)
    one = np.cross(up, [1.0, 0, 0] if abs(up[0]) < 0.9 else [0, 1.0, 0])
    two = np.cross(up, one)
    return [looking(one * math.cos(a) + two * math.sin(a) + 0.4 * up, np.zeros(3), up)
            for a in np.linspace(0, 2 * math.pi, count, endpoint=False)]


def test_the_page_opens_where_a_camera_stood():
    poses = [*ring(), looking((0.1, 0.2, 5.0), (0, 0, 0), (0, 1.0, 0))]
    position, target = first_view(np.zeros((0, 3)), poses, np.array([0, 0, 1.0]))
    np.testing.assert_allclose(target, 0, atol=0.05)
    distance = math.hypot(1.0, 0.4)
    assert np.linalg.norm(position - target) == pytest.approx(1.15 * distance, rel=0.05)
    nearest = min(poses, key=lambda T: np.linalg.norm(T[:3, 3] - position))
    assert np.linalg.norm(nearest[:3, 3] - position) == pytest.approx(0.15 * distance, rel=0.05)
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0), [0.0]), -1).reshape(-1, 3)
    assert point_size(grid) == pytest.approx(2.0)       # twice the pitch
    position, target = first_view(grid, [], np.array([0, -1.0, 0]))
    np.testing.assert_allclose(target, [2, 2, 0], atol=1e-9)
    assert position[1] < target[1] - 1      # above, where up is -y


def test_a_map_is_looked_at_through_its_own_lens():
    # 48 pixels high: at a focal length of 24 half of it is seen at 45 degrees; a long lens has 24.
    camera = replace(CAMERA, width=64, height=48, fx=24.0, fy=24.0)
    long = replace(camera, fy=24 / math.tan(math.radians(12)))
    assert usual_fov([long, long, camera]) == pytest.approx(math.radians(24))
    assert usual_fov([camera]) == usual_fov([]) == math.radians(75)      # no wider than this


def test_a_map_on_its_side_is_shown_upright(query, served):
    directory = query.directory.keyframes
    for i, T in enumerate(ring((0, -1.0, 0)), 2):
        directory.add(Keyframe(i, Frame(i, PHOTOGRAPH, CAMERA, T)))
    directory.write_transforms()
    page = served.open(served.server)
    page.submit('mug')
    assert shown(page, 'mug')
    np.testing.assert_allclose(page.drawing.up.direction, [0, -1, 0], atol=0.05)
    np.testing.assert_allclose(page.place.initial_camera.up, [0, -1, 0], atol=0.05)
    label = page.place.scene._handle_from_node_name['/answer/0/label']
    assert label.position[1] < page.drawing.place(np.array(CUBES['mug'][0]))[1] - 0.04


class Browser:
    """Headless Chromium on a page, driven over its DevTools protocol."""

    def __init__(self, url, folder):
        from websockets.sync.client import connect
        self.process = subprocess.Popen(
            [CHROMIUM, '--headless=new', '--no-sandbox', '--use-angle=swiftshader',
             '--enable-unsafe-swiftshader', '--remote-debugging-port=0',
             f'--user-data-dir={folder}', '--window-size=1000,700', url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = folder / 'DevToolsActivePort'
        assert wait_for(lambda: port_file.is_file() and port_file.read_text().strip(), 60)
        port = port_file.read_text().split()[0]
        assert wait_for(lambda: self.pages(port), 30)
        self.socket = connect(self.pages(port)[0]['webSocketDebuggerUrl'], max_size=None)
        self.count = 0

    @staticmethod
    def pages(port):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/json/list', timeout=10) as reply:
            return [p for p in json.load(reply) if p['type'] == 'page']

    def call(self, method, **parameters):
        self.count += 1
        self.socket.send(json.dumps({'id': self.count, 'method': method, 'params': parameters}))
        while True:
            reply = json.loads(self.socket.recv(timeout=60))
            if reply.get('id') == self.count:
                return reply['result']

    def evaluate(self, expression):
        return self.call('Runtime.evaluate', expression=expression)['result'].get('value')

    def picture(self):
        import base64

        import cv2
        data = base64.b64decode(self.call('Page.captureScreenshot', format='png')['data'])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')
def test_a_phrase_typed_in_a_browser_changes_the_picture(served, tmp_path):
    browser = Browser(served.url, tmp_path / 'profile')
    try:
        box = "[...document.querySelectorAll('input.mantine-TextInput-input')].find(e => !e.value)"
        assert wait_for(lambda: browser.evaluate(f'!!{box}'), 60)
        assert wait_for(lambda: len(served.sessions) == 1)
        page = next(iter(served.sessions.values()))
        browser.evaluate(f'{box}.focus()')
        browser.call('Input.insertText', text='mug')
        assert shown(page, 'mug')
        # The mug's points and the edges of its box have the red end of turbo, and nothing else.

        def red():
            b, g, r = browser.picture().astype(int).transpose(2, 0, 1)
            return int(((r > 100) & (g < 60) & (b < 60)).sum())

        assert wait_for(lambda: red() > 200, 60)
        assert browser.evaluate("document.body.innerText.includes('1 place')")
    finally:
        browser.close()

# SPDX-License-Identifier: Apache-2.0
"""The fault matrix of lerf/query: each wrong request has its code, and the node goes on.

The names of the cases are the rows of docs/faults.md (test_faults_documented.py).
"""

import math
import pickle
import shutil

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.node import Node
from ros_bench import overrides, spin_until
from sensor_msgs.msg import Image, RegionOfInterest
from test_end_to_end import mapped
from tiny_world import WORDS, ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.map_query import MapQuery
from lerf_ros.msg import ErrorCode
from lerf_ros.nodes.common import topics
from lerf_ros.nodes.query_node import QueryNode
from lerf_ros.srv import Query
from lerf_ros.storage.map_directory import MapDirectory

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('ros')]
R = ErrorCode


class WordEncoder(ColorEncoder):
    """Any other phrase means the same as 'purple', which is nowhere."""

    def encode_texts(self, texts):
        return super().encode_texts([t if t in WORDS else 'purple' for t in texts])


class OtherEncoder(WordEncoder):
    def identity(self):
        return {'name': 'another'}


def picture(**fields):
    return Image(**{'width': 2, 'height': 2, 'encoding': 'rgb8', 'step': 6, 'data': bytes(12),
                    **fields})


def box(size, **pose):
    return {'text': 'red', 'region_pose': Pose(**pose), 'region_size': Vector3(**dict(
        zip('xyz', size)))}


# name: (request, code, words of the message)
REQUESTS = {
    'empty phrase': ({'text': ''}, R.EMPTY_TEXT, 'say what to look for'),
    'blank phrase': ({'text': ' \t\n'}, R.EMPTY_TEXT, 'say what to look for'),
    'blank among many phrases': ({'texts': ['red', ' ']}, R.EMPTY_TEXT, 'empty'),
    'phrase of 10,000 characters': ({'text': 'x' * 10_000}, R.INVALID_REQUEST, '10000 characters'),
    'negative of 10,000 characters': (
        {'text': 'red', 'negatives': ['x' * 10_000]}, R.INVALID_REQUEST, '10000 characters'),
    '300 phrases': ({'texts': ['red'] * 300}, R.INVALID_REQUEST, '300'),
    'right-to-left phrase': ({'text': 'כוס אדומה'}, R.NONE, 'כוס אדומה'),
    'emoji phrase': ({'text': '☕🔴'}, R.NONE, '☕🔴'),
    'phrase and phrases at once': (
        {'text': 'red', 'texts': ['blue']}, R.INVALID_REQUEST, 'give one of them'),
    'phrase and picture at once': (
        {'text': 'red', 'image': picture()}, R.INVALID_REQUEST, 'give one of them'),
    'blank negative': ({'text': 'red', 'negatives': [' ']}, R.EMPTY_NEGATIVE, 'negative'),
    'blank rival': ({'text': 'red', 'rather_than': ['']}, R.EMPTY_NEGATIVE, 'negative'),
    'threshold NaN': ({'text': 'red', 'threshold': math.nan}, R.INVALID_THRESHOLD, 'nan'),
    'threshold infinite': ({'text': 'red', 'threshold': math.inf}, R.INVALID_THRESHOLD, 'inf'),
    'threshold above 1': ({'text': 'red', 'threshold': 2.0}, R.INVALID_THRESHOLD, '2.0'),
    'threshold below 0': ({'text': 'red', 'threshold': -0.5}, R.INVALID_THRESHOLD, '-0.5'),
    'too many hits asked for': (
        {'text': 'red', 'max_hits': 2**32 - 1}, R.INVALID_REQUEST, '4294967295'),
    'region with NaN in its pose': (
        box((1.0, 1.0, 1.0), position=Point(x=math.nan)), R.INVALID_REQUEST, 'region'),
    'region with a rotation of length 0': (
        box((1.0, 1.0, 1.0), orientation=Quaternion(w=0.0)), R.INVALID_REQUEST, ''),
    'region of negative size': (box((1.0, -1.0, 1.0)), R.INVALID_REQUEST, 'region'),
    'region that is flat': (box((1.0, 1.0, 0.0)), R.INVALID_REQUEST, 'region'),
    'unknown frame': ({'text': 'red', 'frame_id': 'moon'}, R.NO_TRANSFORM, 'moon'),
    'frame name of 300 characters': (
        {'text': 'red', 'frame_id': 'f' * 300}, R.INVALID_REQUEST, '300'),
    'picture of size 0': ({'image': picture(width=0, data=bytes(0))}, R.BAD_IMAGE, ''),
    'picture with too little data': ({'image': picture(data=bytes(3))}, R.BAD_IMAGE, '3 bytes'),
    'picture of unknown encoding': (
        {'image': picture(encoding='xyz48')}, R.BAD_IMAGE, 'xyz48'),
    'picture too large': (
        {'image': picture(width=2**16, height=2**16)}, R.BAD_IMAGE, 'shrink'),
    'keyframe that does not exist': (
        {'keyframe': 10**6, 'keyframe_crop': RegionOfInterest(width=8, height=8)}, R.BAD_IMAGE,
        '1000000'),
    'crop outside of its keyframe': (
        {'keyframe': 0, 'keyframe_crop': RegionOfInterest(x_offset=95, width=80, height=8)},
        R.BAD_IMAGE, ''),
}


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())


@pytest.fixture(scope='module')
def finished_map(tmp_path_factory):
    """A map with two snapshots."""
    folder = tmp_path_factory.mktemp('map')
    mapper = mapped(folder, [photograph(T) for T in orbit(10)], steps=60)
    mapper.snapshot()
    return folder


class Bench:
    """The query node on a map, and a client."""

    def __init__(self, folder):
        self.node = QueryNode(MapQuery, parameter_overrides=overrides(map_directory=str(folder)))
        self.client_node = Node('client')
        self.nodes = (self.node, self.client_node)
        self.client = self.client_node.create_client(Query, topics.QUERY)
        assert self.node.start_alone(), self.node.failure
        assert spin_until(self.nodes, self.client.service_is_ready)

    def ask(self, **request):
        future = self.client.call_async(Query.Request(**request))
        assert spin_until(self.nodes, future.done)
        return future.result()

    def close(self):
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture
def bench():
    made = []

    def make(folder):
        made.append(Bench(folder))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope='module')
def running(finished_map):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: WordEncoder())
        made = Bench(finished_map)
        yield made
        made.close()


@pytest.mark.parametrize('name', REQUESTS)
def test_request(running, name):
    request, code, words = REQUESTS[name]
    response = running.ask(**request)
    assert (response.error_code, response.success) == (code, code == R.NONE), response.message
    assert words in response.message and response.message
    after = running.ask(text='red')
    assert after.success and after.query_id == response.query_id + 1


def break_nothing(folder):
    pass


def truncate_index(folder):
    file = newest(folder) / 'index.safetensors'
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(folder):
    file = newest(folder) / 'index.safetensors'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def empty_manifest(folder):
    (newest(folder) / 'manifest.json').write_text('')


def delete_index(folder):
    (newest(folder) / 'index.safetensors').unlink()


def foreign_meta(folder):
    (folder / 'meta.json').write_text('[1, 2, 3]')


def future_meta(folder):
    (folder / 'meta.json').write_text('{"format": 999}')


def damaged_everywhere(folder):
    for snapshot in (folder / 'snapshots').iterdir():
        (snapshot / 'index.safetensors').write_bytes(b'junk')


def pickle_in_place(folder):
    for snapshot in (folder / 'snapshots').iterdir():
        (snapshot / 'index.safetensors').write_bytes(pickle.dumps(np.zeros(3)))


def no_snapshots(folder):
    shutil.rmtree(folder / 'snapshots')


def read_only(folder):
    for path in (folder, *folder.rglob('*')):
        path.chmod(0o555 if path.is_dir() else 0o444)


def newest(folder):
    return sorted((folder / 'snapshots').iterdir())[-1]


# name: (what is done to a sound map, code of the next query)
MAPS = {
    'undamaged map': (break_nothing, R.NONE),
    'newest index truncated': (truncate_index, R.NONE),
    'newest index with one bit flipped': (flip_a_bit, R.NONE),
    'newest manifest empty': (empty_manifest, R.NONE),
    'newest index deleted': (delete_index, R.NONE),
    'all snapshots damaged': (damaged_everywhere, R.MAP_UNREADABLE),
    'pickles instead of arrays': (pickle_in_place, R.MAP_UNREADABLE),
    'meta.json of something else': (foreign_meta, R.MAP_UNREADABLE),
    'map of a later format': (future_meta, R.MAP_UNREADABLE),
    'map without snapshots': (no_snapshots, R.NO_SNAPSHOT),
    'read-only map': (read_only, R.NONE),
}


@pytest.mark.parametrize('name', MAPS)
def test_map(bench, finished_map, tmp_path, name):
    harm, code = MAPS[name]
    folder = tmp_path / 'map'
    shutil.copytree(finished_map, folder)
    harm(folder)
    running = bench(folder)
    response = running.ask(text='red')
    assert (response.error_code, response.success) == (code, code == R.NONE), response.message
    assert running.ask(text='red').error_code == code     # and the node goes on


def test_map_made_by_another_encoder(bench, finished_map, monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: OtherEncoder())
    response = bench(finished_map).ask(text='red')
    assert response.error_code == R.ENCODER_MISMATCH and 'another' in response.message


def test_a_folder_that_is_not_there_yet_is_waited_for(bench, finished_map, tmp_path):
    running = bench(tmp_path / 'later')
    assert running.ask(text='red').error_code == R.NO_SNAPSHOT
    shutil.copytree(finished_map, tmp_path / 'later')
    assert MapDirectory(tmp_path / 'later').newest() is not None
    assert spin_until(running.nodes, lambda: running.node.map.ready)
    assert running.ask(text='red').success

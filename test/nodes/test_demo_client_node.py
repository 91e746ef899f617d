# SPDX-License-Identifier: Apache-2.0
"""The demo client: when it takes a map for ready, and its whole way against a made-up map."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytestmark = pytest.mark.ros

from ros_bench import overrides, spin_until  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402

from lerf_ros.geometry.camera import OPENGL_TO_OPENCV  # noqa: E402
from lerf_ros.msg import ErrorCode, FieldStatus, Presence  # noqa: E402
from lerf_ros.nodes.common import topics  # noqa: E402
from lerf_ros.nodes.common.conversions import ns_to_stamp, read_cloud, to_cloud  # noqa: E402
from lerf_ros.nodes.demo.client import MapProgress  # noqa: E402
from lerf_ros.nodes.demo.config import CAMERA_INFO_TOPIC  # noqa: E402
from lerf_ros.nodes.demo_client_node import DemoClientNode  # noqa: E402
from lerf_ros.simulation.scene import TabletopScene  # noqa: E402
from lerf_ros.simulation.stage import stage  # noqa: E402
from lerf_ros.simulation.trajectory import look_at  # noqa: E402
from lerf_ros.srv import Query  # noqa: E402

SECOND = 10**9


def status(steps, stamp_s, snapshot_s=0.0, **values):
    values = {'state': FieldStatus.MAPPING, 'psnr': 21.0, **values}
    msg = FieldStatus(steps=steps, newest_snapshot=ns_to_stamp(round(snapshot_s * SECOND)),
                      **values)
    msg.header.stamp = ns_to_stamp(round(stamp_s * SECOND))
    return msg


def watched(report, last_image_s=10.0):
    progress = MapProgress(quiet_s=5.0)
    progress.image(5 * SECOND, 5.0)
    progress.image(10 * SECOND, last_image_s)
    progress.report(report)
    return progress


# Ready ---------------------------------------------------------------------------------------

def test_a_settled_map_is_ready_once_no_image_comes_any_more():
    progress = watched(status(100, 12.0, 11.0, state=FieldStatus.SETTLED))
    assert not progress.ready(14.0) and progress.ready(15.5)
    assert progress.first_image_ns == 5 * SECOND


def test_a_map_without_a_snapshot_or_that_still_learns_is_not_ready():
    assert not watched(status(100, 12.0, state=FieldStatus.SETTLED)).ready(60.0)
    assert not watched(status(100, 12.0, 11.0)).ready(60.0)


def test_no_image_and_no_report_is_not_ready():
    assert not MapProgress(5.0).ready(1e6)
    assert 'the mapper is starting' in MapProgress(5.0).line()
    loading = status(0, 1.0, state=FieldStatus.WAITING, message='loading models')
    assert watched(loading).line() == 'loading models'
    assert 'PSNR 21.0 dB' in watched(status(3, 1.0)).line()


def test_a_snapshot_of_before_the_last_image_does_not_hold_it():
    assert not watched(status(100, 12.0, 9.0)).snapshot_after_capture()     # the last came at 10
    assert watched(status(100, 12.0, 11.0)).snapshot_after_capture()


# The whole way -------------------------------------------------------------------------------

class FakeRobot:
    """Publishes what camera and mapper do, and answers as a good map with one flaw would."""

    def __init__(self, scene, wrong):
        self.node = rclpy.create_node('robot')
        self.scene, self.wrong, self.asked = scene, wrong, []
        self.report = SimpleNamespace(state=FieldStatus.SETTLED, message='')
        self._infos = self.node.create_publisher(CameraInfo, CAMERA_INFO_TOPIC, 10)
        self._status = self.node.create_publisher(
            FieldStatus, topics.STATUS, topics.STATUS_QOS)
        self.node.create_timer(0.1, self.publish)
        self.images = 0

    def serve(self):
        self.node.create_service(Query, topics.QUERY, self.answer)

    def publish(self):
        now_ns = self.node.get_clock().now().nanoseconds
        if self.images < 3 and self._infos.get_subscription_count():
            info = CameraInfo()
            info.header.stamp = ns_to_stamp(now_ns)
            self._infos.publish(info)
            self.images += 1
        msg = status(500, now_ns / SECOND, 1.0, state=self.report.state,
                     message=self.report.message, keyframes_used=3)
        self._status.publish(msg)

    def answer(self, request, response):
        self.asked.append(request.text)
        if len(self.asked) == 1:     # the query node has not seen the snapshot yet
            response.error_code = ErrorCode.NO_SNAPSHOT
            return response
        things = [t for t in self.scene.objects if t.query == request.text]
        response.success, response.presence, response.metric = True, int(bool(things)), True
        response.snapshot_stamp = ns_to_stamp(SECOND)
        centres = np.array([t.center for t in self.scene.objects])
        relevancy = np.array([0.9 if t in things else 0.2 for t in self.scene.objects])
        response.cloud = to_cloud(centres, np.full((len(centres), 3), 7), relevancy, 'map',
                                  ns_to_stamp(SECOND))
        if things:
            response.hits = [hit_on(things[0], request.text == self.wrong)]
        return response


def hit_on(thing, wrong):
    from lerf_ros.msg import QueryHit
    hit = QueryHit(relevancy=0.9, points=1, keyframes=3)
    x, y, z = thing.center
    at = hit.box.center.position
    at.x, at.y = float(x), float(y)
    at.z = float(z) + (5.0 if wrong else 0.0)
    size = hit.box.size
    size.x, size.y, size.z = (float(v) for v in thing.box_max - thing.box_min)
    return hit


@pytest.fixture
def scene():
    rclpy.init()
    yield TabletopScene.generate(1)
    rclpy.shutdown()


def photographs(folder, scene):
    """A map folder with two grey pictures of the table."""
    frames = []
    for number, eye in enumerate(((1.0, 0.0, 1.5), (0.0, 1.0, 1.5))):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((48, 64, 3), 120, np.uint8))
        T = look_at(np.array(eye), scene.objects[0].center) @ OPENGL_TO_OPENCV
        frames.append({'file_path': f'{number}.png', 'transform_matrix': T.tolist()})
    (folder / 'transforms.json').write_text(json.dumps({
        'w': 64, 'h': 48, 'fl_x': 50.0, 'fl_y': 50.0, 'cx': 32.0, 'cy': 24.0, 'frames': frames}))


def test_the_demo_asks_judges_and_draws(scene, tmp_path, capsys):
    wrong = scene.objects[1].query
    robot = FakeRobot(scene, wrong)
    robot.serve()
    (tmp_path / 'map').mkdir()
    photographs(tmp_path / 'map', scene)
    client = DemoClientNode(parameter_overrides=overrides(
        seed=1, out=str(tmp_path / 'out'), map_directory=str(tmp_path / 'map'), quiet=0.5))
    assert spin_until([client, robot.node], client.finished.is_set)
    client.destroy_node()
    robot.node.destroy_node()
    read = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert [row['query'] for row in read['present']] == [t.query for t in scene.objects[:8]]
    assert len(read['present']) == 8
    assert [row['inside_box'] for row in read['present']] == [True, False, *[True] * 6]
    assert read['present'][0]['distance_m'] == 0.0
    # Five metres above the centre of the box: half of its height less above its top.
    height = float((scene.objects[1].box_max - scene.objects[1].box_min)[2])
    assert read['present'][1]['distance_m'] == pytest.approx(5.0 - height / 2, abs=1e-5)
    assert [row['found'] for row in read['absent']] == [False] * 3
    assert all(row['relevancy'] == pytest.approx(0.2) for row in read['absent'])
    assert read['seed'] == 1 and read['keyframes'] == 3 and read['psnr'] == pytest.approx(21.0)
    assert 0.5 < read['seconds'] < 30 and read['machine']['cores'] >= 1
    assert client.exit_code == 0     # seven of eight is enough
    assert robot.asked[0] == robot.asked[1]   # asked again when there was no snapshot yet
    assert '7 of 8 present' in capsys.readouterr().out
    sheet = cv2.imread(str(tmp_path / 'out' / 'contact_sheet.jpg'))
    assert sheet.shape == (44 + 6 * 330, 1630, 3)   # eleven tiles, two in a row
    assert (tmp_path / 'out' / 'map.ply').read_bytes().startswith(b'ply')


def test_the_demo_of_a_corridor_asks_of_both_tables_and_draws_them_from_above(scene, tmp_path):
    hall = stage('corridor', 1, 2)
    robot = FakeRobot(hall.scene, '')
    robot.serve()
    client = DemoClientNode(parameter_overrides=overrides(
        seed=1, world='corridor', places=2, out=str(tmp_path / 'out'), quiet=0.5))
    assert spin_until([client, robot.node], client.finished.is_set, timeout_s=30.0)
    client.destroy_node()
    robot.node.destroy_node()
    read = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert [row['query'] for row in read['present']] == hall.asked()[:8]
    assert [row['inside_box'] for row in read['present']] == [True] * 8
    # Half of them lie on the second table, 2.5 m along x.
    assert [row['position'][0] > 1.25 for row in read['present']] == [False, True] * 4
    assert cv2.imread(str(tmp_path / 'out' / 'from_above.png')).shape[1] > 400


@pytest.mark.parametrize(('check', 'code'), [(True, 1), (False, 0)])
def test_a_demo_that_misses_its_bar_ends_with_1_and_says_why(scene, tmp_path, capfd, check, code):
    robot = FakeRobot(scene, '')
    answer = robot.answer

    def learning(request, response):
        response = answer(request, response)
        response.learning, response.hits, response.presence = True, [], Presence.ABSENT
        return response
    robot.answer = learning
    robot.serve()
    client = DemoClientNode(parameter_overrides=overrides(
        seed=1, out=str(tmp_path / 'out'), quiet=0.5, check=check))
    assert spin_until([client, robot.node], client.finished.is_set)
    client.destroy_node()
    robot.node.destroy_node()
    assert client.exit_code == code
    said = capfd.readouterr().err
    assert ('has missed its bar' in said) == check
    assert ('11 of 11 answers came from a map that was still learning' in said) == check
    assert ('load average' in said) == check


def test_a_failed_mapper_ends_the_demo_in_words(scene, tmp_path, capfd):
    robot = FakeRobot(scene, '')
    robot.report = SimpleNamespace(state=FieldStatus.FAILED, message='no memory left')
    client = DemoClientNode(parameter_overrides=overrides(out=str(tmp_path)))
    assert spin_until([client, robot.node], client.finished.is_set)
    client.destroy_node()
    robot.node.destroy_node()
    assert client.exit_code == 1 and robot.asked == []
    assert 'the mapper has failed: no memory left' in capfd.readouterr().err


def test_a_camera_that_never_starts_is_named(scene, tmp_path, capfd):
    client = DemoClientNode(parameter_overrides=overrides(out=str(tmp_path), start_timeout=1.0))
    assert spin_until([client], client.finished.is_set)
    client.destroy_node()
    assert client.exit_code == 1 and 'is the camera running' in capfd.readouterr().err


def test_a_cloud_is_read_back():
    points = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]])
    colors = np.array([[1, 2, 3], [250, 0, 255]], np.uint8)
    read = read_cloud(to_cloud(points, colors, np.array([0.25, 0.75]), 'map', ns_to_stamp(1),
                               hits=np.array([0, 2])))
    assert (read.points == points).all() and (read.colors == colors).all()
    assert read.relevancy.tolist() == [0.25, 0.75] and read.hits.tolist() == [0, 2]
    empty = read_cloud(Query.Response().cloud)
    assert [len(part) for part in empty] == [0, 0, 0, 0]

# SPDX-License-Identifier: Apache-2.0
"""What RViz and vision_msgs get of an answer: markers, labels, detections, outlines."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from full_answer import full_answer, shifted
from hand_made_map import CAMERA
from ros_bench import answer
from seen_by_rviz import seen
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from lerf_ros.nodes.common.conversions import answer_to_cloud
from lerf_ros.nodes.query.answer_publisher import to_detections
from lerf_ros.nodes.query.markers import EDGES, LEGEND, NAMESPACES, to_markers
from lerf_ros.query.answer import Hit, PhraseAnswer, Presence
from lerf_ros.show.colors import TAB10, turbo
from lerf_ros.show.outlines import keyframe_outlines
from lerf_ros.show.rviz_view import View
from lerf_ros.show.words import label_text, summary
from lerf_ros.simulation.scene import TabletopScene

pytestmark = pytest.mark.ros


def test_markers_show_boxes_labels_gripper_and_keyframes():
    frusta = keyframe_outlines([(CAMERA, shifted(z=1.0)), (CAMERA, shifted(x=1.0, z=1.0))])
    markers = to_markers(full_answer(), Header().stamp, frusta).markers
    by_name = {m.ns: m for m in markers}
    assert markers[0].action == Marker.DELETEALL
    assert set(by_name) == {'', *NAMESPACES} - {LEGEND}      # all was found
    assert by_name['labels'].text == 'cup 75 %'
    gripper = by_name['gripper'].points
    tips = [(p.x, p.y, p.z) for p in (gripper[0], gripper[2])]
    np.testing.assert_allclose(tips, [(1, 1.97, 3), (1, 2.03, 3)])     # 6 cm apart, along y
    assert len(by_name['keyframes'].points) == 2 * 8 * 2
    assert by_name['keyframes'].scale.x < 0.002                         # thin
    assert len(by_name['edges'].points) == 2 * 12
    axes = by_name['target']
    assert [(c.r, c.g, c.b) for c in axes.colors[::2]] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_spaces_in_a_label_are_as_wide_as_letters():
    for marker in to_markers(two_phrases(), Header().stamp).markers:
        if marker.type == Marker.TEXT_VIEW_FACING:
            assert marker.scale.x == marker.scale.z > 0


def test_the_edges_of_a_single_phrase_have_a_colour_that_the_cloud_has_not():
    edges = next(m for m in to_markers(answer(), Header().stamp).markers if m.ns == EDGES)
    turbo_colors = turbo(np.linspace(0, 1, 256)).astype(float) / 255
    own = np.array([edges.color.r, edges.color.g, edges.color.b])
    assert edges.color.a == 1.0 and np.linalg.norm(turbo_colors - own, axis=1).min() > 0.5


def two_phrases(second=Presence.ABSENT):
    """A cup that is there and a tea pot that is not."""
    full = full_answer()
    return replace(full, texts=('tea pot', 'cup'), phrases=(
        PhraseAnswer('tea pot', second, looks_more_like=('bowl',)),
        PhraseAnswer('cup', Presence.PRESENT, full.hits, 0.875)))


def test_several_phrases_have_a_colour_each_and_a_legend():
    markers = to_markers(two_phrases(), Header().stamp).markers
    legend = [m for m in markers if m.ns == LEGEND]
    assert [m.text for m in legend] == ['tea pot: not found, looks more like bowl',
                                        'cup: 1 place']
    assert legend[0].pose.position.z > legend[1].pose.position.z
    edges = next(m for m in markers if m.ns == EDGES)
    second = (TAB10[1] / 255).tolist()
    assert [edges.color.r, edges.color.g, edges.color.b] == pytest.approx(second)
    assert [legend[1].color.r, legend[1].color.g, legend[1].color.b] == pytest.approx(second)
    # The points of the cloud have it too: the second of them fits the first phrase at 0.1 only.
    cloud = answer_to_cloud(two_phrases(), Header().stamp)
    rgb = np.frombuffer(cloud.data, '<u4').reshape(-1, 7)[:, 3]
    assert rgb.tolist() == [int(TAB10[1][0]) << 16 | int(TAB10[1][1]) << 8 | int(TAB10[1][2]),
                            0x090909]


@pytest.mark.parametrize(('presence', 'words'), [
    (Presence.ABSENT, 'unicorn: not found'), (Presence.NOT_OBSERVED, 'unicorn: not observed')])
def test_an_absent_phrase_says_so_and_deletes_what_stood_there(presence, words):
    absent = replace(answer('unicorn', found=False), presence=presence)
    markers = to_markers(absent, Header().stamp).markers
    assert [(m.action, m.ns) for m in markers] == [(Marker.DELETEALL, ''), (Marker.ADD, LEGEND)]
    assert markers[1].text == words


def test_markers_of_a_demo_map_are_inside_the_view_of_that_map():
    """Boxes, labels, legend and gripper of things on the demo's table, seen as RViz would."""
    scene = TabletopScene.generate(0)
    hits = tuple(Hit(np.array(t.center), np.eye(3), np.array(t.box_max) - np.array(t.box_min), 0.9,
                     0.1, 50, 9, t.query) for t in scene.objects)
    rng = np.random.default_rng(0)
    table = rng.uniform([-0.6, -0.6, 0.7], [0.6, 0.6, 0.76], (3000, 3))
    floor = rng.uniform([-1.5, -1.5, 0.0], [1.5, 1.5, 0.01], (3000, 3))
    points = np.concatenate([table, floor])
    found = replace(full_answer(), hits=hits, texts=tuple(h.label for h in hits),
                    points_world=points, relevancy=np.full(len(points), 0.1),
                    T_world_target=shifted(*hits[0].position), phrases=tuple(
                        PhraseAnswer(h.label, Presence.PRESENT, (h,)) for h in hits))
    view = View.of(points)
    ends = np.concatenate([corners_of(m) for m in to_markers(found, Header().stamp).markers[1:]])
    assert len(ends) > 100 and seen(view, ends).all()


def corners_of(marker):
    """What a marker reaches to, (N, 3)."""
    at = marker.pose.position
    middle = np.array([at.x, at.y, at.z])
    if marker.points:
        return middle + np.array([(p.x, p.y, p.z) for p in marker.points])
    half = np.array([marker.scale.x, marker.scale.y, marker.scale.z]) / 2
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    return middle + signs * half


def test_labels_show_relevancy_where_there_is_no_probability():
    assert label_text(answer().hits[0], 'mug') == 'mug 0.80'


def test_summaries_name_the_phrase_of_the_best_place():
    assert "best (cup) at (1.00, 2.00, 3.00) m in 'map'" in summary(full_answer())


def test_hits_as_detections():
    msg = to_detections(full_answer(), Header().stamp)
    (detection,) = msg.detections
    assert msg.header.frame_id == detection.header.frame_id == 'map'
    assert (detection.bbox.center.position.z, detection.bbox.size.z) == (3.0, 0.4)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('cup', 0.75)
    assert result.pose.pose.position.z == 3.0
    plain = to_detections(answer(), Header().stamp).detections[0]
    assert plain.results[0].hypothesis.score == pytest.approx(0.8)      # relevancy


def test_keyframe_outlines_end_in_the_image_plane():
    segments = keyframe_outlines([(CAMERA, shifted(z=2.0))])
    assert segments.shape == (8, 2, 3)
    depth = 0.05
    # the camera is at (0, 0, 2); pixel (0, 0) lies at -32/60, -24/60 of its depth
    np.testing.assert_allclose(segments[0], [[0, 0, 2], [-32 / 60 * depth, -24 / 60 * depth,
                                                         2 + depth]], atol=1e-12)
    assert keyframe_outlines(()).shape == (0, 2, 3)

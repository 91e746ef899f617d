# SPDX-License-Identifier: Apache-2.0
"""What RViz and vision_msgs get of an answer: markers, labels, detections, outlines."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from full_answer import full_answer, shifted
from hand_made_map import CAMERA
from ros_bench import answer
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from lerf_ros.nodes.query.answer_publisher import to_detections, to_markers
from lerf_ros.show.outlines import keyframe_outlines
from lerf_ros.show.words import label_text, summary

pytestmark = pytest.mark.ros


def test_markers_are_coloured_by_relevancy_and_show_gripper_and_keyframes():
    frusta = keyframe_outlines([(CAMERA, shifted(z=1.0)), (CAMERA, shifted(x=1.0, z=1.0))])
    markers = to_markers(full_answer(), Header().stamp, 7, frusta).markers
    by_name = {m.ns: m for m in markers}
    assert markers[0].action == Marker.DELETEALL
    assert set(by_name) == {'', 'query_7_box', 'query_7_label', 'query_7_gripper',
                            'query_7_keyframes'}
    assert by_name['query_7_label'].text == 'cup 75 %'
    box = by_name['query_7_box'].color
    # its relevancy is the highest of the cloud: the red end of turbo
    assert (box.r, box.g, box.b) == pytest.approx((122 / 255, 4 / 255, 2 / 255), abs=0.02)
    gripper = by_name['query_7_gripper'].points
    tips = [(p.x, p.y, p.z) for p in (gripper[0], gripper[2])]
    np.testing.assert_allclose(tips, [(1, 1.97, 3), (1, 2.03, 3)])     # 6 cm apart, along y
    assert len(by_name['query_7_keyframes'].points) == 2 * 8 * 2


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

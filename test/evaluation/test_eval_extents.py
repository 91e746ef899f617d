# SPDX-License-Identifier: Apache-2.0
"""Hits in 3D boxes and overlaps of points, by hand."""

import numpy as np
import pytest

from lerf_ros.evaluation.localization import inside_box, iou, points_in_box

LOW, HIGH = np.array([0.0, 0.0, 0.0]), np.array([0.1, 0.2, 0.3])


@pytest.mark.parametrize(('position', 'inside'), [
    ((0.05, 0.1, 0.15), True), ((-0.02, 0.1, 0.15), True), ((-0.02, 0.22, 0.32), True),
    ((-0.04, 0.1, 0.15), False), ((0.05, 0.1, 0.34), False)])
def test_a_hit_may_be_three_centimetres_off(position, inside):
    assert inside_box(position, LOW, HIGH) is inside


def test_faces_are_inside_and_the_margin_can_be_chosen():
    points = np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3], [0.1, 0.2, 0.31], [-0.01, 0.1, 0.1]])
    assert points_in_box(points, LOW, HIGH).tolist() == [True, True, False, False]
    assert points_in_box(points, LOW, HIGH, 0.02).tolist() == [True] * 4
    assert points_in_box(points, LOW, HIGH, -0.05).tolist() == [False] * 4


def test_iou():
    returned = np.array([1, 1, 1, 0, 0, 0], bool)
    truth = np.array([0, 1, 1, 1, 1, 0], bool)
    assert iou(returned, truth) == iou(truth, returned) == 2 / 5
    assert iou(truth, truth) == 1
    assert iou(truth & False, truth) == iou(truth & False, truth & False) == 0

# SPDX-License-Identifier: Apache-2.0
"""Hits in 3D boxes and overlaps of points and boxes, by hand."""

import numpy as np
import pytest

from lerf_ros.evaluation.judging import box_iou, inside_box, point_iou, points_in_box

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


def test_point_iou():
    returned = np.array([1, 1, 1, 0, 0, 0], bool)
    truth = np.array([0, 1, 1, 1, 1, 0], bool)
    assert point_iou(returned, truth) == point_iou(truth, returned) == 2 / 5
    assert point_iou(truth, truth) == 1
    assert point_iou(truth & False, truth) == point_iou(truth & False, truth & False) == 0


def test_box_iou():
    # Shifted by half its width: half of each is shared, 0.5 of 1.5 volumes.
    assert box_iou(LOW, HIGH, LOW + [0.05, 0, 0], HIGH + [0.05, 0, 0]) == pytest.approx(1 / 3)
    assert box_iou(LOW, HIGH, LOW, HIGH) == pytest.approx(1)
    assert box_iou(LOW, HIGH, LOW, HIGH / 2) == pytest.approx(1 / 8)
    assert box_iou(LOW, HIGH, LOW + 1, HIGH + 1) == 0
    # Apart along two axes: the product of two negative lengths is no volume.
    assert box_iou(LOW, HIGH, LOW + [1, 1, 0], HIGH + [1, 1, 0]) == 0
    assert box_iou(LOW, LOW, LOW, LOW) == 0


def test_box_iou_does_not_depend_on_order_place_or_unit():
    random = np.random.default_rng(0)
    a, b = np.sort(random.random((2, 2, 3)), axis=1)
    value = box_iou(*a, *b)
    assert 0 < value < 1
    assert box_iou(*b, *a) == pytest.approx(value)
    assert box_iou(*(1000 * a - 7), *(1000 * b - 7)) == pytest.approx(value)

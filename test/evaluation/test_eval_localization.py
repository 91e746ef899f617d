# SPDX-License-Identifier: Apache-2.0
"""Peaks in boxes and masks: LERF's and LERF-OVS' rules against values worked out in sight."""

import cv2
import numpy as np
import pytest

from lerf_ros.evaluation.localization import (
    iou,
    lerf_ovs_mask,
    majority,
    mean_filter,
    peak_inside,
    resized_boxes,
    smoothed_peak_inside,
)


def blank(height=60, width=80, value=0.1):
    return np.full((height, width), value, np.float32)


@pytest.mark.parametrize(('box', 'inside'), [
    ((10, 20, 30, 40), True),
    ((12, 34, 12, 34), True),      # edges included
    ((30, 40, 10, 20), True),      # corners in any order
    ((34, 12, 34, 12), False),     # x is the column
    ((13, 20, 30, 40), False)])
def test_the_highest_pixel_decides(box, inside):
    relevancy = blank()
    relevancy[34, 12] = 0.9
    assert peak_inside(relevancy, np.array(box)) is inside


def test_any_of_several_instances_will_do():
    relevancy = blank()
    relevancy[34, 12] = 0.9
    assert peak_inside(relevancy, np.array([[40, 40, 50, 50], [10, 30, 14, 36]]))
    assert not peak_inside(relevancy, np.empty((0, 4)))


def test_pixels_that_show_nothing_are_no_peak():
    relevancy = blank()
    relevancy[5, 5] = np.nan
    relevancy[34, 12] = 0.9
    assert peak_inside(relevancy, np.array([12, 34, 12, 34]))
    assert not peak_inside(np.full((4, 4), np.nan), np.array([0, 0, 4, 4]))


def test_the_mean_filter_spans_15_before_and_14_after_and_mirrors_the_border():
    relevancy = np.random.default_rng(0).random((50, 64))
    # The window of pixel i is i - 15 .. i + 14; at the border the edge pixel is not repeated.
    padded = np.pad(relevancy, ((15, 14), (15, 14)), mode='reflect')
    windows = np.lib.stride_tricks.sliding_window_view(padded, (30, 30))
    np.testing.assert_allclose(mean_filter(relevancy), windows.mean((2, 3)), atol=1e-12)
    kernel = np.ones((30, 30)) / 900
    np.testing.assert_allclose(mean_filter(relevancy), cv2.filter2D(relevancy, -1, kernel),
                               atol=1e-6)


def test_smoothing_prefers_a_large_object_to_a_bright_speck():
    relevancy = blank(120, 160)
    relevancy[10, 10] = 1.0                   # a speck: 0.1 + 0.9 / 900 after the filter
    relevancy[60:100, 80:120] = 0.6           # 40 x 40: the filter's window fits inside
    speck, thing = np.array([8, 8, 12, 12]), np.array([80, 60, 119, 99])
    assert peak_inside(relevancy, speck) and not peak_inside(relevancy, thing)
    assert smoothed_peak_inside(relevancy, thing)
    assert not smoothed_peak_inside(relevancy, speck)
    assert smoothed_peak_inside(relevancy, speck, kernel=1)


def votes(mask):
    """The rule by hand: rows max(0, i - 3) .. min(i + 4, H - 1) without the last, columns too."""
    height, width = mask.shape
    result = np.zeros(mask.shape, bool)
    for i in range(height):
        for j in range(width):
            window = mask[max(0, i - 3):min(i + 4, height - 1),
                          max(0, j - 3):min(j + 4, width - 1)]
            result[i, j] = 2 * window.sum() > window.size
    return result


def test_the_majority_ignores_the_last_row_and_column():
    mask = np.random.default_rng(1).random((23, 31)) > 0.45
    mask[:, -1] = mask[-1] = True
    np.testing.assert_array_equal(majority(mask), votes(mask))


def test_the_mask_holds_what_is_above_seven_tenths_of_the_range():
    relevancy = np.zeros((200, 200))
    relevancy[50:150, 50:150] = 1.0           # far from the edges filtered and raw agree
    relevancy[90:110, 90:110] = 0.8
    mask = lerf_ovs_mask(relevancy)
    assert mask[70, 100] and mask[100, 100]   # about 0.85 and more of the range
    assert not mask[30:45].any() and not mask[:45, :45].any()
    # Just inside a straight edge: 0.5 * (15 or 14 of 30 rows + 1), about 0.75: the object keeps
    # its outline. Just outside: at most a quarter.
    assert mask[51, 100] and not mask[48, 100]


def test_the_mask_follows_the_rule_step_by_step():
    relevancy = cv2.GaussianBlur(np.random.default_rng(3).random((60, 70)), (0, 0), 5)
    mixed = (relevancy + mean_filter(relevancy)) / 2
    of_range = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    expected = votes(2 * of_range - 1 > 0.4)
    assert expected.any() and not expected.all()
    np.testing.assert_array_equal(lerf_ovs_mask(relevancy), expected)


def test_the_mask_does_not_depend_on_offset_and_gain():
    relevancy = cv2.GaussianBlur(np.random.default_rng(2).random((90, 120)), (0, 0), 6)
    np.testing.assert_array_equal(lerf_ovs_mask(relevancy), lerf_ovs_mask(0.3 + 0.2 * relevancy))


def test_mask_iou():
    a, b = np.zeros((2, 4, 5), bool)
    a[:2, :3] = True                 # 6 pixels
    b[1:3, 1:5] = True               # 8 pixels, 2 of them in both
    assert iou(a, b) == iou(b, a) == 2 / 12
    assert iou(a, a) == 1 and iou(a, ~a) == 0
    assert iou(a & False, a & False) == 0


def test_boxes_follow_the_image_size():
    np.testing.assert_allclose(resized_boxes([10, 20, 30, 40], (270, 480), (1080, 960)),
                               [[40, 40, 120, 80]])

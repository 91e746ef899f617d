# SPDX-License-Identifier: Apache-2.0
"""Whether an answer is at the object: in a 3D box, or in a view by the rules of LERF and LERF-OVS.

LERF (section 4.3): a phrase is localized in a rendered view when the pixel of the highest
relevancy is inside a labelled box, of any correct instance. The score is the share of pairs of
view and phrase.

LERF-OVS is the protocol of LangSplat's evaluation (eval/evaluate_iou_loc.py), which others have
adopted. It works as follows:
- Localization: the raw relevancy is filtered with a 30 x 30 mean (cv2.filter2D with its defaults:
  the anchor is the kernel's element (15, 15), the border is mirrored without repeating the edge
  pixel). It is a hit if any pixel that equals the filtered maximum lies in any box of the label,
  edges included. The corners of a box come in any order. A label counts once per image, however
  many boxes it has.
- Mask: the mean of the filtered and the raw relevancy, stretched from its minimum and maximum to
  -1 .. 1, negative values cut to 0, above 0.4 (so: above 70 % of the range); then each pixel takes
  the majority of the 7 x 7 pixels around it. That window is cut off at the border of the image and,
  by a mistake that is now part of the protocol, never contains the last row and column. A tie
  means no.
- The labelled mask is the union of the label's polygons, whose corners are truncated to whole
  pixels.
- LangSplat has three maps per phrase, and chooses the one with the highest filtered maximum for
  localization, and the one with the highest maximum of filtered and raw mean for the mask. LERF has
  one map, at the best scale of the phrase, so there is no choice here.
- mIoU and accuracy are plain means over all pairs of image and label of a scene.

Positions are pixel indices, column before row, as in both protocols.
"""

from __future__ import annotations

import cv2
import numpy as np

# A hit may be this far outside of the object's box, about the tolerance of a gripper. Its position
# comes from surface points, which are only as exact as the depth.
HIT_MARGIN_M = 0.03
OVS_KERNEL = 30
OVS_THRESHOLD = 0.4
OVS_VOTE = 7


def peak_inside(relevancy: np.ndarray, boxes: np.ndarray) -> bool:
    """Returns whether the pixel of the highest relevancy lies in a box: LERF's rule.

    relevancy: (H, W), NaN where unknown. boxes: (K, 4), two opposite corners x, y, x, y in pixels
    of the map, edges included. The first of equal peaks counts.
    """
    ranked = np.where(np.isnan(relevancy), -np.inf, relevancy)
    row, column = np.unravel_index(int(ranked.argmax()), ranked.shape)
    return bool(np.isfinite(ranked[row, column])) and points_in_boxes(
        np.array([[column, row]]), boxes)


def smoothed_peak_inside(relevancy: np.ndarray, boxes: np.ndarray,
                         kernel: int = OVS_KERNEL) -> bool:
    """Returns whether a peak of the mean-filtered relevancy lies in a box: LERF-OVS' rule.

    relevancy: (H, W), NaN counts as 0. boxes: (K, 4). kernel: side of the filter in pixels. Any of
    equal peaks counts.
    """
    filtered = mean_filter(relevancy, kernel)
    rows, columns = np.nonzero(filtered == filtered.max())
    return points_in_boxes(np.stack([columns, rows], -1), boxes)


def lerf_ovs_mask(relevancy: np.ndarray, threshold: float = OVS_THRESHOLD,
                  kernel: int = OVS_KERNEL) -> np.ndarray:
    """Returns LERF-OVS' segment (H, W) bool of a relevancy map (H, W), where NaN counts as 0.

    The module's docstring explains the rule.
    """
    raw = np.nan_to_num(np.asarray(relevancy, np.float64), nan=0.0)
    mixed = 0.5 * (mean_filter(raw, kernel) + raw)
    mixed -= mixed.min()
    stretched = 2.0 * mixed / (mixed.max() + 1e-9) - 1.0
    return majority(stretched > threshold)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the intersection over union of two bool arrays; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def resized_boxes(boxes: np.ndarray, size: tuple[int, int],
                  new_size: tuple[int, int]) -> np.ndarray:
    """Scales boxes (K, 4) from pixels of one image size (width, height) to those of another."""
    factors = np.array(new_size, np.float64) / np.array(size, np.float64)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * np.tile(factors, 2)


def points_in_boxes(points: np.ndarray, boxes: np.ndarray) -> bool:
    """Returns whether any of the points (N, 2) lies in any of the boxes (K, 4), edges included."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    low, high = corners.min(1), corners.max(1)
    inside = (points[:, None] >= low) & (points[:, None] <= high)    # (N, K, 2)
    return bool(inside.all(-1).any())


def mean_filter(relevancy: np.ndarray, kernel: int = OVS_KERNEL) -> np.ndarray:
    """Returns the mean (H, W) float64 over kernel x kernel pixels, with cv2.filter2D's borders."""
    raw = np.nan_to_num(np.asarray(relevancy, np.float64), nan=0.0)
    return cv2.blur(raw, (kernel, kernel))


def majority(mask: np.ndarray, window: int = OVS_VOTE) -> np.ndarray:
    """Returns the majority (H, W) bool in the window around each pixel, by LERF-OVS' rule."""
    counted = np.ones(mask.shape, np.float32)
    counted[-1:] = counted[:, -1:] = 0.0      # the protocol's mistake
    yes, all_votes = (cv2.boxFilter(votes, -1, (window, window), normalize=False,
                                    borderType=cv2.BORDER_CONSTANT)
                      for votes in (counted * mask, counted))
    return 2 * yes > all_votes


def inside_box(position: np.ndarray, low: np.ndarray, high: np.ndarray,
               margin: float = HIT_MARGIN_M) -> bool:
    """Returns whether the position (3,) lies in the box grown by `margin` on every side."""
    return bool(points_in_box(np.asarray(position)[None], low, high, margin)[0])


def points_in_box(points: np.ndarray, low: np.ndarray, high: np.ndarray,
                  margin: float = 0.0) -> np.ndarray:
    """Returns which points (N, 3) lie in the box grown by `margin` on every side, (N,) bool."""
    points = np.asarray(points, np.float64)
    above = points >= np.asarray(low) - margin
    below = points <= np.asarray(high) + margin
    return np.all(above & below, axis=-1)

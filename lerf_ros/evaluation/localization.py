# SPDX-License-Identifier: Apache-2.0
"""Does the relevancy map of a view peak on the object? LERF's rule and LERF-OVS' rules.

LERF (section 4.3): a phrase is localized in a rendered view when the pixel of the highest
relevancy is inside a labelled box, of any correct instance. The score is the share of pairs of
view and phrase.

LERF-OVS is the protocol of LangSplat's evaluation (eval/evaluate_iou_loc.py), which others took
over. Its facts, as read there:
- Localization: the raw relevancy is filtered with a 30 x 30 mean (cv2.filter2D with its defaults:
  the anchor is the kernel's element (15, 15), the border is mirrored without repeating the edge
  pixel), and the pixels that equal the filtered maximum are compared, edges included, with every
  box of the label, whose corners come in any order. One pixel in one box is a hit. A label counts
  once per image, however many boxes it has.
- Mask: the mean of the filtered and the raw relevancy, stretched from its minimum and maximum to
  -1 .. 1, negative values cut to 0, above 0.4 (so: above 70 % of the range); then each pixel takes
  the majority of the 7 x 7 pixels around it. That window is cut at the image's border and, by a
  slip that is part of the protocol, never holds the last row and column; an even vote is no.
- The labelled mask is the union of the label's polygons, whose corners are cut to whole pixels.
- LangSplat has three maps per phrase. It takes for localization the one of the highest filtered
  maximum and for the mask the one of the highest maximum of filtered and raw mean. LERF has one
  map, at the phrase's best scale, so there is nothing to choose here.
- mIoU and accuracy are plain means over all pairs of image and label of a scene.

Positions are pixel indices, column before row, as in both evaluations.
"""

from __future__ import annotations

import cv2
import numpy as np

OVS_KERNEL = 30
OVS_THRESHOLD = 0.4
OVS_VOTE = 7


def peak_inside(relevancy: np.ndarray, boxes: np.ndarray) -> bool:
    """LERF's rule: the pixel of the highest relevancy (H, W) lies in one of the boxes (K, 4).

    boxes: two opposite corners x, y, x, y in pixels of the map, edges included. The first of
    equal peaks counts. Pixels without a relevancy (NaN) are no peak.
    """
    ranked = np.where(np.isnan(relevancy), -np.inf, relevancy)
    row, column = np.unravel_index(int(ranked.argmax()), ranked.shape)
    return bool(np.isfinite(ranked[row, column])) and points_in_boxes(
        np.array([[column, row]]), boxes)


def smoothed_peak_inside(relevancy: np.ndarray, boxes: np.ndarray,
                         kernel: int = OVS_KERNEL) -> bool:
    """LERF-OVS' rule: a peak of the relevancy (H, W) after a mean filter lies in a box (K, 4).

    kernel: the filter's side in pixels. Of equal peaks any counts. NaN is taken as 0.
    """
    filtered = mean_filter(relevancy, kernel)
    rows, columns = np.nonzero(filtered == filtered.max())
    return points_in_boxes(np.stack([columns, rows], -1), boxes)


def lerf_ovs_mask(relevancy: np.ndarray, threshold: float = OVS_THRESHOLD,
                  kernel: int = OVS_KERNEL) -> np.ndarray:
    """LERF-OVS' segment (H, W) bool of a relevancy map (H, W); the rule is in the module's text.

    NaN is taken as 0.
    """
    raw = np.nan_to_num(np.asarray(relevancy, np.float64), nan=0.0)
    mixed = 0.5 * (mean_filter(raw, kernel) + raw)
    mixed -= mixed.min()
    stretched = 2.0 * mixed / (mixed.max() + 1e-9) - 1.0
    return majority(stretched > threshold)


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool arrays of one shape; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def resized_boxes(boxes: np.ndarray, size: tuple[int, int],
                  new_size: tuple[int, int]) -> np.ndarray:
    """Boxes (K, 4) in pixels of an image of size (width, height), in pixels of another size."""
    factors = np.array(new_size, np.float64) / np.array(size, np.float64)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * np.tile(factors, 2)


def points_in_boxes(points: np.ndarray, boxes: np.ndarray) -> bool:
    """True when one of the points (N, 2) lies in one of the boxes (K, 4), edges included."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    low, high = corners.min(1), corners.max(1)
    inside = (points[:, None] >= low) & (points[:, None] <= high)    # (N, K, 2)
    return bool(inside.all(-1).any())


def mean_filter(relevancy: np.ndarray, kernel: int = OVS_KERNEL) -> np.ndarray:
    """The mean over kernel x kernel pixels, (H, W) float64, with cv2.filter2D's borders."""
    raw = np.nan_to_num(np.asarray(relevancy, np.float64), nan=0.0)
    return cv2.blur(raw, (kernel, kernel))


def majority(mask: np.ndarray, window: int = OVS_VOTE) -> np.ndarray:
    """Each pixel's majority in the window around it, (H, W) bool, by LERF-OVS' rule."""
    counted = np.ones(mask.shape, np.float32)
    counted[-1:] = counted[:, -1:] = 0.0      # the protocol's slip
    yes, all_votes = (cv2.boxFilter(votes, -1, (window, window), normalize=False,
                                    borderType=cv2.BORDER_CONSTANT)
                      for votes in (counted * mask, counted))
    return 2 * yes > all_votes

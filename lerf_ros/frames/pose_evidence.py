# SPDX-License-Identifier: Apache-2.0
"""Measures how well pairs of posed images agree: in surfaces and in matched features.

Every measure is the fraction, 0 to 1, of what should agree, or None if the pair has no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lerf_ros.frames.frame import Frame
from lerf_ros.frames.selection import motion
from lerf_ros.geometry.camera import (
    PinholeCamera,
    depth_to_points,
    invert_pose,
    transform_points,
)

POINTS = 400            # surface points of each image
# Relative depth by which a point may differ between two images: a constant for errors of the poses,
# plus a multiple of the measured noise of the depth, up to a maximum.
TOLERANCE, NOISES, MOST_TOLERANCE = 0.03, 1.5, 0.06
FEWEST = 20             # points or matches that two images must share
TURNED_DEG, MOST_TURNED_DEG = 5.0, 90.0     # between two images whose depths are compared
FEATURES, SIDE_PX = 1000, 480               # of each image, resized to this longer side
RATIO = 0.7             # of distances to the best and the next best match (Lowe, 2004)
MATCH_ANGLE = np.radians(1.0)       # off the epipolar plane
MEET_ANGLE = np.radians(3.0)        # between a match and where depth and poses put it
MOVED_ANGLE = np.radians(1.5)       # matches that moved less are consistent with any poses
# Fraction of matches that one rigid motion must explain; else the features are repetitive.
RIGID_SHARE, RIGID_ERROR = 0.5, 0.006
MOST_PAIRS = 24
LEAST_BEFORE = 0.2      # fraction of the points in both images that must not be occluded
LEAST_WIDTH_PX = 48     # of images whose depth is compared: smaller ones have too coarse pixels


@dataclass(frozen=True)
class Hypothesis:
    """One way to interpret the input.

    pose: returns T_world_camera (4, 4) of a frame. factor: multiplies depth. focal: multiplies the
    focal lengths of the depth camera.
    """

    pose: Callable[[Frame], np.ndarray] = lambda frame: frame.T_world_camera
    factor: float = 1.0
    focal: float = 1.0

    def T_b_a(self, a: Frame, b: Frame) -> np.ndarray:
        """Returns the pose (4, 4) of camera a in the frame of camera b."""
        return invert_pose(self.pose(b)) @ self.pose(a)


class DepthPair:
    """Surface points of one image, compared with the depth of another one."""

    def __init__(self, a: Frame, b: Frame) -> None:
        self._a, self._b = a, b
        self._tolerance = min(TOLERANCE + NOISES * depth_noise(b), MOST_TOLERANCE)
        self._points: dict[float, np.ndarray] = {}

    def agreement(self, hypothesis: Hypothesis) -> float | None:
        """Returns the fraction of points that lie on a surface of the other image.

        Points behind such a surface do not count, because they may be occluded. Returns None if
        nearly all are.
        """
        beyond = self._beyond(hypothesis)
        before = beyond[beyond >= -self._tolerance]
        if len(beyond) < FEWEST or len(before) < max(FEWEST / 2, LEAST_BEFORE * len(beyond)):
            return None
        return float((before <= self._tolerance).mean())

    def agreeing(self, hypothesis: Hypothesis) -> float:
        """Returns the number of points on a surface of the other image, over all points, 0..1."""
        beyond = self._beyond(hypothesis)
        count = max(len(self._points[hypothesis.focal]), 1)
        return float((np.abs(beyond) <= self._tolerance).sum() / count)

    def _beyond(self, hypothesis: Hypothesis) -> np.ndarray:
        """How far behind the points in both pictures the other image's surfaces are, in parts of
        the points' depth (N,)."""
        if hypothesis.focal not in self._points:
            self._points[hypothesis.focal] = surface_points(
                self._a, with_focal(self._a.camera, hypothesis.focal))
        camera, depth_m = with_focal(self._b.camera, hypothesis.focal), self._b.depth_m
        assert depth_m is not None
        points = transform_points(hypothesis.T_b_a(self._a, self._b),
                                  hypothesis.factor * self._points[hypothesis.focal])
        pixels = camera.project(points)
        inside = (points[:, 2] > 0) & (pixels >= 0).all(1) & (
            pixels < [camera.width, camera.height]).all(1)
        column, row = pixels[inside].astype(int).T
        measured, z = hypothesis.factor * depth_m[row, column], points[inside, 2]
        known = np.isfinite(measured) & (measured > 0)
        return (measured[known] - z[known]) / z[known]


class FeaturePair:
    """Matched features of two images."""

    def __init__(self, a: Frame, b: Frame, at_a: np.ndarray, at_b: np.ndarray) -> None:
        """Takes the pixel positions at_a and at_b, (M, 2), of matches."""
        self._a, self._b = a, b
        self._directions_a, self._directions_b = a.camera.directions(at_a), b.camera.directions(
            at_b)
        self._depth = None if a.depth_m is None else a.depth_m[
            np.minimum(at_a[:, 1].astype(int), a.camera.height - 1),
            np.minimum(at_a[:, 0].astype(int), a.camera.width - 1)]

    @classmethod
    def of(cls, a: Frame, b: Frame, features: SiftCache) -> FeaturePair | None:
        """Matches two images; None if they share too few features or many matches are wrong."""
        at_a, at_b = matches(*features.of(a), *features.of(b))
        if len(at_a) < FEWEST:
            return None
        rigid = rigid_part(a.camera.directions(at_a), b.camera.directions(at_b))
        if rigid.mean() < RIGID_SHARE or rigid.sum() < FEWEST / 2:
            return None
        return cls(a, b, at_a[rigid], at_b[rigid])

    @property
    def moved(self) -> float:
        """Median angle, radians, by which the features moved in the image."""
        return float(np.median(angles(self._directions_a, self._directions_b)))

    def parallax(self) -> float:
        """Returns the median angle, radians, that the camera's rotation does not explain."""
        turned = self._directions_a @ Hypothesis().T_b_a(self._a, self._b)[:3, :3].T
        return float(np.median(angles(turned, self._directions_b)))

    def epipolar(self, hypothesis: Hypothesis) -> float | None:
        """Returns the fraction of matches whose rays meet in front of both cameras.

        They may miss each other by MATCH_ANGLE. Returns None if the cameras or features are too
        close together.
        """
        T_b_a = hypothesis.T_b_a(self._a, self._b)
        length = float(np.linalg.norm(T_b_a[:3, 3]))
        if length < 1e-9 or self.moved < MOVED_ANGLE:
            return None
        ray_a, toward = self._directions_a @ T_b_a[:3, :3].T, T_b_a[:3, 3] / length
        normal = np.cross(toward, ray_a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        off = np.abs(np.arcsin(np.clip((normal * self._directions_b).sum(1), -1, 1)))
        # Both rays must leave the baseline on the same side, and run together.
        same_side = (np.cross(toward, self._directions_b) * normal).sum(1) > 0
        together = (ray_a @ toward) < (self._directions_b @ toward) + MATCH_ANGLE
        return float(((off <= MATCH_ANGLE) & same_side & together).mean())

    def meeting(self, hypothesis: Hypothesis) -> float | None:
        """Returns the fraction of matches that depth and poses project onto the other feature."""
        if self._depth is None or self.moved < MOVED_ANGLE:
            return None
        known = np.isfinite(self._depth) & (self._depth > 0)
        if known.sum() < FEWEST / 2:
            return None
        directions = self._directions_a[known]
        z = hypothesis.factor * self._depth[known] / np.maximum(directions[:, 2], 1e-3)
        points = transform_points(hypothesis.T_b_a(self._a, self._b), directions * z[:, None])
        return float((angles(points, self._directions_b[known]) <= MEET_ANGLE).mean())


class SiftCache:
    """Features of frames, each detected once."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixel positions (N, 2) and descriptors (N, 128) of a frame.

        The frame must stay in memory, because its id is the key.
        """
        if id(frame) not in self._found:
            self._found[id(frame)] = find_features(frame.image)
        return self._found[id(frame)]


def find_features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detects SIFT features (Lowe, 2004) of an RGB image (H, W, 3) uint8.

    Returns positions (N, 2) in pixels and descriptors (N, 128).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ratio = SIDE_PX / max(grey.shape)
    grey = cv2.resize(grey, None, fx=ratio, fy=ratio,
                      interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    keys, descriptors = cv2.SIFT.create(FEATURES).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    scale = [image.shape[1] / grey.shape[1], image.shape[0] / grey.shape[0]]
    return (np.array([key.pt for key in keys]) + 0.5) * scale, descriptors


def matches(at_a: np.ndarray, descriptors_a: np.ndarray, at_b: np.ndarray,
            descriptors_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches features that are mutual nearest neighbours and pass the ratio test.

    Takes positions (N, 2) and descriptors (N, 128) of two images; returns their positions (M, 2).
    """
    if min(len(at_a), len(at_b)) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {match[0].queryIdx: match[0].trainIdx
            for match in matcher.knnMatch(descriptors_b, descriptors_a, 1)}
    found = [first for first, second in matcher.knnMatch(descriptors_a, descriptors_b, 2)
             if first.distance < RATIO * second.distance
             and back.get(first.trainIdx) == first.queryIdx]
    return (at_a[[m.queryIdx for m in found]].reshape(-1, 2),
            at_b[[m.trainIdx for m in found]].reshape(-1, 2))


def rigid_part(directions_a: np.ndarray, directions_b: np.ndarray) -> np.ndarray:
    """Returns which matches (M,) bool one rigid motion of the camera explains, given their rays.

    The stated poses are not used.
    """
    on_plane = [d[:, :2] / np.maximum(d[:, 2:], 0.1) for d in (directions_a, directions_b)]
    cv2.setRNGSeed(0)
    _, inliers = cv2.findEssentialMat(on_plane[0], on_plane[1], np.eye(3), cv2.RANSAC, 0.999,
                                      RIGID_ERROR)
    return np.zeros(len(directions_a), bool) if inliers is None else inliers[:, 0] > 0


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes angles (N,) in radians between vectors (N, 3)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.arccos(np.clip((a * b).sum(1) / np.maximum(lengths, 1e-12), -1, 1))


def depth_pairs(frames: Sequence[Frame]) -> list[DepthPair]:
    """Returns at most MOST_PAIRS pairs, evenly spread, of frames with depth and enough rotation."""
    turned = [(a, b) for i, a in enumerate(frames) for b in frames[i + 1:]
              if min(a.camera.width, b.camera.width) >= LEAST_WIDTH_PX
              and a.depth_m is not None and b.depth_m is not None and TURNED_DEG <= motion(
                  a.T_world_camera, b.T_world_camera)[1] <= MOST_TURNED_DEG]
    kept = np.unique(np.linspace(0, len(turned) - 1, min(len(turned), MOST_PAIRS // 2)).astype(int))
    return [DepthPair(*pair) for k in kept.tolist() for pair in (turned[k], turned[k][::-1])]


def feature_pairs(frames: Sequence[Frame]) -> list[FeaturePair]:
    """Returns the pairs of consecutive frames that share enough features."""
    cache = SiftCache()
    pairs = [FeaturePair.of(a, b, cache) for a, b in zip(frames, frames[1:], strict=False)]
    return [pair for pair in pairs if pair is not None]


def with_focal(camera: PinholeCamera, factor: float) -> PinholeCamera:
    """Returns the camera with its focal lengths multiplied by a factor."""
    return replace(camera, fx=factor * camera.fx, fy=factor * camera.fy)


def depth_noise(frame: Frame) -> float:
    """Estimates the relative noise of depth: the median deviation of pixels from local planes."""
    depth = frame.depth_m
    assert depth is not None
    bend = depth[:, :-2] - 2 * depth[:, 1:-1] + depth[:, 2:]
    known = (depth[:, :-2] > 0) & (depth[:, 1:-1] > 0) & (depth[:, 2:] > 0) & np.isfinite(bend)
    if not known.any():
        return 0.0
    # For noise of deviation s, the median size of a second difference is 0.67 sqrt(6) s.
    return float(np.median(np.abs(bend[known]) / depth[:, 1:-1][known])) / (0.6745 * np.sqrt(6.0))


def surface_points(frame: Frame, camera: PinholeCamera) -> np.ndarray:
    """Returns about POINTS surface points (M, 3), camera frame, evenly spread over the image."""
    assert frame.depth_m is not None
    step = max(1, round(np.sqrt(camera.width * camera.height / POINTS)))
    return depth_to_points(camera, frame.depth_m, frame.valid, step, first=step // 2)

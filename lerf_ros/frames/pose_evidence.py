# SPDX-License-Identifier: Apache-2.0
"""What two posed images say of each other: surfaces that both measured, features that both show.

Every measure is a part from 0 to 1 of what should agree, and None where the two images say nothing.
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
# Part of its depth by which a point may differ in two images: poses have errors, and depth has
# noise, which is measured and counts so many times.
TOLERANCE, NOISES, MOST_TOLERANCE = 0.03, 1.5, 0.06
FEWEST = 20             # points or matches that two images must share
TURNED_DEG, MOST_TURNED_DEG = 5.0, 90.0     # between two images whose depths are compared
FEATURES, SIDE_PX = 1000, 480               # of each image, resized to this longer side
RATIO = 0.7             # a match must be so much nearer than the next best (Lowe, 2004)
MATCH_ANGLE = np.radians(1.0)       # off the epipolar plane
MEET_ANGLE = np.radians(3.0)        # between a match and where depth and poses put it
MOVED_ANGLE = np.radians(1.5)       # matches that moved less agree with any poses
# Of the matches so many must be of one rigid scene, whatever the poses: else features repeat.
RIGID_SHARE, RIGID_ERROR = 0.5, 0.006
MOST_PAIRS = 24
LEAST_BEFORE = 0.2      # of the points in both pictures that must not be hidden
LEAST_WIDTH_PX = 48     # of images whose depth is compared: pixels of smaller ones are places apart


@dataclass(frozen=True)
class Reading:
    """One way to read an input. pose: T_world_camera (4, 4) of a frame; factor: of the depth;
    focal: of the focal length of the depth's lens."""

    pose: Callable[[Frame], np.ndarray] = lambda frame: frame.T_world_camera
    factor: float = 1.0
    focal: float = 1.0

    def T_b_a(self, a: Frame, b: Frame) -> np.ndarray:
        """The pose (4, 4) of camera a in that of camera b."""
        return invert_pose(self.pose(b)) @ self.pose(a)


class DepthPair:
    """Surface points of one image, looked for in the depth of another one."""

    def __init__(self, a: Frame, b: Frame) -> None:
        self._a, self._b = a, b
        self._tolerance = min(TOLERANCE + NOISES * depth_noise(b), MOST_TOLERANCE)
        self._points: dict[float, np.ndarray] = {}

    def agreement(self, reading: Reading) -> float | None:
        """Part of the points that lie where the other image measured a surface.

        Those behind such a surface do not count: something may stand before them. None where that
        is so of nearly all.
        """
        beyond = self._beyond(reading)
        before = beyond[beyond >= -self._tolerance]
        if len(beyond) < FEWEST or len(before) < max(FEWEST / 2, LEAST_BEFORE * len(beyond)):
            return None
        return float((before <= self._tolerance).mean())

    def agreeing(self, reading: Reading) -> float:
        """How many of the points that is, of all points of the image, 0..1."""
        beyond = self._beyond(reading)
        count = max(len(self._points[reading.focal]), 1)
        return float((np.abs(beyond) <= self._tolerance).sum() / count)

    def _beyond(self, reading: Reading) -> np.ndarray:
        """How far behind the points in both pictures the other image's surfaces are, in parts of
        the points' depth (N,)."""
        if reading.focal not in self._points:
            self._points[reading.focal] = surface_points(
                self._a, with_focal(self._a.camera, reading.focal))
        camera, depth_m = with_focal(self._b.camera, reading.focal), self._b.depth_m
        assert depth_m is not None
        points = transform_points(reading.T_b_a(self._a, self._b),
                                  reading.factor * self._points[reading.focal])
        pixels = camera.project(points)
        inside = (points[:, 2] > 0) & (pixels >= 0).all(1) & (
            pixels < [camera.width, camera.height]).all(1)
        column, row = pixels[inside].astype(int).T
        measured, z = reading.factor * depth_m[row, column], points[inside, 2]
        known = np.isfinite(measured) & (measured > 0)
        return (measured[known] - z[known]) / z[known]


class FeaturePair:
    """Matched features of two images."""

    def __init__(self, a: Frame, b: Frame, at_a: np.ndarray, at_b: np.ndarray) -> None:
        """at_a, at_b (M, 2): pixel positions."""
        self._a, self._b = a, b
        self._directions_a, self._directions_b = a.camera.directions(at_a), b.camera.directions(
            at_b)
        self._depth = None if a.depth_m is None else a.depth_m[
            np.minimum(at_a[:, 1].astype(int), a.camera.height - 1),
            np.minimum(at_a[:, 0].astype(int), a.camera.width - 1)]

    @classmethod
    def of(cls, a: Frame, b: Frame, features: FeatureCache) -> FeaturePair | None:
        """None for images that share too few features, or where many are taken for others."""
        at_a, at_b = matches(*features.of(a), *features.of(b))
        if len(at_a) < FEWEST:
            return None
        rigid = rigid_part(a.camera.directions(at_a), b.camera.directions(at_b))
        if rigid.mean() < RIGID_SHARE or rigid.sum() < FEWEST / 2:
            return None
        return cls(a, b, at_a[rigid], at_b[rigid])

    @property
    def moved(self) -> float:
        """How far the features moved through the picture, radians."""
        return float(np.median(angles(self._directions_a, self._directions_b)))

    def parallax(self) -> float:
        """How far the features moved beyond what the camera's turn explains, radians."""
        turned = self._directions_a @ Reading().T_b_a(self._a, self._b)[:3, :3].T
        return float(np.median(angles(turned, self._directions_b)))

    def epipolar(self, reading: Reading) -> float | None:
        """Part of the matches whose rays meet before both cameras, within MATCH_ANGLE."""
        T_b_a = reading.T_b_a(self._a, self._b)
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

    def meeting(self, reading: Reading) -> float | None:
        """Part of the matches that depth and poses put where the other image shows them."""
        if self._depth is None or self.moved < MOVED_ANGLE:
            return None
        known = np.isfinite(self._depth) & (self._depth > 0)
        if known.sum() < FEWEST / 2:
            return None
        directions = self._directions_a[known]
        z = reading.factor * self._depth[known] / np.maximum(directions[:, 2], 1e-3)
        points = transform_points(reading.T_b_a(self._a, self._b), directions * z[:, None])
        return float((angles(points, self._directions_b[known]) <= MEET_ANGLE).mean())


class FeatureCache:
    """Features of frames, each looked for once."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions (N, 2) and descriptors (N, 128) of a frame that stays in memory."""
        if id(frame) not in self._found:
            self._found[id(frame)] = find_features(frame.image)
        return self._found[id(frame)]


def find_features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 2) in pixels and descriptors (N, 128) of an RGB image (SIFT; Lowe, 2004)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ratio = SIDE_PX / max(grey.shape)
    grey = cv2.resize(grey, None, fx=ratio, fy=ratio,
                      interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    keys, words = cv2.SIFT.create(FEATURES).detectAndCompute(grey, None)
    if words is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    scale = [image.shape[1] / grey.shape[1], image.shape[0] / grey.shape[0]]
    return (np.array([key.pt for key in keys]) + 0.5) * scale, words


def matches(at_a: np.ndarray, words_a: np.ndarray, at_b: np.ndarray,
            words_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (M, 2) each of features that are each other's nearest, by far."""
    if min(len(at_a), len(at_b)) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {match[0].queryIdx: match[0].trainIdx for match in matcher.knnMatch(words_b, words_a, 1)}
    found = [first for first, second in matcher.knnMatch(words_a, words_b, 2)
             if first.distance < RATIO * second.distance
             and back.get(first.trainIdx) == first.queryIdx]
    return (at_a[[m.queryIdx for m in found]].reshape(-1, 2),
            at_b[[m.trainIdx for m in found]].reshape(-1, 2))


def rigid_part(directions_a: np.ndarray, directions_b: np.ndarray) -> np.ndarray:
    """Which matches (M,) bool some motion of the camera explains, whatever its pose is said to be.
    """
    on_plane = [d[:, :2] / np.maximum(d[:, 2:], 0.1) for d in (directions_a, directions_b)]
    cv2.setRNGSeed(0)
    _, inliers = cv2.findEssentialMat(on_plane[0], on_plane[1], np.eye(3), cv2.RANSAC, 0.999,
                                      RIGID_ERROR)
    return np.zeros(len(directions_a), bool) if inliers is None else inliers[:, 0] > 0


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles (N,) in radians between vectors (N, 3)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.arccos(np.clip((a * b).sum(1) / np.maximum(lengths, 1e-12), -1, 1))


def depth_pairs(frames: Sequence[Frame]) -> list[DepthPair]:
    """At most MOST_PAIRS pairs, evenly chosen, of frames with depth that turned enough to tell."""
    turned = [(a, b) for i, a in enumerate(frames) for b in frames[i + 1:]
              if min(a.camera.width, b.camera.width) >= LEAST_WIDTH_PX
              and a.depth_m is not None and b.depth_m is not None and TURNED_DEG <= motion(
                  a.T_world_camera, b.T_world_camera)[1] <= MOST_TURNED_DEG]
    kept = np.unique(np.linspace(0, len(turned) - 1, min(len(turned), MOST_PAIRS // 2)).astype(int))
    return [DepthPair(*pair) for k in kept.tolist() for pair in (turned[k], turned[k][::-1])]


def feature_pairs(frames: Sequence[Frame]) -> list[FeaturePair]:
    """Those neighbours in the order of their frames that share enough features."""
    cache = FeatureCache()
    pairs = [FeaturePair.of(a, b, cache) for a, b in zip(frames, frames[1:], strict=False)]
    return [pair for pair in pairs if pair is not None]


def with_focal(camera: PinholeCamera, factor: float) -> PinholeCamera:
    """The camera with other focal lengths."""
    return replace(camera, fx=factor * camera.fx, fy=factor * camera.fy)


def depth_noise(frame: Frame) -> float:
    """Part of its depth by which neighbouring pixels differ from a plane, in the median."""
    depth = frame.depth_m
    assert depth is not None
    bend = depth[:, :-2] - 2 * depth[:, 1:-1] + depth[:, 2:]
    known = (depth[:, :-2] > 0) & (depth[:, 1:-1] > 0) & (depth[:, 2:] > 0) & np.isfinite(bend)
    if not known.any():
        return 0.0
    # The median size of a sum of weights 1, -2 and 1 is 0.67 times the root of 6 deviations.
    return float(np.median(np.abs(bend[known]) / depth[:, 1:-1][known])) / (0.6745 * np.sqrt(6.0))


def surface_points(frame: Frame, camera: PinholeCamera) -> np.ndarray:
    """About POINTS measured points (M, 3) in the camera frame, spread over the image."""
    assert frame.depth_m is not None
    step = max(1, round(np.sqrt(camera.width * camera.height / POINTS)))
    return depth_to_points(camera, frame.depth_m, frame.valid, step, first=step // 2)

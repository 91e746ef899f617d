# SPDX-License-Identifier: Apache-2.0
"""Finds poses that are given in another convention than the optical frame's, from the images.

The usual mix-ups are tried on the first keyframes. The right one is where surfaces that one image
measured lie where another one measured them; without depth, where matched features lie on each
other's epipolar lines. Only what fits clearly better than the poses as given is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lerf_ros.camera import OPENGL_TO_OPENCV, invert_pose, transform_points
from lerf_ros.keyframes.frame import Frame
from lerf_ros.keyframes.selection import motion

FRAMES = 8              # keyframes that are looked at
POINTS = 400            # of each image
TOLERANCE = 0.05        # part of the depth by which two images may differ
MATCH_ANGLE = np.radians(1.0)       # off the epipolar plane
FEWEST = 20             # points or matches that two images must share
FEWEST_PAIRS = 4
TURNED_DEG = 5.0        # pairs whose cameras turned less hardly tell the conventions apart
# The best convention must fit so well, and so much better than the poses as given.
GOOD, BETTER = 0.5, 1.5
RATIO = 0.75            # a match must be so much nearer than the next best (Lowe, 2004)

# A body frame (REP-103: x forward, y left, z up) holds an optical frame so.
T_BODY_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

Convention = Callable[[np.ndarray], np.ndarray]
CONVENTIONS: dict[str, tuple[Convention, str]] = {
    'optical': (lambda T: T, ''),
    'body': (lambda T: T @ T_BODY_OPTICAL,
             'the poses are those of a body frame (x forward, z up): set camera_frame to the '
             'optical frame (its name usually ends in _optical_frame)'),
    'opengl': (lambda T: T @ OPENGL_TO_OPENCV,
               'the poses have OpenGL axes (y up, z backwards): turn y and z around where they '
               'are published'),
    'inverted': (invert_pose,
                 'the poses are inverted (from the map to the camera): publish the pose of the '
                 'camera in the map, or exchange the two frames'),
    'inverted body': (lambda T: invert_pose(T) @ T_BODY_OPTICAL,
                      'the poses are inverted (from the map to the camera) and those of a body '
                      'frame (x forward): publish the pose of the optical frame in the map'),
    'inverted opengl': (lambda T: invert_pose(T) @ OPENGL_TO_OPENCV,
                        'the poses are inverted (from the map to the camera) and have OpenGL '
                        'axes: publish the pose of the optical frame in the map'),
}


@dataclass(frozen=True)
class PoseVerdict:
    """The convention that fits best and how well, 0..1, beside the poses as given."""

    convention: str
    fit: float
    fit_as_given: float

    def __str__(self) -> str:
        return (f'{CONVENTIONS[self.convention][1]} (so {self.fit:.0%} of what two images share '
                f'agrees, as given {self.fit_as_given:.0%})')


class PoseCheck:
    """Collects the first keyframes and judges their poses once there are enough."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self.done = False
        self.verdict: PoseVerdict | None = None

    def add(self, frame: Frame) -> None:
        """Takes a keyframe; after FRAMES of them the verdict is there, None if all is well."""
        if self.done:
            return
        self._frames.append(frame)
        if len(self._frames) == FRAMES:
            self.verdict, self.done = judge_poses(self._frames), True
            self._frames = []


def judge_poses(frames: Sequence[Frame]) -> PoseVerdict | None:
    """The convention that fits clearly better than the poses as given, or None.

    None also when the images do not tell: too few share anything, or the camera hardly turned.
    """
    tests: Sequence[DepthPair | EpipolarPair]
    pairs = [(a, b) for a, b in itertools.permutations(frames, 2)
             if motion(a.T_world_camera, b.T_world_camera)[1] >= TURNED_DEG]
    if any(frame.depth_m is None for frame in frames):
        evidence = [EpipolarPair.of(a, b) for a, b in pairs if a.stamp_ns <= b.stamp_ns]
        tests = [pair for pair in evidence if pair is not None]
    else:
        tests = [DepthPair(a, b) for a, b in pairs]
    fits = {}
    for name, (convert, _) in CONVENTIONS.items():
        shares = [share for pair in tests if (share := pair.agreement(convert)) is not None]
        fits[name] = float(np.mean(shares)) if len(shares) >= FEWEST_PAIRS else 0.0
    best = max(fits, key=lambda name: fits[name])
    given = fits['optical']
    if best == 'optical' or fits[best] < GOOD or fits[best] < BETTER * given:
        return None
    return PoseVerdict(best, fits[best], given)


class DepthPair:
    """Surface points of one image, looked for in the depth of another one."""

    def __init__(self, a: Frame, b: Frame) -> None:
        self._a, self._b = a, b
        self._points = surface_points(a)

    def agreement(self, convert: Convention) -> float | None:
        """Part of the points in both pictures that lie where the other one measured a surface.

        None where the pictures share too little.
        """
        T_b_a = invert_pose(convert(self._b.T_world_camera)) @ convert(self._a.T_world_camera)
        points, depth_m = transform_points(T_b_a, self._points), self._b.depth_m
        assert depth_m is not None
        pixels = self._b.camera.project(points)
        size = np.array([self._b.camera.width, self._b.camera.height])
        inside = (points[:, 2] > 0) & (pixels >= 0).all(1) & (pixels < size).all(1)
        column, row = pixels[inside].astype(int).T
        measured = depth_m[row, column]
        known = np.isfinite(measured) & (measured > 0)
        if known.sum() < FEWEST:
            return None
        z = points[inside, 2][known]
        return float((np.abs(measured[known] - z) <= TOLERANCE * z).mean())


@dataclass(frozen=True)
class EpipolarPair:
    """Matched viewing directions (M, 3) of two images, and their poses as given."""

    directions_a: np.ndarray
    directions_b: np.ndarray
    T_a: np.ndarray
    T_b: np.ndarray

    @classmethod
    def of(cls, a: Frame, b: Frame) -> EpipolarPair | None:
        """None for images that share too few features, and for cameras in one place."""
        if np.linalg.norm(a.T_world_camera[:3, 3] - b.T_world_camera[:3, 3]) < 1e-6:
            return None
        orb = cv2.ORB.create(1000)
        (keys_a, words_a), (keys_b, words_b) = (
            orb.detectAndCompute(cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY), None) for f in (a, b))
        if words_a is None or words_b is None:
            return None
        nearest = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(words_a, words_b, k=2)
        matches = [two[0] for two in nearest
                   if len(two) == 2 and two[0].distance < RATIO * two[1].distance]
        if len(matches) < FEWEST:
            return None
        at_a = np.array([keys_a[m.queryIdx].pt for m in matches]) + 0.5
        at_b = np.array([keys_b[m.trainIdx].pt for m in matches]) + 0.5
        return cls(a.camera.directions(at_a), b.camera.directions(at_b), a.T_world_camera,
                   b.T_world_camera)

    def agreement(self, convert: Convention) -> float:
        """Part of the matches whose rays meet before both cameras, within MATCH_ANGLE."""
        T_b_a = invert_pose(convert(self.T_b)) @ convert(self.T_a)
        ray_a = self.directions_a @ T_b_a[:3, :3].T
        toward = T_b_a[:3, 3] / np.linalg.norm(T_b_a[:3, 3])
        normal = np.cross(toward, ray_a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        off = np.abs(np.arcsin(np.clip((normal * self.directions_b).sum(1), -1, 1)))
        # Both rays must leave the baseline on the same side, and run together.
        same_side = (np.cross(toward, self.directions_b) * normal).sum(1) > 0
        together = (ray_a @ toward) < (self.directions_b @ toward)
        return float(((off <= MATCH_ANGLE) & same_side & together).mean())


def surface_points(frame: Frame) -> np.ndarray:
    """About POINTS measured points (M, 3) in the camera frame, spread over the image."""
    camera, depth_m = frame.camera, frame.depth_m
    assert depth_m is not None
    step = max(1, round(np.sqrt(camera.width * camera.height / POINTS)))
    pixels = camera.pixel_grid()[step // 2::step, step // 2::step].reshape(-1, 2)
    z = depth_m[step // 2::step, step // 2::step].reshape(-1)
    known = np.isfinite(z) & (z > 0)
    if frame.valid is not None:
        known &= frame.valid[step // 2::step, step // 2::step].reshape(-1)
    directions = camera.directions(pixels[known])
    return directions * (z[known] / np.maximum(directions[:, 2], 1e-3))[:, None]

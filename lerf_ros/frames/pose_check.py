# SPDX-License-Identifier: Apache-2.0
"""Measures how consistent poses, depth, lens and images of an input are.

The fit is the lowest of three fractions: of surface points of one image on which the depth of
another one agrees; of matched features that lie on each other's epipolar lines; and of matched
features that depth and poses project onto each other. If it is low, common mistakes are tried, and
one that fits clearly better is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

from lerf_ros.config import CheckConfig
from lerf_ros.errors import ContradictionError
from lerf_ros.frames.frame import Frame
from lerf_ros.frames.pose_evidence import (
    DepthPair,
    FeaturePair,
    Hypothesis,
    depth_pairs,
    feature_pairs,
)
from lerf_ros.geometry.camera import OPENGL_TO_OPENCV, invert_pose

FRAMES = 8              # keyframes that are checked while mapping
SPREAD_FRAMES = 16      # images of a folder that are checked
FEWEST_PAIRS = 3        # pairs that a mean needs
# A mistake is named if its fit reaches GOOD and its misfit is at most LEFT times that of the input.
GOOD, LEFT = 0.6, 0.5
SURFACES, SURE = 'surfaces that two images measured', 0.9
FACTORS = np.geomspace(1e-3, 1e3, 91)       # factors of depth that are tried first, 17 % apart
FINER = np.geomspace(0.84, 1.19, 11)
FOCALS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.1, 1.2, 1.25, 1.35, 1.5, 1.7, 2.0)
# Degrees about each axis of the camera by which its mount may be turned, then ever finer steps.
TURNS = (-20.0, -10.0, 0.0, 10.0, 20.0)
FINER_TURNS = (5.0, 2.5, 1.2, 0.6)
MOST_STEPS = 4
DECADE = 0.15           # relative distance at which a factor is taken for a power of ten

# Pose of an optical frame in a body frame (REP-103: x forward, y left, z up).
T_BODY_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
CONVENTIONS: dict[str, tuple[Hypothesis, str]] = {
    'body': (Hypothesis(lambda f: f.T_world_camera @ T_BODY_OPTICAL),
             'the poses are those of a body frame (x forward, z up): set camera_frame to the '
             'optical frame (its name usually ends in _optical_frame)'),
    'opengl': (Hypothesis(lambda f: f.T_world_camera @ OPENGL_TO_OPENCV),
               'the axes of the camera are turned around: where optical axes are expected (ROS) '
               'they are OpenGL axes (y up, z backwards), in a transforms.json, which has OpenGL '
               'axes, they are OpenCV axes: turn y and z of the poses around'),
    'inverted': (Hypothesis(lambda f: invert_pose(f.T_world_camera)),
                 'the poses are inverted (from the map to the camera): give the pose of the '
                 'camera in the map, or exchange the two frames'),
    'inverted body': (Hypothesis(lambda f: invert_pose(f.T_world_camera) @ T_BODY_OPTICAL),
                      'the poses are inverted (from the map to the camera) and those of a body '
                      'frame (x forward): give the pose of the optical frame in the map'),
    'inverted opengl': (Hypothesis(lambda f: invert_pose(f.T_world_camera) @ OPENGL_TO_OPENCV),
                        'the poses are inverted (from the map to the camera) and have OpenGL '
                        'axes: give the pose of the optical frame in the map'),
}
UNEXPLAINED = ('usual causes: depth that is not registered to the colour image, the intrinsics of '
               'another camera or lens, poses of another time or of another frame, moving things')


@dataclass(frozen=True)
class Explanation:
    """A mistake that explains a misfit, in words, and the fit with and without it, 0..1."""

    name: str
    text: str
    fit: float
    fit_as_given: float


@dataclass(frozen=True)
class InputFit:
    """How consistent an input is, 0..1, or NaN if its images do not tell.

    measure: which of the three fractions is the lowest.
    """

    fit: float = math.nan
    measure: str = ''
    explanation: Explanation | None = None

    def __str__(self) -> str:
        if math.isnan(self.fit):
            return 'fit of poses and images: not known, too few of them share what can be compared'
        text = f'fit of poses, depth and images: {self.fit:.0%} ({self.measure})'
        if self.explanation is None:
            return text
        return (f'{text}. {self.explanation.text} (then {self.explanation.fit:.0%} agrees, as '
                f'given {self.explanation.fit_as_given:.0%})')

    def wrong(self, config: CheckConfig) -> bool:
        """Returns whether training would fail: the fit is too low, or a mistake explains it."""
        return self.explanation is not None or self.fit < config.refuse_fit

    def doubt(self, config: CheckConfig) -> str:
        """Returns a warning, or '' if the fit is good or unknown."""
        if not (self.wrong(config) or self.fit < config.warn_fit):
            return ''
        return str(self) if self.explanation else f'{self}, expected {config.warn_fit:.0%}: ' \
            f'{UNEXPLAINED}'

    def require(self, config: CheckConfig, trusted: bool) -> None:
        """Raises ContradictionError if training would fail, unless the input is trusted."""
        if self.wrong(config) and not trusted:
            raise ContradictionError(
                f'the input contradicts itself: {self.doubt(config)}. Below '
                f'{config.refuse_fit:.0%}, and where something else fits much better, nothing is '
                'trained; --trust-input trains all the same')


class PoseCheck:
    """Collects the first keyframes and measures their fit once there are enough."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self.done = False
        self.fit = InputFit()

    def add(self, frame: Frame) -> bool:
        """Adds a keyframe; returns True when there are enough, so that `measure` is due."""
        if len(self._frames) < FRAMES and not self.done:
            self._frames.append(frame)
            return len(self._frames) == FRAMES
        return False

    def measure(self) -> InputFit:
        """Measures the fit, which takes a second or more, and keeps it as `fit`."""
        self.fit, self.done = measure_fit(self._frames), True
        self._frames = []
        return self.fit


def pairs_to_check(count: int) -> list[int]:
    """Returns which of `count` images of a folder to check: evenly spread pairs of neighbours."""
    starts = np.linspace(0, max(count - 2, 0), SPREAD_FRAMES // 2).astype(int)
    return sorted({int(k) + step for k in starts for step in (0, 1) if int(k) + step < count})


def measure_fit(frames: Sequence[Frame]) -> InputFit:
    """Measures the fit of frames in temporal order, and finds a mistake that explains a low one."""
    evidence = Evidence(depth_pairs(frames), feature_pairs(frames))
    given = evidence.fits(Hypothesis())
    if not given:
        # Either the poses are wrong, or the images really do not overlap.
        explanation = evidence.explain(given)
        return InputFit(0.0, 'no two images share anything', explanation) if explanation \
            else InputFit()
    measure, explanation = min(given, key=lambda name: given[name]), evidence.explain(given)
    if explanation is None and given.get(SURFACES, 0.0) >= SURE:
        measure = SURFACES      # features of tiles and bricks are easily mismatched
    return InputFit(given[measure], measure, explanation)


class Evidence:
    """Pairs of images on which hypotheses about the input are tested."""

    def __init__(self, depths: Sequence[DepthPair], features: Sequence[FeaturePair]) -> None:
        self._depths, self._features = depths, features

    def fits(self, hypothesis: Hypothesis) -> dict[str, float]:
        """Returns the known fractions, 0..1, of a hypothesis, by their names."""
        parts = {SURFACES: mean_known(
                     pair.agreement(hypothesis) for pair in self._depths)}
        if hypothesis.focal == 1.0:
            parts['features on their epipolar lines'] = mean_known(
                pair.epipolar(hypothesis) for pair in self._features)
            parts['features where depth and poses put them'] = mean_known(
                pair.meeting(hypothesis) for pair in self._features)
        return {name: part for name, part in parts.items() if part is not None}

    def explain(self, given: dict[str, float]) -> Explanation | None:
        """Returns the mistake that fits clearly better than the input as given, or None."""
        if min(given.values(), default=0.0) >= 1 - (1 - GOOD) * LEFT:
            return None
        candidates = [(name, text, hypothesis) for name, (hypothesis, text) in CONVENTIONS.items()]
        if found := self._best(candidates, given):
            return found    # mistakes of axes are not confused with others
        if not self._depths and all(pair.meeting(Hypothesis()) is None for pair in self._features):
            return None         # without depth, many turns of the camera fit nearly as well
        factor = self._best_factor()
        candidates = [('factor', factor_text(factor), Hypothesis(factor=factor)),
                      *(('focal', focal_text(focal), Hypothesis(focal=focal)) for focal in FOCALS)]
        if found := self._best(candidates, given):
            return found
        turn = self._best_turn()
        return self._best([('turn', turn_text(turn), turned(turn))], given)

    def _best(self, candidates: Sequence[tuple[str, str, Hypothesis]],
              given: dict[str, float]) -> Explanation | None:
        better = [found for name, text, hypothesis in candidates
                  if (found := self._compared(name, text, hypothesis, given)) is not None]
        return max(better, key=lambda found: found.fit - found.fit_as_given, default=None)

    def _compared(self, name: str, text: str, hypothesis: Hypothesis,
                  given: dict[str, float]) -> Explanation | None:
        fits = self.fits(hypothesis)
        if not fits:
            return None
        fit, before = min(fits.values()), min((given.get(k, 0.0) for k in fits), default=0.0)
        clear = fit >= GOOD and 1 - fit <= LEFT * (1 - before)
        return Explanation(name, text, fit, before) if clear else None

    def _best_factor(self) -> float:
        """Returns the factor of depth with the best agreement over all pairs."""
        def support(factor: float) -> float:
            return self._support(Hypothesis(factor=factor))

        coarse = max(FACTORS.tolist(), key=support)
        return max((coarse * FINER).tolist(), key=support)

    def _best_turn(self) -> np.ndarray:
        """Returns the rotation vector (3,), degrees, of the camera's mount with the best agreement.
        """
        def support(turn: np.ndarray) -> float:
            return self._support(turned(turn))

        best = max((np.array(turn) for turn in product(TURNS, repeat=3)), key=support)
        for step in FINER_TURNS:
            for _ in range(MOST_STEPS):
                around = [best + step * np.array(signs) for signs in product((-1, 0, 1), repeat=3)]
                better = max([best, *around], key=support)
                if better is best:
                    break
                best = better
        return best

    def _support(self, hypothesis: Hypothesis) -> float:
        return (sum(pair.agreeing(hypothesis) for pair in self._depths)
                + sum(pair.meeting(hypothesis) or 0.0 for pair in self._features))


def mean_known(shares: Iterable[float | None]) -> float | None:
    """Returns the mean of the known fractions, or None if they are too few."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if len(known) >= FEWEST_PAIRS else None


def factor_text(factor: float) -> str:
    """Explains a factor of depth: another unit, or poses of another scale."""
    power = round(math.log10(factor))
    decade = bool(power) and abs(factor / 10.0 ** power - 1) <= DECADE
    factor = 10.0 ** power if decade else factor
    scale = (f'the translations of the poses are in another unit (structure from motion has no '
             f'metre): multiply them by {1 / factor:.3g} (--scale {1 / factor:.3g})')
    if decade:
        wrong = f'{10.0 ** abs(power):g} times too {"large" if power < 0 else "small"}'
        return (f'depth is {wrong}: multiply it by {10.0 ** power:g}, that is, set its unit '
                '(depth_unit_m; in a transforms.json '
                f'depth_unit_scale_factor); or {scale}')
    return (f'{scale}; or multiply depth by {factor:.3g} (depth_unit_m, in a transforms.json '
            'depth_unit_scale_factor)')


def focal_text(focal: float) -> str:
    """Explains another focal length of depth."""
    return (f'depth fits a lens with {focal:.2g} times the focal length: the depth image is not '
            "registered to the colour image, or camera_info is another camera's. Use the depth "
            'that the driver aligns to colour, and the intrinsics of the same camera')


def turned(turn: np.ndarray) -> Hypothesis:
    """Returns the hypothesis that the camera is mounted turned by a rotation vector (3,), degrees.
    """
    T_given_camera = np.eye(4)
    T_given_camera[:3, :3] = cv2.Rodrigues(np.radians(np.asarray(turn, np.float64)))[0]
    return Hypothesis(lambda frame: frame.T_world_camera @ T_given_camera)


def turn_text(turn: np.ndarray) -> str:
    """Explains a camera that is turned against the poses, by the same in all images."""
    x, y, z = turn
    return (f'in all images the camera is turned by {np.linalg.norm(turn):.0f} degrees against '
            f'its poses: {x:+.1f} about its x axis (right), {y:+.1f} about y (down), {z:+.1f} '
            'about z (forward). Correct the mounting of the camera, that is, the fixed transform '
            'from the robot to the optical frame, by this rotation (hand-eye calibration '
            'measures it)')

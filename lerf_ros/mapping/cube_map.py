# SPDX-License-Identifier: Apache-2.0
"""The map of one submap: it learns only what keyframes see in its cube, with or without a field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import transform_points
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.mapping.fused_map import FusedMap
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.training.learners import Trainer

# What lies a little beyond the cube is learned as well, so that nothing is cut at its faces.
MARGIN = 1.1
LADDER = math.sqrt(2)       # from one depth that sizes of images are chosen for to the next
HOLE = 15       # pixels around what lies in the cube, within which unknown depth counts as in it


class Extractor(Protocol):
    """What extracts the features of a frame (encoders/extractor.py)."""

    def extract(self, frame: Frame, widths_world: Sequence[float] = (),
                depth_world: float = ...) -> KeyframeFeatures:
        """Returns the features of a frame."""


class WholeImages:
    """Extracts features from all of an image, whatever part of it a cube learns."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.whole: np.ndarray | None = None    # the pixels (H, W) that count, of the next frame

    def extract(self, frame: Frame, widths_world: Sequence[float] = (),
                depth_world: float = float('nan')) -> KeyframeFeatures:
        """Extracts features as the extractor does, as if nothing of the image lay elsewhere.

        Depths are rounded, so that cubes that share an image mostly share the sizes at which it is
        encoded; between these sizes embeddings are interpolated.
        """
        rounded = LADDER ** round(math.log(depth_world, LADDER)) if depth_world > 0 else depth_world
        return self.extractor.extract(replace(frame, valid=self.whole), widths_world, rounded)


class OfCube(SingleMap):
    """A map of what keyframes see in the cube that scene.center and scene.radius tell."""

    def learn_from(self, extractor: Extractor) -> None:
        """Shares an extractor with the other submaps."""
        self._images = WholeImages(extractor)
        self.extractor = self._images      # type: ignore[assignment]


class CubeMap(OfCube):
    """A cube's map with a field, which learns only the pixels that show the cube."""

    def _learn(self, trainer: Trainer, keyframe: Keyframe) -> None:
        frame = keyframe.frame
        self._images.whole = frame.valid
        super()._learn(trainer, Keyframe(keyframe.index, replace(
            frame, valid=seen_in(trainer.scene, frame))))


class FusedCube(FusedMap, OfCube):
    """A cube's map without a field: the pixels that show the cube are fused."""

    def shown(self, keyframe: Keyframe) -> Keyframe:
        """Returns a keyframe of which only the pixels that show the cube count."""
        frame = keyframe.frame
        assert self._scene is not None, 'the scene frame is that of the cube'
        self._images.whole = frame.valid
        return Keyframe(keyframe.index, replace(frame, valid=seen_in(self._scene, frame)))


def cube_map(config: LerfConfig) -> type[OfCube]:
    """Returns what makes the map of a cube: with a field, or by fusion alone."""
    return CubeMap if config.training.field == 'lerf' else FusedCube


def seen_in(scene: SceneFrame, frame: Frame) -> np.ndarray:
    """Returns the pixels (H, W) bool of a frame with depth that show what lies in a cube.

    scene: its frame; the radius reaches to the faces. Holes in the depth count as what is around.
    """
    assert frame.depth_m is not None, 'a submap takes no frame without depth'
    depth, camera = frame.depth_m.reshape(-1), frame.camera
    points, known = camera.back_project(camera.pixel_grid().reshape(-1, 2),
                                        np.where(np.isfinite(depth), depth, 0.0))
    inside = np.zeros(frame.depth_m.shape, bool)
    inside.reshape(-1)[known] = np.abs(scene.to_scene(
        transform_points(frame.T_world_camera, points))).max(-1) <= MARGIN
    around = cv2.dilate(inside.astype(np.uint8), np.ones((HOLE, HOLE), np.uint8)) > 0
    inside |= ~known.reshape(inside.shape) & around
    return inside if frame.valid is None else inside & frame.valid

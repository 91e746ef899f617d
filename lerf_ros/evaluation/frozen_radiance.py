# SPDX-License-Identifier: Apache-2.0
"""A radiance field that is trained once, and shared by all language variants.

Language gradients never reach the density, so freezing it loses nothing, and two variants differ in
their language alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.evaluation.scenes import EvalView
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.second_look import SecondLooker
from lerf_ros.index.surface import (
    PosedCamera,
    Surface,
    ViewGrid,
    all_rays,
    confirmed_surface,
    render_views,
    view_grid,
)
from lerf_ros.training.learners import LanguageSamples, RadianceLearner
from lerf_ros.training.quality import Quality, measure_quality
from lerf_ros.training.ray_batches import KeyframeStore
from lerf_ros.training.scene_measurement import measure_scene

TABLE_RAYS = 60000    # rays whose samples the language is trained on
RENDER_RAYS = 4096    # rays rendered at once
VIEW_SIDE = 160       # pixels: longer side of the rendered views


@dataclass(frozen=True)
class RayView:
    """A view rendered through the radiance field. rays: of all pixels (H * W), row by row."""

    view: EvalView
    camera: PinholeCamera
    rays: Surface

    def picture(self) -> np.ndarray:
        """Returns the rendered colours (H, W, 3) uint8 RGB."""
        colors = (self.rays.colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
        return colors.reshape(self.camera.height, self.camera.width, 3)

    def photo(self) -> np.ndarray:
        """Returns the photograph (H, W, 3) uint8 RGB of this size; for novel views the picture."""
        if self.view.photo is None:
            return self.picture()
        return cv2.resize(self.view.photo, (self.camera.width, self.camera.height),
                          interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class FrozenRadiance:
    """What all language variants share.

    samples: the rays that they are trained on. trained: row of each frame in `samples`, -1 for
    held-out frames. curve: quality after some numbers of steps. grids, depths (rows, columns): of
    all frames, as they were rendered to find the surface.
    """

    scene: SceneFrame
    field: RadianceField
    surface: Surface
    samples: LanguageSamples
    views: tuple[RayView, ...]
    trained: tuple[int, ...]
    curve: tuple[tuple[int, Quality], ...]
    seconds: float
    grids: tuple[ViewGrid, ...]
    depths: tuple[np.ndarray, ...]

    @property
    def quality(self) -> Quality:
        """Returns the quality after the last step."""
        return self.curve[-1][1]

    def with_looks(self, index: LanguageIndex, looker: SecondLooker) -> LanguageIndex:
        """Returns the index with second looks at its things in the frames that were trained on."""
        used = [i for i, row in enumerate(self.trained) if row >= 0]
        grids = [self.grids[i] for i in used]
        cameras = [PosedCamera(grid.camera, grid.T_scene_camera, None, i)
                   for i, grid in zip(used, grids, strict=True)]
        return replace(index, looks=looker.look(index, self.scene, cameras, grids,
                                                [self.depths[i] for i in used]))

    def render(self, view: EvalView, side: int, samples: int) -> RayView:
        """Renders a view with a longer side of at most `side` pixels, and `samples` per ray."""
        return render_view(self.field, self.scene, view, side, samples)


def train_radiance(frames: Sequence[Frame], config: LerfConfig, steps: int,
                   views: Sequence[EvalView], device: torch.device) -> FrozenRadiance:
    """Trains the radiance field on all frames but the held-out ones, and renders the views."""
    start = time.monotonic()
    torch.manual_seed(config.training.seed)
    scene = measure_scene(list(frames), config)
    learner = RadianceLearner(config, scene, device,
                              torch.Generator().manual_seed(config.training.seed))
    held_out, every, rows = KeyframeStore(scene, device), config.keyframes.holdout_every, []
    for i, frame in enumerate(frames):
        out = bool(every) and i % every == every - 1
        row = (held_out if out else learner).add(Keyframe(i, frame))
        rows.append(-1 if out else row)
    curve = []
    for step in range(1, steps + 1):
        learner.step()
        if step in (steps // 4, steps // 2, steps):
            curve.append((step, measure_quality(learner.field, held_out, scene.radius)))
    grids = _grids(learner, frames, scene, config, device)
    surfaces, depths = render_views(learner.field, grids, config.index, config.language.samples)
    return FrozenRadiance(
        scene, learner.field, confirmed_surface(grids, surfaces, depths, config.index),
        _samples(learner, config),
        tuple(render_view(learner.field, scene, view, VIEW_SIDE, config.language.samples)
              for view in views),
        tuple(rows), tuple(curve),
        time.monotonic() - start, tuple(grids), tuple(depths))


def _grids(learner: RadianceLearner, frames: Sequence[Frame], scene: SceneFrame,
           config: LerfConfig, device: torch.device) -> list[ViewGrid]:
    pixels = sum(f.camera.width * f.camera.height for f in frames)
    step = max(1, math.ceil(math.sqrt(pixels / config.index.rays)))
    return [view_grid(f.camera, learner.refined(i, scene.pose_to_scene(f.T_world_camera)), step,
                      f.valid, device) for i, f in enumerate(frames)]


@torch.no_grad()
def _samples(learner: RadianceLearner, config: LerfConfig) -> LanguageSamples:
    parts = []
    for _ in range(math.ceil(TABLE_RAYS / RENDER_RAYS)):
        batch = learner.store.draw(RENDER_RAYS, 0.0, 1, learner.generator)
        parts.append(LanguageSamples.of(batch, learner.field(batch.rays), RENDER_RAYS,
                                        config.language.samples))
    return LanguageSamples.join(parts)


def render_view(field: RadianceField, scene: SceneFrame, view: EvalView, side: int,
                samples: int) -> RayView:
    """Renders a view with a longer side of at most `side` pixels, and `samples` per ray."""
    camera = fitted(view.camera, side)
    grid = view_grid(camera, scene.pose_to_scene(view.T_world_camera), 1, None,
                     next(field.parameters()).device)
    return RayView(view, camera, all_rays(field, grid, samples)[0])


def fitted(camera: PinholeCamera, side: int) -> PinholeCamera:
    """Returns the camera with a longer side of at most `side` pixels."""
    shrink = max(1.0, max(camera.width, camera.height) / side)
    return camera.resized(max(round(camera.width / shrink), 1),
                          max(round(camera.height / shrink), 1))

# SPDX-License-Identifier: Apache-2.0
"""The radiance field seen from anywhere: its colours, its depth, and the relevancy of phrases.

This is the view that the LERF paper shows: embeddings are rendered along each ray and compared with
the phrase, and relevancy is painted over the rendered colours. Answers come from the index instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.surface import Surface, ViewGrid, all_rays, view_grid
from lerf_ros.mapping.reindex import open_stored_map
from lerf_ros.query.question import Question, encode_phrases
from lerf_ros.query.relevancy import Scorer
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery
from lerf_ros.show.colors import relevancy_colors, turbo

PHOTOGRAPH, RELEVANCY, DEPTH = 'photograph', 'relevancy', 'depth'
LOOKS = (PHOTOGRAPH, RELEVANCY, DEPTH)
RAYS_AT_ONCE = 4096
OPAQUE = 0.5            # accumulation from which a pixel shows a surface
FAR_PERCENTILE = 95     # of the depths: what is farther has the last colour
BEHIND = 1e6            # depth of what shows no surface, world units: all else is before it


@dataclass(frozen=True)
class FieldPicture:
    """A rendered view. colors (h, w, 3) uint8 RGB; depth (h, w) along z, world units."""

    colors: np.ndarray
    depth: np.ndarray


class FieldView:
    """Renders the fields of one snapshot. Used by one thread."""

    def __init__(self, radiance: RadianceField, language: LanguageField, scene: SceneFrame,
                 query: TextQuery, samples: int) -> None:
        """query: of the same snapshot; its index has the basis and the scales of embeddings.

        samples: of a ray whose embeddings count, as in training.
        """
        self.radiance, self.language, self.scene, self.query = radiance, language, scene, query
        self._samples = samples
        self._device = next(radiance.parameters()).device
        basis = torch.from_numpy(np.asarray(query.index.basis, np.float32)).to(self._device)
        self._projection = language.projection(basis)
        self._scales = [float(scale) / scene.radius for scale in query.index.stored_scales]

    @classmethod
    def open(cls, map_directory: Path, query: TextQuery) -> FieldView:
        """Reads the fields of a map's newest snapshot.

        query: of the same snapshot, or of the one before it, whose scales and basis serve as well.
        Raises NoSnapshotError and MapUnreadableError.
        """
        stored = open_stored_map(map_directory)
        return cls(stored.radiance, stored.language, stored.scene, query,
                   stored.config.language.samples)

    def question(self, request: QueryRequest) -> Question:
        """Returns the embeddings of a request in words. Raises NotUnderstoodError."""
        return encode_phrases(request, self.query.encoder, self.query.config.negatives)

    def render(self, camera: PinholeCamera, T_world_camera: np.ndarray, look: str,
               question: Question | None = None, top: float = 0.0,
               stop: Callable[[], bool] = lambda: False, paint: float = 1.0
               ) -> FieldPicture | None:
        """Renders a view of one of LOOKS; returns None as soon as `stop` says so.

        question: for RELEVANCY. top: the relevancy that has the last colour, so that colours stay
        while the camera moves; the largest of the view where that is larger. paint: opacity of
        those colours, 0..1.
        """
        view = view_grid(camera, self.scene.pose_to_scene(T_world_camera), 1, None, self._device)
        bands, codes = [], []
        for start in range(0, len(view.rays), RAYS_AT_ONCE):
            if stop():
                return None
            some = slice(start, start + RAYS_AT_ONCE)
            band = replace(view, rays=view.rays[some], pixels=view.pixels[some])
            bands.append(all_rays(self.radiance, band, self._samples))
            if look == RELEVANCY and question is not None:
                codes.append(self._codes(bands[-1][0]))
        colors = torch.cat([ends.colors for ends, _ in bands]).clamp(0, 1)
        pixels = (255 * colors).round().byte().cpu().numpy()
        depth, opaque = self._depth(view, bands)
        if look == DEPTH:
            pixels = depth_colors(depth, opaque)
        elif codes and question is not None:
            relevancy = self._relevancy(torch.cat(codes, 1), question)
            painted = relevancy_colors(np.where(opaque, relevancy, 0.0), pixels, top)
            pixels = np.round(paint * painted + (1 - paint) * pixels).astype(np.uint8)
        shape = camera.height, camera.width
        return FieldPicture(pixels.reshape(*shape, 3), depth.reshape(shape).astype(np.float32))

    @torch.no_grad()
    def _codes(self, ends: Surface) -> Tensor:
        """Renders the codes (S, n, r) of the embeddings of rays at all stored scales."""
        features = self.language.features(ends.positions())
        return torch.stack([self.language.render_codes(
            self._projection, features, ends.weights, scale) for scale in self._scales])

    def _relevancy(self, codes: Tensor, question: Question) -> np.ndarray:
        """Returns the relevancy (N,) of the phrase that fits each pixel best."""
        basis = self.query.index.basis
        scorer = Scorer(codes.cpu().numpy(), self.query.config.temperature)
        return scorer.best_phrase(question.positives @ basis, question.negatives @ basis)[0]

    def _depth(self, view: ViewGrid, bands: Sequence[tuple[Surface, Tensor]]
               ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the depth (N,) along z, world units, and which pixels show a surface (N,)."""
        opaque = torch.cat([accumulation for _, accumulation in bands]) >= OPAQUE
        offsets = torch.cat([ends.points - ends.origins for ends, _ in bands]).cpu().numpy()
        depth = self.scene.radius * offsets @ view.T_scene_camera[:3, 2]
        return np.where(opaque.cpu().numpy(), depth, BEHIND), opaque.cpu().numpy()


def depth_colors(depth: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    """Returns colours (N, 3) uint8 of depths (N,), near ones warm; black without a surface."""
    colors = np.zeros((len(depth), 3), np.uint8)
    if opaque.any():
        near = depth[opaque].min()
        far = max(float(np.percentile(depth[opaque], FAR_PERCENTILE)), near + 1e-9)
        colors[opaque] = turbo(1 - (depth[opaque] - near) / (far - near))
    return colors


def pinhole_of(width: int, height: int, fov_rad: float) -> PinholeCamera:
    """Returns a camera without distortion, with a vertical field of view."""
    focal = height / 2 / math.tan(fov_rad / 2)
    return PinholeCamera(width, height, focal, focal, width / 2, height / 2)

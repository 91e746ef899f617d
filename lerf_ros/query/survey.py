# SPDX-License-Identifier: Apache-2.0
"""What queries are answered from, taken from trained fields: the language index and coverage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lerf_ros.config import LerfConfig
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.scene_frame import SceneFrame
from lerf_ros.query.coverage import Coverage, measure_coverage
from lerf_ros.query.language_index import LanguageIndex, build_index
from lerf_ros.query.scales import index_scales
from lerf_ros.query.surface import PosedCamera, confirmed_surface, view_grids
from lerf_ros.query.view_memory import ViewMemory
from lerf_ros.query.weak_areas import weak_areas


@dataclass(frozen=True)
class Survey:
    """The index of what the keyframes show, and which part of space they saw.

    weak_areas (K, 3), world: centres of surfaces that too few keyframes saw, least seen first.
    """

    index: LanguageIndex
    coverage: Coverage
    weak_areas: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of both, by the name of the file that holds them in a snapshot."""
        return {'index': self.index.arrays(), 'coverage': self.coverage.arrays()}


def take_survey(radiance: RadianceField, language: LanguageField, cameras: Sequence[PosedCamera],
                scene: SceneFrame, trained: tuple[float, float], config: LerfConfig,
                contradicted: Callable[[np.ndarray], np.ndarray] | None = None,
                memory: ViewMemory | None = None) -> Survey:
    """Renders all keyframes' views and indexes their surfaces with the language there.

    trained: the scales that the language was trained at, scene radii. contradicted: which of
    points (N, 3), world, are known to have gone, (N,) bool. memory: of the survey before; views
    that show the same as then are not rendered anew. Raises ValueError without a keyframe.
    """
    c, memory = config.index, memory or ViewMemory()
    views = view_grids(cameras, c.rays, next(radiance.parameters()).device)
    surfaces, depths = memory.render_views(radiance, views, c, config.language.samples)
    surface = confirmed_surface(views, surfaces, depths, c)
    if contradicted is not None:
        gone = contradicted(scene.to_world(surface.points.cpu().numpy()))
        surface = surface[torch.from_numpy(~gone).to(surface.points.device)]
    scales = index_scales(c, scene.radius, trained)
    return Survey(build_index(surface, language, scene, scales, c),
                  measure_coverage(views, depths, scene, c.coverage_cells, c.min_keyframes,
                                   memory.counts(c.coverage_cells)),
                  scene.to_world(weak_areas(views, surfaces, depths, c)))

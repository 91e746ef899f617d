# SPDX-License-Identifier: Apache-2.0
"""What queries are answered from, taken from trained fields: the language index and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.scene_frame import SceneFrame
from lerf_ros.query.coverage import Coverage, measure_coverage
from lerf_ros.query.language_index import LanguageIndex, build_index
from lerf_ros.query.scales import index_scales
from lerf_ros.query.surface import PosedCamera, confirmed_surface, render_views, view_grids


@dataclass(frozen=True)
class Survey:
    """The index of what the keyframes show, and which part of space they saw."""

    index: LanguageIndex
    coverage: Coverage

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of both, by the name of the file that holds them in a snapshot."""
        return {'index': self.index.arrays(), 'coverage': self.coverage.arrays()}


def take_survey(radiance: RadianceField, language: LanguageField, cameras: Sequence[PosedCamera],
                scene: SceneFrame, trained: tuple[float, float], config: LerfConfig) -> Survey:
    """Renders all keyframes' views and indexes their surfaces with the language there.

    trained: the scales that the language was trained at, scene radii. Raises ValueError without
    a keyframe.
    """
    c = config.index
    views = view_grids(cameras, c.rays, next(radiance.parameters()).device)
    surfaces, depths = render_views(radiance, views, c, config.language.samples)
    surface = confirmed_surface(views, surfaces, depths, c)
    scales = index_scales(c, scene.radius, trained)
    return Survey(build_index(surface, language, scene, scales, c),
                  measure_coverage(views, depths, scene, c.coverage_cells, c.min_keyframes))

# SPDX-License-Identifier: Apache-2.0
"""The survey of a snapshot: index, coverage, weak areas; views that have not changed are reused.

Training moves every weight of a field a little with every step, but the surface of a place that is
learned stays where it is, up to noise that does not add up. So a few rays of each view are rendered
again, and only the views in which these end elsewhere are rendered as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lerf_ros.config import IndexConfig
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.index.coverage import Coverage, CoverageCounts
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.surface import (
    Surface,
    ViewGrid,
    count_views,
    one_per_voxel,
    opaque_part,
    view_ends,
)

EVERY = 16            # one of so many rays is rendered again
MOVED = 0.5           # times index.voxel: how far their median end may have moved
FAR_MOVED = 2.0       # times index.voxel: how far all but FAR_PART may have moved
FAR_PART = 0.1
COLOR = 0.04          # mean difference of their colours, 0..1


@dataclass(frozen=True)
class SeenView:
    """A rendered view: where its R rays end and their accumulation (R,).

    surface: the opaque ends; depth (rows, columns) of the view's grid.
    """

    ends: Surface
    accumulation: Tensor
    surface: Surface
    depth: np.ndarray

    def still_true(self, ends: Surface, accumulation: Tensor, config: IndexConfig) -> bool:
        """Returns whether every EVERY-th ray, rendered again, ends where it did, in its colour."""
        before, opaque = self.ends[::EVERY], accumulation >= config.min_accumulation
        was_opaque = self.accumulation[::EVERY] >= config.min_accumulation
        moved = (ends.points - before.points).norm(dim=-1)
        # Voxels grow with the distance from the middle of the scene.
        moved = moved / before.points.abs().amax(-1).clamp_min(1.0)
        moved = torch.where(opaque | was_opaque, moved, torch.zeros_like(moved))
        moved = torch.where(opaque == was_opaque, moved, torch.full_like(moved, torch.inf))
        color = (ends.colors - before.colors).abs().mean()
        return bool(len(moved) and moved.median() <= MOVED * config.voxel
                    and (moved > FAR_MOVED * config.voxel).float().mean() <= FAR_PART
                    and color <= COLOR)


@dataclass
class ViewCache:
    """The views of the snapshot before, by camera, pose and pixels.

    renewed: how many were rendered anew for the newest snapshot. Serves one field, scene frame and
    configuration.
    """

    views: dict[bytes, SeenView] = field(default_factory=dict)
    coverage: CoverageCounts | None = None
    renewed: int = 0

    def render_views(self, radiance: RadianceField, views: Sequence[ViewGrid], config: IndexConfig,
                     samples: int) -> tuple[list[Surface], list[np.ndarray]]:
        """Renders as `surface.render_views` does, but reuses views that have not changed."""
        keys = [key_of(view) for view in views]
        known = [(key, view) for key, view in zip(keys, views, strict=True) if key in self.views]
        again = view_ends(radiance, [view for _, view in known], samples, EVERY)
        kept = {key: self.views[key] for (key, _), ends in zip(known, again, strict=True)
                if self.views[key].still_true(*ends, config)}
        stale = {key: view for key, view in zip(keys, views, strict=True) if key not in kept}
        ends = view_ends(radiance, list(stale.values()), samples)
        for (key, view), rendered in zip(stale.items(), ends, strict=True):
            kept[key] = SeenView(*rendered, *opaque_part(view, *rendered, config))
        self.views, self.renewed = {key: kept[key] for key in keys}, len(stale)
        return [kept[key].surface for key in keys], [kept[key].depth for key in keys]

    def counts(self, cells: int) -> CoverageCounts:
        """Returns the counts of the snapshot before, to be updated with views that changed."""
        if self.coverage is None:
            self.coverage = CoverageCounts(cells)
        return self.coverage


def key_of(view: ViewGrid) -> bytes:
    """Returns the key of a view: its camera, pose and pixels."""
    return repr((view.camera, view.step)).encode() + view.T_scene_camera.tobytes() \
        + view.pixels.tobytes()


# All lengths in scene radii.
REACH = 1.2         # of the mapped region around the centre; the background is beyond
VOXEL = 0.1         # one point of each is tested
AREA = 0.4          # edge of the cubes that are reported
SMALLEST = 3        # points of an area
WEAK_PART = 0.5     # of a cube's points that must be weak
# Wider than the index's: a keyframe saw a place even where the field does not quite agree.
TOLERANCE = 0.1
MOST_AREAS = 10


def weak_areas(views: Sequence[ViewGrid], points: Tensor, depths: Sequence[np.ndarray],
               config: IndexConfig) -> np.ndarray:
    """Returns the centres (K, 3) of weak areas, scene frame, the least seen first.

    points (N, 3), scene frame, and depths (rows, columns) are what the views show. An area is weak
    where fewer than config.min_keyframes keyframes saw most of its surface.
    """
    points = points[points.norm(dim=-1) <= REACH]
    at = points[one_per_voxel(points, VOXEL, seed=0)].cpu().numpy()
    seen = count_views(at, views, depths, max(config.depth_tolerance, TOLERANCE))
    cubes = np.unique(np.floor(at / AREA), axis=0, return_inverse=True)[1].reshape(-1)
    areas = []
    for cube in range(cubes.max(initial=-1) + 1):
        members = cubes == cube
        weak = members & (seen < config.min_keyframes)
        if weak.sum() >= max(SMALLEST, WEAK_PART * members.sum()):
            areas.append((float(seen[weak].mean()), -int(weak.sum()), at[weak].mean(0)))
    areas.sort(key=lambda area: area[:2])
    return np.array([center for _, _, center in areas[:MOST_AREAS]]).reshape(-1, 3)


@dataclass(frozen=True)
class Survey:
    """What a snapshot says of the place: language index, coverage and weak areas.

    weak_areas (K, 3), world: centres of surfaces that too few keyframes saw, least seen first.
    """

    index: LanguageIndex
    coverage: Coverage
    weak_areas: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the arrays of index and coverage, by the name of their file in a snapshot."""
        return {'index': self.index.arrays(), 'coverage': self.coverage.arrays()}

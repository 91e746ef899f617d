# SPDX-License-Identifier: Apache-2.0
"""What views showed at an earlier snapshot, kept for as long as they still show the same.

Training moves every number of a field a little with every step, but where a place is learned its
surface stays where it is, up to noise that does not add up. So a few rays of each view are asked
again, and only the views in which they end elsewhere are rendered anew.
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
    View,
    count_views,
    one_per_voxel,
    opaque_part,
    view_ends,
)

EVERY = 16            # one of so many rays is asked again
MOVED = 0.5           # index.voxel: how far the median of them may have moved
FAR_MOVED = 2.0       # index.voxel: how far all but FAR_SHARE may have moved
FAR_SHARE = 0.1
COLOR = 0.04          # mean difference of their colours, 0..1


@dataclass(frozen=True)
class SeenView:
    """A view as it was rendered: where its rays end, how opaque they are, and what is made of it.

    ends: of all R rays, accumulation (R,); surface: the opaque ones; depth (rows, columns).
    """

    ends: Surface
    accumulation: Tensor
    surface: Surface
    depth: np.ndarray

    def still_true(self, ends: Surface, accumulation: Tensor, config: IndexConfig) -> bool:
        """Whether every EVERY-th ray, asked again, ends where it did, in the same colour."""
        before, opaque = self.ends[::EVERY], accumulation >= config.min_accumulation
        was_opaque = self.accumulation[::EVERY] >= config.min_accumulation
        moved = (ends.points - before.points).norm(dim=-1)
        # Voxels grow with the distance from the middle of the scene.
        moved = moved / before.points.abs().amax(-1).clamp_min(1.0)
        moved = torch.where(opaque | was_opaque, moved, torch.zeros_like(moved))
        moved = torch.where(opaque == was_opaque, moved, torch.full_like(moved, torch.inf))
        color = (ends.colors - before.colors).abs().mean()
        return bool(len(moved) and moved.median() <= MOVED * config.voxel
                    and (moved > FAR_MOVED * config.voxel).float().mean() <= FAR_SHARE
                    and color <= COLOR)


@dataclass
class ViewCache:
    """The views of the snapshot before, by what they look from; renewed: how many were not reused.

    One owner, and for one field, scene frame and configuration.
    """

    views: dict[bytes, SeenView] = field(default_factory=dict)
    coverage: CoverageCounts | None = None
    renewed: int = 0

    def render_views(self, radiance: RadianceField, views: Sequence[View], config: IndexConfig,
                     samples: int) -> tuple[list[Surface], list[np.ndarray]]:
        """As `surface.render_views`, but for views that have not changed since the last time."""
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
        """The counts of the snapshot before, which take the views that changed."""
        if self.coverage is None:
            self.coverage = CoverageCounts(cells)
        return self.coverage


def key_of(view: View) -> bytes:
    """What a view looks from, and at which pixels."""
    return repr((view.camera, view.step)).encode() + view.T_scene_camera.tobytes() \
        + view.pixels.tobytes()


# All lengths in scene radii.
REACH = 1.2         # of the mapped region around the centre; what is beyond is background
VOXEL = 0.1         # one point of each is looked at
AREA = 0.4          # edge of the cubes that are reported
SMALLEST = 3        # points of an area
SHARE = 0.5         # part of a cube's points that must be weak
# A keyframe has looked at a place even where the field does not agree with it to the last.
TOLERANCE = 0.1
MOST_AREAS = 10


def weak_areas(views: Sequence[View], surfaces: Sequence[Surface], depths: Sequence[np.ndarray],
               config: IndexConfig) -> np.ndarray:
    """Centres (K, 3) of weak areas, scene frame, the least seen first.

    surfaces and depths (rows, columns) are what the views rendered. An area is weak where fewer
    than config.min_keyframes keyframes saw most of its surface.
    """
    points = torch.cat([surface.points for surface in surfaces])
    points = points[points.norm(dim=-1) <= REACH]
    at = points[one_per_voxel(points, VOXEL, seed=0)].cpu().numpy()
    seen = count_views(at, views, depths, max(config.depth_tolerance, TOLERANCE))
    cubes = np.unique(np.floor(at / AREA), axis=0, return_inverse=True)[1].reshape(-1)
    areas = []
    for cube in range(cubes.max(initial=-1) + 1):
        members = cubes == cube
        weak = members & (seen < config.min_keyframes)
        if weak.sum() >= max(SMALLEST, SHARE * members.sum()):
            areas.append((float(seen[weak].mean()), -int(weak.sum()), at[weak].mean(0)))
    areas.sort(key=lambda area: area[:2])
    return np.array([center for _, _, center in areas[:MOST_AREAS]]).reshape(-1, 3)


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

# SPDX-License-Identifier: Apache-2.0
"""The baseline that robots have today: a block-sparse TSDF whose surface carries features.

Voxels exist in blocks near measured surfaces alone. Each holds the truncated signed distance to the
surface, positive towards the cameras, as the weighted running mean over all depth images; the
surface is where it changes its sign (Curless and Levoy, SIGGRAPH 1996). Mappers with neural
features, such as cuRobo's, also hold the weighted mean of the embeddings of the views that see a
voxel within the truncation distance; cuRobo does so for each block, here it is each voxel of the
surface, which is never worse. A mean in a voxel does not depend on other voxels, so embeddings are
summed for those of the surface alone, once it is known: the result is the same, in a fraction of
the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import FISHEYE, invert_pose, transform_points
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.surface import needed_views, widest_slopes
from lerf_ros.mapping.fusion import Seeing, averaged, fused_index, in_depth, spread
from lerf_ros.training.scene_measurement import depth_points

BLOCK = 8               # voxels along each edge of a block
TRUNCATION = 4.0        # voxels, as nvblox has it
STEP = 4                # every fourth pixel in both directions allocates blocks
STEEPEST = 1.0          # change of the distance, truncations, between two voxels at one surface
TOGETHER = 2048         # blocks that are updated at once
SIDE = 1 << 20          # blocks along each axis that can be numbered


@dataclass
class Tsdf:
    """B blocks of voxels of an edge in world units.

    blocks (B, 3): their places, in units of blocks, in the order of their numbers (`number_of`).
    distance, weight, views (B, 8, 8, 8): signed distance in truncations, -1..1, its weight, and how
    many depth images it is of.
    """

    voxel: float
    blocks: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    views: np.ndarray

    @classmethod
    def allocate(cls, frames: Sequence[Frame], voxel: float) -> Tsdf:
        """Makes the blocks within the truncation distance of what the frames measured."""
        numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *(
            number_of(blocks) for frame in frames for blocks in near_blocks(frame, voxel))]))
        shape = (len(numbers), BLOCK, BLOCK, BLOCK)
        return cls(voxel, places_of(numbers), np.ones(shape, np.float32),
                   np.zeros(shape, np.float32), np.zeros(shape, np.int16))

    @property
    def truncation(self) -> float:
        """The largest distance that is told apart, world units."""
        return TRUNCATION * self.voxel

    def centers(self, voxels: np.ndarray) -> np.ndarray:
        """Returns the middles (n, 3), world, of voxels (n,) by index in the arrays."""
        block, inside = voxels // BLOCK ** 3, voxels % BLOCK ** 3
        steps = np.stack(np.unravel_index(inside, (BLOCK,) * 3), 1)
        return (self.blocks[block] * BLOCK + steps + 0.5) * self.voxel

    def integrate(self, frame: Frame) -> None:
        """Takes a depth image into the mean of each voxel that it does not show hidden."""
        assert frame.depth_m is not None
        depth_m = frame.depth_m
        distance, weight, views = (array.reshape(-1) for array in (
            self.distance, self.weight, self.views))            # they share the arrays' memory
        blocks = self._in_view(frame)
        for start in range(0, len(blocks), TOGETHER):
            some = blocks[start:start + TOGETHER, None]
            voxels = (some * BLOCK ** 3 + np.arange(BLOCK ** 3)).reshape(-1)
            index, _, z, measured = in_depth(self.centers(voxels), frame, depth_m)
            with np.errstate(invalid='ignore'):
                known = (measured > 0) & (measured - z > -self.truncation)
            voxels, z = voxels[index[known]], z[known]
            ahead = np.minimum((measured[known] - z) / self.truncation, 1.0)
            new = depth_weight(z) * np.clip(1 + ahead, 0, 1)    # less and less behind the surface
            weight[voxels] += new
            distance[voxels] += (ahead - distance[voxels]) * new / np.maximum(
                weight[voxels], 1e-12)
            views[voxels] += 1

    def _in_view(self, frame: Frame) -> np.ndarray:
        """Returns the blocks (b,), by index, of which some may lie in the image of a frame."""
        if frame.camera.model == FISHEYE:
            return np.arange(len(self.blocks))
        edge = BLOCK * self.voxel
        at = transform_points(invert_pose(frame.T_world_camera), (self.blocks + 0.5) * edge)
        reach = edge * np.sqrt(0.75)
        slopes = widest_slopes(frame.camera)
        # A sphere around each, beside the planes through the rim of the image.
        beyond = np.abs(at[:, :2]) - slopes * at[:, 2:] - reach * np.sqrt(1 + slopes ** 2)
        return np.flatnonzero((at[:, 2] > -reach) & (beyond <= 0).all(1))

    def surface(self, views: int) -> np.ndarray:
        """Returns points (N, 3), world, where the distance changes its sign.

        One in a voxel at most: the mean of where the edges to its neighbours cross the surface, on
        its side of their middle. views: how many depth images a voxel must be of to count.
        """
        known = np.where(self.views >= views, self.distance, np.nan)
        owners, points = (np.concatenate(parts) for parts in zip(
            *(self._crossings(known, axis) for axis in range(3)), strict=True))
        found, inverse = np.unique(owners, return_inverse=True)
        count = np.bincount(inverse, minlength=len(found))
        return np.stack([np.bincount(inverse, column, len(found)) / np.maximum(count, 1)
                         for column in points.T], 1)

    def _crossings(self, known: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the voxels (n,), by index, that own crossings along an axis; these (n, 3)."""
        index = np.arange(known.size).reshape(known.shape)
        here, there = known, self._shifted(known, axis, np.nan)
        other = self._shifted(index, axis, -1)
        with np.errstate(invalid='ignore'):
            cross = ((here > 0) != (there > 0)) & (np.abs(here - there) < STEEPEST)
        a, b = here[cross].astype(np.float64), there[cross].astype(np.float64)
        part = a / (a - b)                                      # 0 here, 1 there
        places = index[cross]
        points = self.centers(places)
        points[:, axis] += part * self.voxel
        return np.where(part < 0.5, places, other[cross]), points

    def _shifted(self, values: np.ndarray, axis: int, missing: float) -> np.ndarray:
        """Returns the value (B, 8, 8, 8) of each voxel's next neighbour along an axis."""
        step = np.eye(3, dtype=np.int64)[axis]
        numbers, wanted = number_of(self.blocks), number_of(self.blocks + step)
        at = np.minimum(np.searchsorted(numbers, wanted), max(len(numbers) - 1, 0))
        beyond = values[at].take([0], axis + 1)
        beyond[numbers[at] != wanted] = missing
        return np.concatenate([np.delete(values, 0, axis + 1), beyond], axis + 1)


def fuse_tsdf(frames: Sequence[Frame], features: Sequence[KeyframeFeatures], scene: SceneFrame,
              config: LerfConfig) -> LanguageIndex:
    """Builds an index of a TSDF's surface with the embeddings that its voxels hold.

    Its voxels are those of the index at the middle of the scene. Raises ValueError when no frame
    has depth.
    """
    frames_with_depth = [frame for frame in frames if frame.depth_m is not None]
    if not frames_with_depth:
        raise ValueError('a TSDF needs frames with depth')
    tsdf = Tsdf.allocate(frames_with_depth, config.index.voxel * scene.radius)
    for frame in frames_with_depth:
        tsdf.integrate(frame)
    points = spread(tsdf.surface(needed_views(config.index.min_keyframes, len(frames))), scene,
                    config.index)
    seeing = Seeing(lambda z: np.full_like(z, tsdf.truncation), depth_weight)
    return fused_index(averaged(points, frames, features, scene, config, seeing), len(frames),
                       scene, config)


def depth_weight(z: np.ndarray) -> np.ndarray:
    """Returns what a measurement counts at z-depths (M,): the noise of depth grows with them."""
    return 1 / np.maximum(z, 1e-6) ** 2


def near_blocks(frame: Frame, voxel: float) -> Iterator[np.ndarray]:
    """Yields the blocks (n, 3) that hold measured points, and those along the ray around them."""
    points, eye = depth_points(frame, STEP), frame.T_world_camera[:3, 3]
    rays = points - eye
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    for along in (-TRUNCATION, 0.0, TRUNCATION):
        yield np.floor((points + along * voxel * rays) / (BLOCK * voxel)).astype(np.int64)


def number_of(blocks: np.ndarray) -> np.ndarray:
    """Returns one number (n,) for the place of each block (n, 3)."""
    x, y, z = (np.asarray(blocks, np.int64) + SIDE // 2).T
    return (x * SIDE + y) * SIDE + z


def places_of(numbers: np.ndarray) -> np.ndarray:
    """Returns the places (n, 3) of blocks of these numbers (n,)."""
    return np.stack([numbers // SIDE ** 2, numbers // SIDE % SIDE, numbers % SIDE], 1) - SIDE // 2

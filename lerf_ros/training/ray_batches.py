# SPDX-License-Identifier: Apache-2.0
"""The pixels of all keyframes in one flat table, and random batches of rays from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lerf_ros.field.ray_sampling import Rays
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor of the CPU to a device; a GPU need not finish its earlier work first."""
    if device.type == 'cuda':
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class GrowingTensor:
    """Rows of one shape and type; `rows` is a view of all that were appended."""

    def __init__(self, row_shape: tuple[int, ...], dtype: torch.dtype,
                 device: torch.device) -> None:
        self._buffer = torch.empty((0, *row_shape), dtype=dtype, device=device)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        return self._buffer[:self._count]

    def append(self, rows: Tensor) -> int:
        """Appends rows (N, ...) and returns the number of the first of them."""
        first = self._count
        self.write(first, rows)
        return first

    def write(self, first: int, rows: Tensor) -> None:
        """Writes rows (N, ...) from row `first` on, over rows that are there and after the last."""
        needed = first + len(rows)
        if needed > len(self._buffer):
            # A quarter more than needed: doubling would waste gigabytes on a large capture.
            capacity = max(needed, needed + needed // 4)
            grown = self._buffer.new_empty((capacity, *self._buffer.shape[1:]))
            grown[:self._count] = self._buffer[:self._count]
            self._buffer = grown
        self._buffer[first:needed] = rows.to(self._buffer)
        self._count = max(self._count, needed)

    def bytes_used(self) -> int:
        """Returns the memory of the buffer."""
        return self._buffer.numel() * self._buffer.element_size()

    def keep(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Keeps only these ranges (first, count), in this order; returns where each begins now."""
        starts, position = [], 0
        for _, count in ranges:
            starts.append(position)
            position += count
        parts = [self._buffer[first:first + count] for first, count in ranges]
        self._buffer = torch.cat([self._buffer[:0], *parts])
        self._count = position
        return starts


WASTE = 0.25    # part of the pixels that may belong to forgotten keyframes


@dataclass(frozen=True)
class PixelBatch:
    """R pixels: their rays and what the camera measured there.

    keyframe (R,) row in the store, pixels (R, 2) centre (x, y), colors (R, 3) in 0..1,
    focal_px (R, 2) focal lengths fx, fy and size_px (R, 2) width, height of the image.
    """

    rays: Rays
    keyframe: Tensor
    pixels: Tensor
    colors: Tensor
    focal_px: Tensor
    size_px: Tensor

    def __len__(self) -> int:
        return len(self.keyframe)

    def head(self, count: int) -> PixelBatch:
        """Returns the first `count` pixels."""
        return self[torch.arange(min(count, len(self)), device=self.keyframe.device)]

    def __getitem__(self, chosen: Tensor) -> PixelBatch:
        return PixelBatch(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: Sequence[PixelBatch]) -> PixelBatch:
        """Concatenates batches of one store."""
        depths = [p.rays.depth for p in parts]
        rays = Rays(torch.cat([p.rays.origins for p in parts]),
                    torch.cat([p.rays.directions for p in parts]),
                    torch.cat([d for d in depths if d is not None])
                    if all(d is not None for d in depths) else None)
        return cls(rays, *(torch.cat([getattr(p, name) for p in parts])
                           for name in list(cls.__dataclass_fields__)[1:]))

    def detach(self) -> PixelBatch:
        """Returns the same pixels without gradients to the poses."""
        return replace(self, rays=replace(self.rays, origins=self.rays.origins.detach(),
                                          directions=self.rays.directions.detach()))


class KeyframeStore:
    """All keyframes of one kind (trained on, or held out), to draw rays from.

    A keyframe has a row in the tables, by which batches name it; outside of training its index is
    its only handle.
    """

    def __init__(self, scene: SceneFrame, device: torch.device) -> None:
        self.scene, self.device = scene, device
        self.rows: dict[int, int] = {}      # of each keyframe by its index, the newest last
        self._wasted = self._wasted_rays = 0    # of forgotten keyframes, of cameras without any
        self._masked = False                    # whether some pixels are not drawn
        self._colors = GrowingTensor((3,), torch.uint8, device)
        self._distance = GrowingTensor((), torch.float32, device)   # scene radii, NaN: unknown
        self._usable = GrowingTensor((), torch.bool, device)
        self._directions = GrowingTensor((3,), torch.float32, device)
        self._camera_start: dict[PinholeCamera, int] = {}
        self._cameras: dict[int, PinholeCamera] = {}    # by row
        self._poses = GrowingTensor((3, 4), torch.float32, device)
        # first pixel, first direction, width, height
        self._layout = GrowingTensor((4,), torch.int64, device)
        self._focal = GrowingTensor((2,), torch.float32, device)

    def __len__(self) -> int:
        return len(self.rows)

    def indices(self) -> list[int]:
        """Returns the indices of all keyframes in the order of their rows."""
        return sorted(self.rows, key=self.rows.__getitem__)

    def add(self, keyframe: Keyframe, instead_of: int | None = None) -> int:
        """Takes a keyframe and returns its row, that of a keyframe `instead_of` where one goes."""
        row, first, camera = len(self), len(self._colors), keyframe.frame.camera
        if instead_of is not None:
            row = self.rows.pop(instead_of)
            place, _, width, height = self._layout.rows[row].tolist()
            if camera.width * camera.height == width * height:
                first = place
            else:
                self._wasted += width * height
        self.rows[keyframe.index] = row
        try:
            self._write(row, first, keyframe)
        except RuntimeError:    # out of memory: as if it had not come; what was written is unused
            del self.rows[keyframe.index]
            if instead_of is not None:
                self.rows[instead_of] = row
            raise
        if self._wasted > WASTE * len(self._colors):
            self._compact()
        return row

    def set_pose(self, index: int, T_world_camera: np.ndarray) -> None:
        """Gives a keyframe another pose (4, 4)."""
        pose = self.scene.pose_to_scene(T_world_camera)[:3]
        self._poses.rows[self.rows[index]] = torch.from_numpy(pose).to(self._poses.rows)

    def set_usable(self, index: int, pixels: np.ndarray) -> None:
        """Draws only these pixels (H, W) bool of a keyframe from now on."""
        row = self.rows[index]
        first, camera = int(self._layout.rows[row, 0]), self._cameras[row]
        lit = camera.seen_through_lens(camera.pixel_grid().reshape(-1, 2))
        self._write_usable(first, torch.from_numpy(pixels.reshape(-1) & lit))

    def bytes_used(self) -> int:
        """Returns the memory of all tables."""
        return sum(table.bytes_used() for table in (
            self._colors, self._distance, self._usable, self._directions))

    def _write(self, row: int, first: int, keyframe: Keyframe) -> None:
        """Writes a keyframe's pixels from pixel `first` on, and its row; both may be new."""
        frame, camera = keyframe.frame, keyframe.frame.camera
        directions = self._take_camera(row, camera)
        usable = camera.seen_through_lens(camera.pixel_grid().reshape(-1, 2))
        if frame.valid is not None:
            usable &= frame.valid.reshape(-1)
        self._colors.write(first, torch.from_numpy(frame.image.reshape(-1, 3).copy()))
        self._distance.write(first, self._ray_distance(frame.depth_m, directions))
        self._write_usable(first, torch.from_numpy(usable))
        pose = self.scene.pose_to_scene(frame.T_world_camera)[:3]
        self._poses.write(row, torch.from_numpy(pose)[None])
        self._layout.write(row, torch.tensor(
            [[first, self._camera_start[camera], camera.width, camera.height]]))
        self._focal.write(row, torch.tensor([[camera.fx, camera.fy]]))

    def _write_usable(self, first: int, usable: Tensor) -> None:
        self._usable.write(first, usable)
        self._masked |= not bool(usable.all())

    def _compact(self) -> None:
        """Frees the pixels of forgotten keyframes whose place did not fit their successors."""
        layout = self._layout.rows
        ranges = [(first, width * height) for first, _, width, height in layout.tolist()]
        for table in (self._colors, self._distance, self._usable):
            starts = table.keep(ranges)
        layout[:, 0] = torch.tensor(starts, device=self.device)
        self._wasted = 0

    def _take_camera(self, row: int, camera: PinholeCamera) -> Tensor:
        """Returns the viewing directions of a row's new camera; frees those that no row uses.

        A camera that focuses has other intrinsics in each image, and so a table for each.
        """
        before = self._cameras.get(row)
        self._cameras[row] = camera
        free = None
        if before is not None and before not in self._cameras.values():
            free = self._camera_start.pop(before)
        if camera not in self._camera_start:
            directions = torch.from_numpy(camera.directions(camera.pixel_grid().reshape(-1, 2)))
            fits = before is not None and len(directions) == before.width * before.height
            start = free if free is not None and fits else len(self._directions)
            self._directions.write(start, directions)
            self._camera_start[camera] = start
            free = None if start == free else free
        if free is not None and before is not None:
            self._wasted_rays += before.width * before.height
            if self._wasted_rays > WASTE * len(self._directions):
                self._compact_rays()
        start = self._camera_start[camera]
        return self._directions.rows[start:start + camera.width * camera.height]

    def _compact_rays(self) -> None:
        """Frees the viewing directions of cameras that no keyframe has any more."""
        old = {start: camera for camera, start in self._camera_start.items()}
        new = self._directions.keep([(start, c.width * c.height) for start, c in old.items()])
        self._camera_start = dict(zip(old.values(), new, strict=True))
        for row, camera in self._cameras.items():
            if row < len(self._layout) and camera in self._camera_start:
                self._layout.rows[row, 1] = self._camera_start[camera]
        self._wasted_rays = 0

    def _ray_distance(self, depth_m: np.ndarray | None, directions: Tensor) -> Tensor:
        if depth_m is None:
            return torch.full((len(directions),), float('nan'))
        depth = torch.from_numpy(depth_m.reshape(-1).astype(np.float32)).to(self.device)
        # Depth along the optical axis says nothing of what a fisheye sees beside or behind it.
        known = torch.isfinite(depth) & (depth > 0) & (directions[:, 2] > 1e-3)
        distance = depth / directions[:, 2] / self.scene.radius
        return torch.where(known, distance, torch.full_like(distance, float('nan')))

    def draw(self, count: int, newest_fraction: float, newest_count: int,
             generator: torch.Generator) -> PixelBatch:
        """Draws random usable pixels, a part of them from the newest keyframes.

        Fewer than `count` come back where masks exclude some of the drawn ones; on a GPU, which
        works faster on batches of one size, others of them stand in.
        """
        total = len(self)
        newest = min(newest_count, total)
        recent = int(count * newest_fraction) if newest < total else 0
        arrivals = torch.tensor(list(self.rows.values()))
        keyframe = torch.cat([
            arrivals[torch.randint(total - newest, total, (recent,), generator=generator)],
            torch.randint(0, total, (count - recent,), generator=generator)])
        # Shuffled, so that a prefix of the batch is as mixed as the whole.
        keyframe = to_device(keyframe[torch.randperm(count, generator=generator)], self.device)
        size = self._layout.rows[keyframe][:, 2:]
        u = to_device(torch.rand(count, 2, generator=generator), self.device)
        column_row = torch.minimum((u * size).long(), size - 1)
        if self.device.type != 'cuda':
            return self.gather(keyframe, column_row, only_usable=True)
        batch = self.gather(keyframe, column_row)
        return self._refilled(batch, column_row) if self._masked else batch

    def _refilled(self, batch: PixelBatch, column_row: Tensor) -> PixelBatch:
        """Puts usable pixels of a batch in the place of the others; NaN colours if there are none.

        The shapes do not depend on how many there are.
        """
        layout = self._layout.rows[batch.keyframe]
        usable = self._usable.rows[layout[:, 0] + column_row[:, 1] * layout[:, 2]
                                   + column_row[:, 0]]
        count = usable.sum()
        order = torch.argsort(usable.logical_not(), stable=True)    # usable ones come first
        numbers = torch.arange(len(order), device=self.device)
        batch = batch[order[numbers % count.clamp_min(1)]]
        return replace(batch, colors=torch.where(count > 0, batch.colors, float('nan')))

    def gather(self, keyframe: Tensor, column_row: Tensor, only_usable: bool = False) -> PixelBatch:
        """Returns the pixels (R, 2) (column, row) of keyframe rows (R,)."""
        layout = self._layout.rows[keyframe]
        at = column_row[:, 1] * layout[:, 2] + column_row[:, 0]
        if only_usable:
            keep = self._usable.rows[layout[:, 0] + at]
            keyframe, column_row, layout, at = (v[keep] for v in (keyframe, column_row, layout, at))
        pixel, pose = layout[:, 0] + at, self._poses.rows[keyframe]
        directions = self._directions.rows[layout[:, 1] + at]
        rays = Rays(pose[:, :, 3], (pose[:, :, :3] @ directions[..., None])[..., 0],
                    self._distance.rows[pixel])
        return PixelBatch(rays, keyframe, column_row + 0.5,
                          self._colors.rows[pixel].float() / 255, self._focal.rows[keyframe],
                          layout[:, 2:].float())

    def grid_of(self, row: int, count: int) -> PixelBatch:
        """Returns about `count` usable pixels of the keyframe in `row`, on a regular grid."""
        _, _, width, height = self._layout.rows[row].tolist()
        step = max(1, math.ceil(math.sqrt(width * height / count)))
        y, x = torch.meshgrid(torch.arange(step // 2, height, step),
                              torch.arange(step // 2, width, step), indexing='ij')
        column_row = torch.stack([x.reshape(-1), y.reshape(-1)], -1).to(self.device)
        keyframe = torch.full((len(column_row),), row, device=self.device)
        return self.gather(keyframe, column_row, only_usable=True)

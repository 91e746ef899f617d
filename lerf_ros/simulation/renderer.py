# SPDX-License-Identifier: Apache-2.0
"""Renders a scene by casting rays: image, z-depth and instances from the same cast, no GL.

One key light with shadows, ambient light with baked occlusion, highlights on glossy parts, and
four rays a pixel where a pixel lies on an edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.simulation.baked_light import LIFT, PlaneLight, openness
from lerf_ros.simulation.labels import label_names, part_labels
from lerf_ros.simulation.raycast import NOTHING, Hits, RayScene, dot
from lerf_ros.simulation.room import ROOM_HALF, TABLE_HEIGHT, TABLE_SIZE
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.textures import f32

SUBPIXELS = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])
OPENNESS_RAYS = 24


@dataclass(frozen=True)
class RenderedView:
    """image (H, W, 3) uint8 RGB; depth_m (H, W) float32 z-depth in metres, 0 where there is
    nothing; instance (H, W) int32, the index into scene.objects, -1 for the room; labels (H, W)
    int32, the index into labels.label_names(scene) at every pixel."""

    image: np.ndarray
    depth_m: np.ndarray
    instance: np.ndarray
    labels: np.ndarray


class SceneRenderer:
    """Renders views of one scene; holds its ray-casting structure and its baked light."""

    def __init__(self, scene: TabletopScene) -> None:
        self.scene = scene
        self.parts = list(scene.parts)
        # Rays that slip through a seam of the room end in the wall, as their neighbours do.
        names = label_names(scene)
        self.labels = np.append(part_labels(scene), np.int32(names.index('wall')))
        self.object_parts = len(self.parts) - len(scene.room)
        self.rays = RayScene(self.parts)
        self.object_openness = self._bake_openness()
        light, blocked = scene.light, self.rays.occluded
        half = (TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2)
        self.table_light = PlaneLight(TABLE_HEIGHT, half, 0.005, light, blocked)
        self.floor_light = PlaneLight(0.013, (ROOM_HALF, ROOM_HALF), 0.05, light, blocked)
        self._camera: PinholeCamera | None = None
        self._directions = np.zeros((0, 3), np.float32)

    def render(self, camera: PinholeCamera, T_world_camera: np.ndarray) -> RenderedView:
        """One view; `T_world_camera` (4, 4) has OpenCV axes."""
        size = (camera.height, camera.width)
        if camera != self._camera:
            directions = camera.directions(camera.pixel_grid().reshape(-1, 2))
            self._directions, self._camera = f32(directions / directions[:, 2:]), camera
        hits = self._cast(self._directions, T_world_camera)
        color = self._shade(hits, T_world_camera[:3, 3])
        edges = find_edges(hits, size)
        if len(edges):
            color[edges] = self._supersample(camera, T_world_camera, edges)
        depth = np.where(hits.part == NOTHING, 0, hits.t).astype(np.float32)
        labels = self.labels[hits.part].reshape(size)
        instance = np.where(labels < len(self.scene.objects), labels, np.int32(-1))
        return RenderedView(to_srgb(color).reshape(*size, 3), depth.reshape(size), instance, labels)

    def _cast(self, directions: np.ndarray, T: np.ndarray) -> Hits:
        """Rays whose length unit is one metre of z-depth, so that t is the z-depth."""
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3] = T[:3, 3]
        np.matmul(f32(directions), f32(T[:3, :3].T), out=rays[:, 3:])
        return self.rays.cast(rays)

    def _supersample(self, camera: PinholeCamera, T: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Mean colours (N, 3) of four rays through each of the pixels (N,)."""
        centres = np.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
        around = (centres[:, None] + SUBPIXELS).reshape(-1, 2)
        directions = camera.directions(around)
        hits = self._cast(directions / directions[:, 2:], T)
        return self._shade(hits, T[:3, 3]).reshape(-1, len(SUBPIXELS), 3).mean(1)

    def _shade(self, hits: Hits, eye: np.ndarray) -> np.ndarray:
        """Linear colours (N, 3) of hits seen from eye (3,)."""
        color = np.zeros((len(hits.t), 3), np.float32)
        order = np.argsort(hits.part, kind='stable')
        bounds = np.searchsorted(hits.part[order], np.arange(len(self.parts) + 1))
        lit = self._object_light(hits, order[:bounds[self.object_parts]])
        for index, part in enumerate(self.parts):
            pick = order[bounds[index]:bounds[index + 1]]
            if not len(pick):
                continue
            points, normals = hits.points[pick], hits.normals[pick]
            local = transform_points(f32(invert_pose(part.transform())), points)
            if index < self.object_parts:
                seen, open_ = (a[bounds[index]:bounds[index + 1]] for a in lit)
            else:
                seen, open_ = self._room_light(index - self.object_parts, points)
            albedo = part.color(local)
            color[pick] = self._reflect(albedo * albedo, part.gloss, points, normals, eye, seen,
                                        open_)
        return color

    def _object_light(self, hits: Hits, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Visibility of the lamp and openness, (N,) each, at hits on objects."""
        start = hits.points[pick] + 3e-4 * hits.normals[pick]
        rays = np.concatenate([start, f32(self.scene.light.position) - start], 1)
        blocked = self.rays.occluded(rays, np.full(len(pick), 0.999))
        corners = self.object_openness[hits.triangle[pick]]
        return (~blocked).astype(np.float32), dot(corners, hits.weights[pick])

    def _room_light(self, index: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for the room: table and floor have baked light, the rest sees the lamp."""
        if index == 0:
            return self.table_light.at(points)
        if index in (1, 5):
            return self.floor_light.at(points)
        return np.ones(len(points), np.float32), np.ones(len(points), np.float32)

    def _reflect(self, albedo: np.ndarray, gloss: float, points: np.ndarray, normals: np.ndarray,
                 eye: np.ndarray, seen: np.ndarray, open_: np.ndarray) -> np.ndarray:
        """Diffuse light, and on glossy parts the lamp's highlight and the bright ceiling."""
        light = self.scene.light
        to_light = f32(light.position) - points
        to_light /= np.sqrt(dot(to_light, to_light))[:, None]
        facing = np.maximum(dot(normals, to_light), 0) * seen
        sky = open_ * (0.72 + 0.28 * normals[:, 2])
        color = albedo * (facing[:, None] * f32(light.key)
                          + sky[:, None] * f32(light.ambient))
        if gloss:
            view = f32(eye) - points
            view /= np.sqrt(dot(view, view))[:, None]
            cosine = np.clip(dot(normals, view), 0, 1)
            mirrored = 2 * cosine[:, None] * normals - view
            highlight = np.clip(dot(mirrored, to_light), 0, 1) ** (20 + 180 * gloss)
            fresnel = 0.04 + 0.6 * (1 - cosine) ** 5
            ceiling = np.clip(mirrored[:, 2] * 1.5 - 0.2, 0, 1) * open_
            color += (gloss * (0.8 * highlight * seen + fresnel * ceiling))[:, None]
        return color

    def _bake_openness(self) -> np.ndarray:
        """Openness (T, 3) at the corners of all triangles of the objects."""
        count = self.rays.offsets[self.object_parts]
        points = self.rays.corners[:count].reshape(-1, 3)
        normals = self.rays.normals[:count].reshape(-1, 3)
        if not len(points):
            return np.zeros((0, 3), np.float32)
        keys = np.round(np.concatenate([points / 2e-3, normals * 4], 1)).astype(np.int32)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        points, normals = points[first], normals[first]
        values = openness(points + LIFT * normals, normals, self.rays.occluded, OPENNESS_RAYS)
        # A sheet's normal may point into what it covers; its other side is the one to see.
        dark = values < 0.1
        back = -normals[dark]
        values[dark] = np.maximum(values[dark], openness(
            points[dark] + LIFT * back, back, self.rays.occluded, OPENNESS_RAYS))
        return values[inverse.ravel()].reshape(-1, 3).astype(np.float32)


def find_edges(hits: Hits, size: tuple[int, int]) -> np.ndarray:
    """Indices (N,) of pixels beside which the part or, sharply, the normal changes."""
    part = hits.part.reshape(size)
    normals = hits.normals.reshape(*size, 3)
    edge = np.zeros(size, bool)
    for axis in (0, 1):
        a = (slice(None, -1), slice(None))[::1 if axis == 0 else -1]
        b = (slice(1, None), slice(None))[::1 if axis == 0 else -1]
        differs = (part[a] != part[b]) | (dot(normals[a], normals[b]) < 0.8)
        edge[a] |= differs
        edge[b] |= differs
    return np.flatnonzero(edge)


def to_srgb(color: np.ndarray) -> np.ndarray:
    """uint8 of linear colours; bright values are compressed, gamma is 2 on both sides."""
    bright = np.where(color > 0.8, 0.8 + 0.2 * np.tanh((color - 0.8) * 2.5), color)
    return (np.sqrt(np.clip(bright, 0, 1)) * 255 + 0.5).astype(np.uint8)

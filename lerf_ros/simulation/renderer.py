# SPDX-License-Identifier: Apache-2.0
"""Renders a scene by casting rays: image, z-depth and instances from the same rays, without GL.

There is one lamp with shadows, ambient light with baked occlusion, highlights on glossy parts, and
four rays for each pixel on an edge. Light that does not depend on the camera is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.simulation.raycast import NOTHING, Hits, RayScene, dot
from lerf_ros.simulation.scene import (
    Light,
    LitPlane,
    TabletopScene,
    label_names,
    part_labels,
)
from lerf_ros.simulation.textures import f32, sample

SUBPIXELS = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])
OPENNESS_RAYS = 24
LIFT = 1e-4   # metres above a surface where its light is computed
# Casts rays (N, 6), origin and direction, and returns which are blocked before `reach` (N,).
Occlusion = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RenderedView:
    """One rendered view.

    image: (H, W, 3) uint8 RGB. depth_m: (H, W) float32 z-depth in metres, 0 where there is nothing.
    instance: (H, W) int32, index into scene.objects, -1 for the room. labels: (H, W) int32, index
    into label_names(scene).
    """

    image: np.ndarray
    depth_m: np.ndarray
    instance: np.ndarray
    labels: np.ndarray


class SceneRenderer:
    """Renders views of one scene. It holds the ray-casting structure and the baked light."""

    def __init__(self, scene: TabletopScene) -> None:
        self.scene = scene
        self.parts = list(scene.parts)
        # Rays that slip through a seam of the room count as wall, like their neighbours.
        names = label_names(scene)
        self.labels = np.append(part_labels(scene), np.int32(names.index('wall')))
        self.object_parts = len(self.parts) - len(scene.room)
        self.rays = RayScene(self.parts)
        self.object_openness = self._bake_openness()
        baked = [(plane.parts, PlaneLight(plane, scene.light, self.rays.occluded))
                 for plane in scene.planes]
        self.plane_light = {part: light for parts, light in baked for part in parts}
        self._camera: PinholeCamera | None = None
        self._directions = np.zeros((0, 3), np.float32)

    def render(self, camera: PinholeCamera, T_world_camera: np.ndarray) -> RenderedView:
        """Renders one view. T_world_camera: (4, 4), OpenCV axes."""
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
        """Casts rays whose unit of length is one metre of z-depth, so that t is the z-depth."""
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3] = T[:3, 3]
        np.matmul(f32(directions), f32(T[:3, :3].T), out=rays[:, 3:])
        return self.rays.cast(rays)

    def _supersample(self, camera: PinholeCamera, T: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Returns the mean colours (N, 3) of four rays through each of the pixels (N,)."""
        centres = np.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
        around = (centres[:, None] + SUBPIXELS).reshape(-1, 2)
        directions = camera.directions(around)
        hits = self._cast(directions / directions[:, 2:], T)
        return self._shade(hits, T[:3, 3]).reshape(-1, len(SUBPIXELS), 3).mean(1)

    def _shade(self, hits: Hits, eye: np.ndarray) -> np.ndarray:
        """Returns the linear colours (N, 3) of hits seen from eye (3,)."""
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
        """Returns visibility of the lamp and openness, (N,) each, at hits on objects."""
        start = hits.points[pick] + 3e-4 * hits.normals[pick]
        rays = np.concatenate([start, f32(self.scene.light.position) - start], 1)
        blocked = self.rays.occluded(rays, np.full(len(pick), 0.999))
        corners = self.object_openness[hits.triangle[pick]]
        return (~blocked).astype(np.float32), dot(corners, hits.weights[pick])

    def _room_light(self, index: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the same for the room; only the light of its planes is baked."""
        if index in self.plane_light:
            return self.plane_light[index].at(points)
        return np.ones(len(points), np.float32), np.ones(len(points), np.float32)

    def _reflect(self, albedo: np.ndarray, gloss: float, points: np.ndarray, normals: np.ndarray,
                 eye: np.ndarray, seen: np.ndarray, open_: np.ndarray) -> np.ndarray:
        """Returns diffuse light, and on glossy parts reflections of the lamp and the ceiling."""
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
        """Returns the openness (T, 3) at the corners of all triangles of the objects."""
        count = self.rays.offsets[self.object_parts]
        points = self.rays.corners[:count].reshape(-1, 3)
        normals = self.rays.normals[:count].reshape(-1, 3)
        if not len(points):
            return np.zeros((0, 3), np.float32)
        keys = np.round(np.concatenate([points / 2e-3, normals * 4], 1)).astype(np.int32)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        points, normals = points[first], normals[first]
        values = openness(points + LIFT * normals, normals, self.rays.occluded, OPENNESS_RAYS)
        # The normal of a sheet may point into what it covers; then its other side is visible.
        dark = values < 0.1
        back = -normals[dark]
        values[dark] = np.maximum(values[dark], openness(
            points[dark] + LIFT * back, back, self.rays.occluded, OPENNESS_RAYS))
        return values[inverse.ravel()].reshape(-1, 3).astype(np.float32)


def find_edges(hits: Hits, size: tuple[int, int]) -> np.ndarray:
    """Returns the indices (N,) of pixels where the part changes, or the normal changes sharply."""
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
    """Converts linear colours to uint8: bright values are compressed, gamma is 2."""
    bright = np.where(color > 0.8, 0.8 + 0.2 * np.tanh((color - 0.8) * 2.5), color)
    return (np.sqrt(np.clip(bright, 0, 1)) * 255 + 0.5).astype(np.uint8)


def hemisphere(count: int) -> np.ndarray:
    """Returns directions (count, 3) about +z with the density of the cosine, for ambient light."""
    k = np.arange(count) + 0.5
    radius, angle = np.sqrt(k / count), k * 2.399963
    return np.stack([radius * np.cos(angle), radius * np.sin(angle),
                     np.sqrt(1 - radius * radius)], 1)


def disc(light: Light, count: int) -> np.ndarray:
    """Returns points (count, 3) on the round lamp, which faces down."""
    k = np.arange(count) + 0.5
    radius, angle = light.radius * np.sqrt(k / count), k * 2.399963
    offset = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], 1)
    return light.position + offset


def openness(points: np.ndarray, normals: np.ndarray, occluded: Occlusion, count: int,
             reach: float = 0.4) -> np.ndarray:
    """Returns the fraction (N,) of ambient light that reaches points (N, 3) with normals (N, 3)."""
    helper = np.where(np.abs(normals[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    x = np.cross(helper, normals)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    y = np.cross(normals, x)
    total = np.zeros(len(points))
    for d in hemisphere(count):
        direction = d[0] * x + d[1] * y + d[2] * normals
        rays = np.concatenate([points + 1e-3 * normals, direction], 1)
        total += ~occluded(rays, np.full(len(points), reach))
    return total / count


def visibility(points: np.ndarray, light: Light, occluded: Occlusion, count: int) -> np.ndarray:
    """Returns the fraction (N,) of the lamp that points (N, 3) see, for soft shadows."""
    total = np.zeros(len(points))
    for spot in disc(light, count):
        rays = np.concatenate([points, spot - points], 1)
        total += ~occluded(rays, np.full(len(points), 0.999))
    return total / count


class PlaneLight:
    """Visibility of the lamp and openness of a horizontal rectangle, as a picture."""

    def __init__(self, plane: LitPlane, light: Light, occluded: Occlusion) -> None:
        half, texel = np.asarray(plane.half), plane.texel
        columns, rows = (round(2 * h / texel) for h in half)
        self.corner = np.asarray(plane.center) - half
        x, y = np.meshgrid((np.arange(columns) + 0.5) * texel + self.corner[0],
                           (np.arange(rows) + 0.5) * texel + self.corner[1])
        points = np.stack([x, y, np.full_like(x, plane.height + LIFT)], -1).reshape(-1, 3)
        up = np.broadcast_to([0.0, 0.0, 1.0], points.shape)
        seen = visibility(points, light, occluded, 12).reshape(rows, columns)
        open_ = openness(points, up, occluded, 20).reshape(rows, columns)
        # Few rays per texel are noisy. The blur is finer than the penumbra.
        self.picture = np.dstack([cv2.GaussianBlur(a.astype(np.float32), (0, 0), 0.8)
                                  for a in (seen, open_)])
        self.corner, self.texel = f32(self.corner), f32(texel)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns visibility of the lamp and openness, (N,) each, at world points (N, 3)."""
        xy = (points[:, :2] - self.corner) / self.texel - f32(0.5)
        values = sample(self.picture, xy)
        return values[:, 0], values[:, 1]

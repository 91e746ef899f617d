# SPDX-License-Identifier: Apache-2.0
"""What the page shows in 3D: the cloud, the hits, the grasp and the keyframes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.posed_folder import FrameEntry
from lerf_ros.frames.captures.transforms_json import posed_images
from lerf_ros.frames.image_files import read_color
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.up_direction import UpDirection, up_of_cameras
from lerf_ros.query.answer import Answer, Hit, in_frame
from lerf_ros.show.colors import answer_colors, level_colors
from lerf_ros.show.outlines import box_outline, frustum_depth, target_outline
from lerf_ros.show.words import label_text

if TYPE_CHECKING:
    import viser

MAX_KEYFRAMES = 60
THUMBNAIL_PX = 160      # pixels: longer side
BOX_LINE_PX, GRIPPER_LINE_PX = 2.5, 4.0
GRIPPER_COLOR, KEYFRAME_COLOR = (20, 200, 70), (90, 110, 160)
POINT_SIZE = 2.0        # times the median distance to the nearest point, so surfaces look closed
SPACING_POINTS = 4000   # points that this distance is measured at
SMALLEST = 1e-4
# The page is centred anew when the middle of the map moves by more than so many world units: a
# browser computes in single precision, which is no longer exact to millimetres there.
FAR = 1000.0
KEYFRAME_SCALE = 0.4    # relative to markers, because the pictures of keyframes hide things
SPLAT_NEIGHBOURS = 9    # points that a splat's plane is fitted to, itself among them
SPLAT_REACH, SPLAT_THICKNESS = 0.55, 0.15   # standard deviations, times the points' spacing
# How the surface is drawn: as round dots, as flat discs, or not at all, since the field is behind.
DOTS, DISCS, NO_SURFACE = 'points', 'surface', 'none'


class MapDrawing:
    """Draws answers for one browser. The newest answer replaces the previous one."""

    def __init__(self, place: viser.ViserServer | viser.ClientHandle) -> None:
        """place: the browser; the server draws for all of them."""
        self._scene, self._atomic = place.scene, place.atomic
        self.up: UpDirection = up_of_cameras(np.zeros((0, 4, 4)))
        self._entries: list[FrameEntry] = []
        self._cloud: viser.PointCloudHandle | None = None
        self._discs: viser.GaussianSplatHandle | None = None
        self._planes = (b'', np.zeros((0, 3, 3)))   # covariances of the splats of these points
        self.surface, self._enlarged = DOTS, 1.0
        self._keyframes: dict[str, viser.CameraFrustumHandle] = {}
        self.poses: list[np.ndarray] = []   # T_world_camera (4, 4) of the keyframes shown
        self.cameras: list[PinholeCamera] = []      # theirs
        self.origin: np.ndarray | None = None   # (3,) world: the page's own origin

    def center_on(self, answer: Answer) -> None:
        """Moves the page's origin to the middle of the map, unless it is near already."""
        points = answer.points_world
        middle = np.round(np.median(points, axis=0)) if len(points) else np.zeros(3)
        if self.origin is None or np.abs(middle - self.origin).max() > FAR:
            self.origin = middle
            for handle in self._keyframes.values():
                handle.remove()
            self._keyframes = {}

    def place(self, points_world: np.ndarray) -> np.ndarray:
        """Returns world points (..., 3) in the coordinates of the page."""
        return points_world if self.origin is None else points_world - self.origin

    def draw(self, answer: Answer, plain: bool = False) -> None:
        """Shows an answer. plain: shows the surface in its own colours, without hits."""
        T_page_world = np.eye(4)
        T_page_world[:3, 3] = self.place(np.zeros(3))
        answer = in_frame(answer, T_page_world, answer.frame_id)
        with self._atomic():
            self._draw_cloud(answer, plain)
            # Removing the frame removes the hits of the previous answer below it.
            self._scene.add_frame('/answer', show_axes=False).remove()
            self._scene.add_frame('/answer', show_axes=False)
            if not plain:
                self._draw_hits(answer)
                self._draw_gripper(answer)

    def _draw_cloud(self, answer: Answer, plain: bool) -> None:
        points = np.asarray(answer.points_world, np.float64)
        # Coordinates near 0 stay exact in the single precision of a browser.
        center = points.mean(0) if len(points) else np.zeros(3)
        colors = cloud_colors(answer, plain)
        self._cloud = self._scene.add_point_cloud(
            '/cloud', (points - center).astype(np.float32), colors,
            point_size=self._enlarged * point_size(points), point_shape='rounded',
            precision='float32', point_shading='flat', position=tuple(center),
            visible=self.surface == DOTS)
        if self._discs is not None:
            self._discs.remove()
            self._discs = None
        if self.surface == DISCS and len(points) >= SPLAT_NEIGHBOURS:
            self._discs = self._scene.add_gaussian_splats(
                '/discs', (points - center).astype(np.float32), self._splats(points - center),
                colors / np.float32(255), np.ones((len(points), 1), np.float32),
                position=tuple(center))

    def _splats(self, points: np.ndarray) -> np.ndarray:
        """Returns the covariances (N, 3, 3) of points (N, 3), those of the answer before if equal.
        """
        key = points.tobytes()
        if self._planes[0] != key:
            self._planes = key, splat_covariances(points)
        return self._planes[1]

    def _draw_hits(self, answer: Answer) -> None:
        colors = level_colors(np.array([hit.relevancy for hit in answer.hits]), answer.relevancy)
        for number, (hit, color) in enumerate(zip(answer.hits, colors)):
            self._scene.add_line_segments(
                f'/answer/{number}/box', box_outline(hit).astype(np.float32), tuple(color),
                thickness=BOX_LINE_PX, thickness_units='screen')
            self._scene.add_label(
                f'/answer/{number}/label', label_text(hit, hit.label or answer.text),
                position=tuple(above(hit, self.up.direction).tolist()), anchor='bottom-center')

    def _draw_gripper(self, answer: Answer) -> None:
        segments = target_outline(answer)
        if len(segments):
            self._scene.add_line_segments(
                '/answer/gripper', segments.astype(np.float32), GRIPPER_COLOR,
                thickness=GRIPPER_LINE_PX, thickness_units='screen')

    def read_keyframes(self, map_directory: Path) -> None:
        """Reads the poses of the map's photographs, which tell where up is."""
        try:
            self._entries = posed_images(map_directory, MAX_KEYFRAMES)
        except DatasetError:
            self._entries = []      # the map was copied without its photographs
        self.poses = [entry.T_world_camera for entry in self._entries]
        self.cameras = [entry.camera for entry in self._entries]
        self.up = up_of_cameras(np.array(self.poses).reshape(-1, 4, 4))
        self._scene.set_up_direction(self.up.direction)

    def show_keyframes(self, visible: bool) -> None:
        """Shows the map's photographs where they were taken, or hides them.

        Those on display stay. Unreadable ones are left out.
        """
        entries = self._entries if visible else []
        names = {f'/keyframes/{Path(entry.image_path.name).stem}': entry for entry in entries}
        with self._atomic():
            for name in set(self._keyframes) - set(names):
                self._keyframes.pop(name).remove()
        depth = KEYFRAME_SCALE * frustum_depth(np.array(self.poses)[:, :3, 3]) if entries else 0.0
        for name in [name for name in names if name not in self._keyframes]:
            self._keyframes[name] = self._draw_keyframe(name, names[name], depth)

    def _draw_keyframe(self, name: str, entry: FrameEntry,
                       depth: float) -> viser.CameraFrustumHandle:
        camera, T = entry.camera, entry.T_world_camera
        return self._scene.add_camera_frustum(
            name, fov=2 * float(np.arctan(camera.height / 2 / camera.fy)),
            aspect=camera.width / camera.height, scale=depth, color=KEYFRAME_COLOR,
            thickness=1.5, thickness_units='screen', image=thumbnail(entry), format='jpeg',
            wxyz=tuple(np.roll(Rotation.from_matrix(T[:3, :3]).as_quat(), 1)),
            position=tuple(self.place(T[:3, 3])))

    def enlarge_points(self, factor: float) -> None:
        """Draws points larger, by this factor, than what closes the gaps between them."""
        if self._cloud is not None:
            self._cloud.point_size *= factor / self._enlarged
        self._enlarged = factor


def above(hit: Hit, up: np.ndarray) -> np.ndarray:
    """Returns the point (3,) over the middle of a hit, at the height of the top of its box."""
    heights = (box_outline(hit).reshape(-1, 3) - hit.position) @ up
    return np.asarray(hit.position + heights.max() * up)


def cloud_colors(answer: Answer, plain: bool) -> np.ndarray:
    """Returns colours (N, 3) uint8: the paper's, or one for each phrase where there are several."""
    if plain:
        return np.asarray(answer.colors, np.uint8)
    return answer_colors(answer)


def thumbnail(entry: FrameEntry) -> np.ndarray | None:
    """Returns a thumbnail (h, w, 3) uint8 RGB of a keyframe; None where it cannot be read."""
    try:
        image = read_color(entry.image_path)
    except DatasetError:
        return None
    ratio = min(THUMBNAIL_PX / max(image.shape[:2]), 1.0)
    size = max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def splat_covariances(points: np.ndarray) -> np.ndarray:
    """Returns the covariances (N, 3, 3) float32 of flat discs that close a surface of points.

    points (N, 3). Each disc lies in the plane of its nearest neighbours, and reaches to them.
    """
    distance, near = cKDTree(points).query(points, k=SPLAT_NEIGHBOURS)
    offsets = points[near] - points[near].mean(1, keepdims=True)          # (N, k, 3)
    _, axes = np.linalg.eigh(np.einsum('nki,nkj->nij', offsets, offsets))
    # The middle neighbour, so that a stray point makes no huge disc.
    spacing = np.minimum(distance[:, SPLAT_NEIGHBOURS // 2],
                         3 * np.median(distance[:, SPLAT_NEIGHBOURS // 2]))
    deviations = spacing[:, None] * [SPLAT_THICKNESS, SPLAT_REACH, SPLAT_REACH]
    return np.einsum('nij,nj,nkj->nik', axes, deviations ** 2, axes).astype(np.float32)


def point_size(points_world: np.ndarray) -> float:
    """Returns the diameter, world units, that closes the gaps between most points (N, 3)."""
    if len(points_world) < 2:
        return SMALLEST
    step = max(len(points_world) // SPACING_POINTS, 1)
    distance, _ = cKDTree(points_world).query(points_world[::step], k=2)
    return max(POINT_SIZE * float(np.median(distance[:, 1])), SMALLEST)

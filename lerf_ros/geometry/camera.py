# SPDX-License-Identifier: Apache-2.0
"""The camera model (pinhole or fisheye) and the conventions for axes of the whole package.

A camera frame is OpenCV's and REP-103's optical frame: x right, y down, z forward.
`T_world_camera` (4, 4) maps camera coordinates to world coordinates. The centre of the pixel in
column i and row j is at (i + 0.5, j + 0.5). Other conventions are converted on input, with
`opengl_to_opencv` for nerfstudio files; ROS optical frames need no conversion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.errors import FrameError

# Newton's method doubles the correct digits with each step; nerfstudio takes ten steps too.
UNDISTORT_STEPS = 10
OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
PINHOLE, FISHEYE = 'pinhole', 'fisheye'
COEFFICIENTS = 14       # of a pinhole camera's lens, at most
LEAST_FORWARD = 1e-3    # z component of a unit viewing direction along which z-depth is a measure


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics in pixels, and the distortion of the lens.

    model `pinhole`: OpenCV's distortion (k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x,
    tau_y): a rational polynomial, a thin prism and a tilted sensor. It covers ROS' `plumb_bob`
    (k1 k2 p1 p2 k3) and `rational_polynomial` (the first 8 to 14, in the same order) and
    nerfstudio's OPENCV (k1 k2 p1 p2). model `fisheye`: distortion (k1, k2, k3, k4) of Kannala and
    Brandt's equidistant lens, which is ROS' `equidistant`, OpenCV's `cv2.fisheye` and nerfstudio's
    OPENCV_FISHEYE; pixels may look sideways and backwards. Raises FrameError for impossible values.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: str = PINHOLE

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise FrameError(f'camera of {self.width}x{self.height} pixels: both must be positive')
        if not (self.fx > 0 and self.fy > 0):
            raise FrameError(
                f'focal lengths fx={self.fx}, fy={self.fy}: both must be positive; '
                'an uncalibrated camera publishes zeros in camera_info')
        if not np.isfinite([self.fx, self.fy, self.cx, self.cy, *self.distortion]).all():
            raise FrameError('the intrinsics of the camera are not finite numbers')
        most = {PINHOLE: COEFFICIENTS, FISHEYE: 4}.get(self.model)
        if most is None:
            raise FrameError(f'camera model {self.model!r}: pinhole or fisheye')
        if len(self.distortion) > most:
            raise FrameError(f'{len(self.distortion)} distortion coefficients: at most {most} are '
                             f'known of a {self.model} lens')

    def directions(self, pixels: np.ndarray) -> np.ndarray:
        """Computes unit viewing directions (N, 3), camera frame, of pixel positions (N, 2)."""
        pixels = np.asarray(pixels, np.float64)
        x = (pixels[..., 0] - self.cx) / self.fx
        y = (pixels[..., 1] - self.cy) / self.fy
        if self.model == FISHEYE:
            return self._fisheye_directions(x, y)
        if any(self.distortion):
            x, y = self._undistort(x, y)
        d = np.stack([x, y, np.ones_like(x)], -1)
        return d / np.linalg.norm(d, axis=-1, keepdims=True)

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        """Projects points (N, 3) in the camera frame to pixel positions (N, 2).

        The result is NaN for points behind a pinhole camera or outside the view of a fisheye lens.
        """
        p = np.asarray(points_camera, np.float64)
        if self.model == FISHEYE:
            return self._fisheye_project(p)
        z = np.where(p[..., 2] > 1e-9, p[..., 2], np.nan)
        x, y = self._distort(p[..., 0] / z, p[..., 1] / z)
        return np.stack([x * self.fx + self.cx, y * self.fy + self.cy], -1)

    def back_project(self, pixels: np.ndarray,
                     z_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes the points in the camera frame that pixels at known depths show.

        Takes pixel positions (N, 2) and z-depths (N,), 0 or NaN where unknown. Returns the points
        (M, 3) in the unit of the depths, and which pixels they belong to, (N,) bool: those with a
        depth, except where a fisheye looks sideways, where no z-depth tells the distance.
        """
        directions = self.directions(pixels)
        known = np.isfinite(z_depth) & (z_depth > 0) & (directions[:, 2] > LEAST_FORWARD)
        directions = directions[known]
        return directions * (z_depth[known] / directions[:, 2])[:, None], known

    def seen_through_lens(self, pixels: np.ndarray) -> np.ndarray:
        """Returns which pixel positions (N, 2) the lens exposes to light, (N,) bool.

        A fisheye lens leaves the corners dark; a pinhole camera has no dark pixels.
        """
        pixels = np.asarray(pixels, np.float64)
        if self.model != FISHEYE:
            return np.ones(pixels.shape[:-1], bool)
        radius = np.hypot((pixels[..., 0] - self.cx) / self.fx,
                          (pixels[..., 1] - self.cy) / self.fy)
        lens = FisheyeLens(self.distortion)
        return radius <= lens.radius(np.asarray(lens.end))

    def resized(self, width: int, height: int) -> PinholeCamera:
        """Returns the camera for images that are resized to width x height pixels."""
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy,
                       cx=self.cx * sx, cy=self.cy * sy)

    def pixel_grid(self) -> np.ndarray:
        """Returns the centres of all pixels, (H, W, 2), x before y."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return np.stack([x, y], -1)

    def _fisheye_project(self, p: np.ndarray) -> np.ndarray:
        across = np.hypot(p[..., 0], p[..., 1])
        angle = np.arctan2(across, p[..., 2])
        lens = FisheyeLens(self.distortion)
        radius = np.where((angle <= lens.end) & ((across > 0) | (p[..., 2] > 0)),
                          lens.radius(angle), np.nan)
        scale = np.where(across > 0, radius / np.where(across > 0, across, 1.0), radius)
        return np.stack([p[..., 0] * scale * self.fx + self.cx,
                         p[..., 1] * scale * self.fy + self.cy], -1)

    def _fisheye_directions(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        radius = np.hypot(x, y)
        angle = FisheyeLens(self.distortion).angle(radius)
        across = np.sin(angle) / np.where(radius > 0, radius, 1.0)
        return np.stack([x * across, y * across, np.cos(angle)], -1)

    def _coefficients(self) -> np.ndarray:
        return np.pad(np.asarray(self.distortion, np.float64),
                      (0, COEFFICIENTS - len(self.distortion)))

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, *tilt = self._coefficients()
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
        yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
        return tilted(xd, yd, *tilt) if any(tilt) else (xd, yd)

    def _undistort(self, xd: np.ndarray, yd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inverts the distortion by Newton's method, with a Jacobian by central differences."""
        x, y, h = xd.copy(), yd.copy(), 1e-6
        for _ in range(UNDISTORT_STEPS):
            fx, fy = self._distort(x, y)
            ax, ay = self._distort(x + h, y)
            bx, by = self._distort(x - h, y)
            cx, cy = self._distort(x, y + h)
            dx, dy = self._distort(x, y - h)
            j11, j21, j12, j22 = ax - bx, ay - by, cx - dx, cy - dy
            determinant = (j11 * j22 - j12 * j21) / (2 * h)
            # At a fold the lens model has no inverse: keep the estimate instead of dividing by 0.
            determinant = np.where(np.abs(determinant) < 1e-12, np.inf, determinant)
            ex, ey = fx - xd, fy - yd
            x = x - (j22 * ex - j12 * ey) / determinant
            y = y - (j11 * ey - j21 * ex) / determinant
        return x, y


def tilted(x: np.ndarray, y: np.ndarray, tau_x: float,
           tau_y: float) -> tuple[np.ndarray, np.ndarray]:
    """Computes where rays at (x, y), for focal length 1, meet a tilted sensor.

    tau_x, tau_y: rotations about the sensor's x and y axes, radians (OpenCV's tilted sensor, after
    Scheimpflug).
    """
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array(
        [[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    onto = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]]) @ turn
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in onto)
    return u / w, v / w


class FisheyeLens:
    """The radius in the image as a function of the angle from the axis (Kannala, Brandt, 2006).

    radius = angle (1 + k1 angle^2 + k2 angle^4 + k3 angle^6 + k4 angle^8), for focal length 1. Its
    domain ends at the angle `end` where the radius stops growing, at most pi.
    """

    def __init__(self, distortion: tuple[float, ...]) -> None:
        k = np.zeros(4)
        k[:len(distortion)] = distortion
        self._radius = np.polynomial.Polynomial([1.0, *k])
        self._slope = np.polynomial.Polynomial([1.0, *(k * (3, 5, 7, 9))])    # over angle^2
        turns = self._slope.roots()
        turns = turns[(np.abs(turns.imag) < 1e-9) & (turns.real > 0)].real
        self.end = min(np.pi, float(np.sqrt(turns.min(initial=np.inf))))

    def radius(self, angle: np.ndarray) -> np.ndarray:
        """Computes the radii of rays with these angles, radians."""
        return angle * self._radius(angle * angle)

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Computes the angles, radians, of these radii by Newton's method, clamped to `end`."""
        # A table gives the start, because a strong lens is far from linear.
        steps = np.linspace(0.0, self.end, 257)
        angle = np.interp(radius, self.radius(steps), steps)
        for _ in range(UNDISTORT_STEPS):
            slope = np.maximum(self._slope(angle * angle), 1e-6)
            angle = np.clip(angle - (self.radius(angle) - radius) / slope, 0.0, self.end)
        return angle


def opengl_to_opencv(T_world_camera: np.ndarray) -> np.ndarray:
    """Converts a pose (4, 4) with OpenGL axes (x right, y up, z back; nerfstudio) to OpenCV's."""
    return np.asarray(T_world_camera, np.float64) @ OPENGL_TO_OPENCV


def depth_to_points(camera: PinholeCamera, depth: np.ndarray, valid: np.ndarray | None, step: int,
                    first: int = 0) -> np.ndarray:
    """Computes points (N, 3) in the camera frame from every step-th pixel of a depth image.

    depth: (H, W) z-depths, 0 or NaN where unknown; the points have its unit. valid: (H, W) bool,
    False for pixels to leave out, or None. first: row and column of the first pixel that is taken.
    """
    taken = np.s_[first::step, first::step]
    z_depth = depth[taken] if valid is None else np.where(valid[taken], depth[taken], 0)
    return camera.back_project(camera.pixel_grid()[taken].reshape(-1, 2), z_depth.reshape(-1))[0]


def nearest_to_axes(T_world_cameras: np.ndarray) -> tuple[np.ndarray, float]:
    """Computes the point (3,) nearest to all optical axes of poses (M, 4, 4), by least squares.

    Also returns the condition number of the system: large where the axes are nearly parallel and
    meet nowhere. The point is then the one of least norm on their way.
    """
    origins, axes = T_world_cameras[:, :3, 3], T_world_cameras[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]        # (M, 3, 3)
    system, right = across.sum(0), (across @ origins[:, :, None]).sum(0)[:, 0]
    return np.linalg.lstsq(system, right, rcond=None)[0], float(np.linalg.cond(system))


def transform_points(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a rigid transform (4, 4) to points (..., 3)."""
    return points @ T[:3, :3].T + T[:3, 3]


def invert_pose(T: np.ndarray) -> np.ndarray:
    """Returns the inverse of a rigid transform (4, 4)."""
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse

# SPDX-License-Identifier: Apache-2.0
"""The cameras of LERF's localization labels: `keyframes.json`, a path of nerfstudio's viewer.

The file has `render_width` and `render_height` in pixels and `keyframes`. Each keyframe has a
`matrix` (camera to scene, OpenGL axes, sixteen numbers column by column, as text) and the vertical
field of view in degrees (`fov`, or the first pair of `properties`, which is text as well). There is
no distortion, and the principal point is the centre of the image.

The matrices are in nerfstudio's training frame: the mean up direction of the cameras is turned to
+z, the mean camera is moved to the origin, and coordinates are divided by the largest one of any
camera, over all images of transforms.json. `world_view` converts back to the frame of that file.

Uncertain: the files were not available. Layout and frame follow two public evaluations that read
them, and the normalisation is nerfstudio's default, which the authors presumably kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.evaluation.labels import read_json_object
from lerf_ros.geometry.camera import PinholeCamera, opengl_to_opencv


@dataclass(frozen=True)
class KeyframeView:
    """A camera and its pose (4, 4), OpenCV axes, in the training frame or in the world."""

    camera: PinholeCamera
    T_scene_camera: np.ndarray


@dataclass(frozen=True)
class Normalisation:
    """nerfstudio's training frame: x_scene = scale * (R x_world + t), T holds R and t (4, 4)."""

    T: np.ndarray
    scale: float


def read_keyframes(path: str | Path) -> tuple[KeyframeView, ...]:
    """Reads the views of keyframes.json in order, in nerfstudio's training frame.

    Raises DatasetError that says what is wrong with the file.
    """
    path = Path(path)
    content = read_json_object(path)
    frames = content.get('keyframes')
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f'{path} has no list of keyframes')
    try:
        width, height = int(content['render_width']), int(content['render_height'])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f'{path} needs render_width and render_height in pixels') from error
    return tuple(parse_keyframe(f'{path}: keyframe {i}', frame, width, height)
                 for i, frame in enumerate(frames))


def parse_keyframe(where: str, frame: dict[str, Any], width: int,
                   height: int) -> KeyframeView:
    """Parses one entry of the list."""
    try:
        matrix = np.array(as_json(frame['matrix']), np.float64).reshape(4, 4).T
        fov = frame.get('fov')
        fov = float(as_json(frame['properties'])[0][1] if fov is None else fov)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f'{where} needs a matrix of sixteen numbers and fov or properties '
                           f'({type(error).__name__}: {error})') from error
    if not 0 < fov < 180 or not np.isfinite(matrix).all():
        raise DatasetError(f'{where} has no finite matrix or a field of view of {fov} degrees')
    focal = height / 2 / math.tan(math.radians(fov) / 2)
    camera = PinholeCamera(width, height, focal, focal, width / 2, height / 2)
    return KeyframeView(camera, opengl_to_opencv(matrix))


def as_json(value: Any) -> Any:
    """Decodes a value that the viewer wrote as JSON inside of JSON."""
    return json.loads(value) if isinstance(value, str) else value


def nerfstudio_normalisation(poses: Sequence[np.ndarray]) -> Normalisation:
    """Returns the training frame for the poses T_world_camera (4, 4), OpenCV axes, of all images.

    It is nerfstudio's default: orientation `up`, centre `poses`, automatic scale.
    """
    T = np.stack([np.asarray(pose, np.float64) for pose in poses])
    R = rotation_between(-T[:, :3, 1].mean(0), np.array([0.0, 0.0, 1.0]))    # OpenCV's y is down
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, -R @ T[:, :3, 3].mean(0)
    largest = np.abs(T[:, :3, 3] @ R.T + matrix[:3, 3]).max()
    return Normalisation(matrix, 1.0 / float(largest) if largest > 0 else 1.0)


def world_view(view: KeyframeView, frame: Normalisation) -> KeyframeView:
    """Converts a view from the training frame to the world of the folder's poses."""
    pose = np.array(view.T_scene_camera)
    pose[:3, 3] /= frame.scale
    return replace(view, T_scene_camera=np.linalg.inv(frame.T) @ pose)


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the smallest rotation (3, 3) that turns direction a (3,) into direction b (3,)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:    # opposite: half a turn about any perpendicular axis
        axis = np.cross(a, np.eye(3)[np.abs(a).argmin()])
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    v = np.cross(a, b)
    K = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + K + K @ K / (1 + cosine)

# SPDX-License-Identifier: Apache-2.0
"""The axes of Apple's ARKit, in which Polycam and Record3D write poses."""

from __future__ import annotations

import numpy as np

from lerf_ros.camera import opengl_to_opencv

# ARKit's world has y up. As nerfstudio does, z becomes up: (x, y, z) -> (z, x, y).
Z_UP = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def from_arkit(T_arkit_camera: np.ndarray) -> np.ndarray:
    """T_world_camera (4, 4), z up and OpenCV axes, of ARKit's pose, y up and OpenGL axes."""
    return Z_UP @ opengl_to_opencv(T_arkit_camera)

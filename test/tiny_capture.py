# SPDX-License-Identifier: Apache-2.0
"""Captures of a few tiny images with known poses, for the tests of their readers."""

import json

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

WIDTH, HEIGHT = 20, 16
INTRINSICS = {'w': WIDTH, 'h': HEIGHT, 'fl_x': 22.0, 'fl_y': 23.0, 'cx': 10.5, 'cy': 7.5}
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def true_pose(number):
    """T_world_camera (4, 4), OpenCV axes, of the image of this number; all differ."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('xyz', [0.3 + number, -0.2, 0.1 * number]).as_matrix()
    T[:3, 3] = [number, 2.0 - number, 0.5]
    return T


def color(number):
    """(H, W, 3) uint8 BGR, another one for each number."""
    return np.full((HEIGHT, WIDTH, 3), (40 + 20 * number, 90, 200 - 10 * number), np.uint8)


def write_capture(folder, count=3, change=lambda frame, number: None, **fields):
    """A nerfstudio folder; `change` edits each frame after its image was written."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    frames = []
    for number in range(count):
        frame = {'file_path': f'images/{number:03d}.png',
                 'transform_matrix': (true_pose(number) @ OPENGL).tolist()}
        cv2.imwrite(str(folder / frame['file_path']), color(number))
        change(frame, number)
        frames.append(frame)
    content = {**INTRINSICS, **fields, 'frames': frames}
    (folder / 'transforms.json').write_text(json.dumps(
        {key: value for key, value in content.items() if value is not None}))
    return folder


def blue(frame):
    """The blue value of a frame of one colour, which tells the images apart."""
    return int(frame.image[0, 0, 2])

# SPDX-License-Identifier: Apache-2.0
"""Where the scene is, from poses alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lerf_ros.config import LerfConfig
from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame, measure_from_focus
from lerf_ros.storage.map_directory import scene_as_json, scene_of
from lerf_ros.training.scene_measurement import measure_scene

TARGET = np.array([10.0, -3, 2])


def looking_at_target(distance, yaw):
    """A camera (4, 4) at this distance from the target, which it looks at."""
    T = np.eye(4)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    T[:3, :3] = np.stack([[np.sin(yaw), -np.cos(yaw), 0], [0, 0, -1], forward], 1)
    T[:3, 3] = TARGET - distance * forward
    return T


@pytest.mark.parametrize('diagonal, radius', [(0.25, 1.0), (1.0, 4.0), (3.0, 4.0)])
def test_the_radius_is_what_images_show_and_at_most_the_distance(diagonal, radius):
    poses = [looking_at_target(4.0, yaw) for yaw in (0, 1, 2, 3)]
    scene = measure_from_focus(poses, diagonal)
    assert scene.center == pytest.approx(TARGET) and scene.radius == pytest.approx(radius)


def test_a_long_lens_makes_a_small_scene():
    # 8 and 6 pixels, 50 pixels away: a fifth of the distance from corner to corner.
    camera = PinholeCamera(8, 6, 50.0, 50.0, 4.0, 3.0)
    frames = [Frame(k, np.zeros((6, 8, 3), np.uint8), camera, looking_at_target(20.0, k))
              for k in range(4)]
    scene = measure_scene(frames, LerfConfig())
    assert scene.radius == pytest.approx(4.0) and scene.center == pytest.approx(TARGET)


def test_space_is_skipped_only_without_depth():
    camera, skipping = PinholeCamera(8, 6, 5.0, 5.0, 4.0, 3.0), LerfConfig().override(
        {'field.skipped': 0.3})
    blind = [Frame(k, np.zeros((6, 8, 3), np.uint8), camera, looking_at_target(4.0, k))
             for k in range(4)]
    assert measure_scene(blind, skipping).skipped == 0.3
    seeing = [replace(frame, depth_m=np.full((6, 8), 2.0, np.float32)) for frame in blind]
    assert measure_scene(seeing, skipping).skipped == 0.0
    # One with depth is enough: a map would lose what stands right before its camera.
    assert measure_scene([*blind[1:], seeing[0]], skipping).skipped == 0.0


def test_a_map_keeps_its_scene_frame():
    scene = SceneFrame((1.5, -2.0, 1e6), 0.3, 0.5)
    assert scene_of({'scene': json.loads(json.dumps(scene_as_json(scene)))}) == scene
    older = {'scene': {'center': [1.5, -2.0, 1e6], 'radius': 0.3}}
    assert scene_of(older) == SceneFrame((1.5, -2.0, 1e6), 0.3, 0.0)

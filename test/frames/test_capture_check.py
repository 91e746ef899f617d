# SPDX-License-Identifier: Apache-2.0
"""Captures that show nothing, or from which no depth follows, are refused before training."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tiny_world import look_at, orbit, photograph

from lerf_ros.config import CheckConfig, KeyframeConfig, LerfConfig
from lerf_ros.errors import ContradictionError
from lerf_ros.frames import capture_check
from lerf_ros.frames.capture_check import check_folder, in_one_place, require_depth
from lerf_ros.frames.captures.load import load_folder
from lerf_ros.frames.captures.posed_folder import FrameEntry
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.frames.selection import EMPTY, KeyframeSelector, is_empty
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.storage.map_directory import MapDirectory

CONFIG = LerfConfig()


def write(path, frames):
    directory = MapDirectory(path, True)
    for i, frame in enumerate(frames):
        directory.keyframes.add(Keyframe(i, frame))
    directory.keyframes.write_transforms()
    return path


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp('good'), [photograph(T, i) for i, T in
                                                   enumerate(orbit(8))])


def blacken(folder, path, numbers):
    shutil.copytree(folder, path)
    for number in numbers:
        image = sorted((path / 'images').iterdir())[number]
        cv2.imwrite(str(image), np.zeros((72, 96, 3), np.uint8))
    return load_folder(path)


def test_a_good_folder_is_taken_whole_with_its_fit(good):
    folder, notes = check_folder(load_folder(good), CONFIG)
    assert len(folder.frames) == 8 and len(notes) == 1 and 'fit of poses' in notes[0]


def test_black_images_are_left_out_by_name(good, tmp_path):
    folder, notes = check_folder(blacken(good, tmp_path / 'half', (1, 3, 5, 7)), CONFIG)
    assert len(folder.frames) == len(folder.names) == 4
    assert '4 of 8 images are of one shade' in notes[0] and '000001' in notes[0]
    assert all(frame.image.any() for frame in folder.frames)


def test_nothing_but_black_images_is_refused(good, tmp_path):
    with pytest.raises(ContradictionError, match=r'all 8 images are of one shade.*lens'):
        check_folder(blacken(good, tmp_path / 'all', range(8)), CONFIG)


@pytest.mark.parametrize(('poses', 'words'), [
    (orbit(1), 'one image'), (12 * orbit(1), 'all 12 images are from one place'),
    ([look_at(np.array([0, 0, 0.8]), np.array([0.45 * np.cos(a), 0.45 * np.sin(a), 0]))
      for a in range(6)], 'all 6 images are from one place')])
def test_without_depth_one_place_is_refused_and_with_depth_it_is_not(tmp_path, poses, words):
    frames = [photograph(T, i) for i, T in enumerate(poses)]
    blind = write(tmp_path / 'blind', [replace(frame, depth_m=None) for frame in frames])
    with pytest.raises(ContradictionError, match=words):
        check_folder(load_folder(blind), CONFIG)
    folder, _ = check_folder(load_folder(write(tmp_path / 'deep', frames)), CONFIG)
    assert len(folder.frames) == len(poses)


def test_one_place_is_one_wherever_the_map_frame_is():
    utm = np.array([388096.0, 5948996.0, 50.0])
    assert in_one_place(np.stack([utm, utm + 1e-4]))        # a float's rounding there
    assert in_one_place(np.zeros((3, 3)))
    assert not in_one_place(np.array([[0.0, 0, 0], [0.05, 0, 0]]))


def spots(T):
    """A wall of random spots at z = 2, as a pinhole camera at T sees it, without depth."""
    camera = PinholeCamera(160, 120, 160.0, 160.0, 80.0, 60.0)
    rng, image = np.random.default_rng(0), np.full((120, 160, 3), 120, np.uint8)
    points = np.concatenate([rng.uniform(-2, 2, (500, 2)), rng.uniform(1.5, 2.5, (500, 1))], 1)
    pixels = camera.project((points - T[:3, 3]) @ T[:3, :3])
    for (x, y), radius, shade in zip(pixels, rng.integers(1, 5, 500), rng.integers(0, 255, 500),
                                     strict=True):
        cv2.circle(image, (round(16 * x), round(16 * y)), 16 * int(radius), (int(shade),) * 3, -1,
                   shift=4)
    return Frame(0, image, camera, T)


@pytest.mark.parametrize(('step', 'refused'), [(0.0005, True), (0.2, False)])
def test_hardly_any_parallax_is_refused(step, refused):
    """Things 2 units away move by 0.014 degrees a step, or by 5.7 degrees."""
    frames = []
    for i in range(5):
        T = np.eye(4)
        T[0, 3] = step * (i - 2)
        angle = np.radians(3.0 * (i - 2))
        T[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0],
                     [-np.sin(angle), 0, np.cos(angle)]]
        frames.append(spots(T))
    entries = [FrameEntry('', f.camera, f.T_world_camera, 0) for f in frames]
    if refused:
        with pytest.raises(ContradictionError, match=r'hardly any parallax.*--trust-input'):
            require_depth(frames, entries, CheckConfig().least_parallax, trusted=False)
    require_depth(frames, entries, CheckConfig().least_parallax, trusted=refused)


def test_a_covered_lens_gives_no_keyframe():
    selector, black = KeyframeSelector(KeyframeConfig()), np.zeros((72, 96, 3), np.uint8)
    frames = [photograph(T) for T in orbit(8)]
    assert selector.consider(frames[0]).accepted
    assert selector.consider(replace(frames[1], image=black)).reason == EMPTY
    assert selector.consider(frames[2]).accepted
    dim = black.copy()
    dim[:, ::2] = 4     # alternating columns of 0 and 4 deviate from their mean by 2
    assert is_empty(dim, 2.1) and not is_empty(dim, 1.9) and is_empty(black + 200, 2.0)


def entry(width, height, fx=1000.0):
    return FrameEntry('', PinholeCamera(width, height, fx, fx, width / 2, height / 2), np.eye(4), 0)


def test_memory_is_counted_in_pixels_and_cameras():
    # 2.25 (8 + 12) + 7 = 52 bytes for each pixel of a camera of its own; with one camera for two
    # images 2.25 (2 x 8 + 12) + 2 x 7 = 77 for each pixel of its ray table. 75 while one is made.
    assert capture_check.needed_bytes([entry(1000, 1000)]) == 127_000_000
    assert capture_check.needed_bytes([entry(1000, 1000)] * 2) == 152_000_000
    assert capture_check.needed_bytes([entry(1000, 1000), entry(1000, 1000, 999.0)]) == 179_000_000


def test_images_shrink_to_their_share_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(capture_check, 'free_bytes', lambda: 508_000_000)
    assert capture_check.fitting_side([entry(1000, 1000)], 0.25) == 0         # just fits
    # 508 MB for 4 million pixels; a quarter of that for a quarter of the pixels.
    assert capture_check.fitting_side([entry(2000, 2000)], 0.25) == 1000
    assert (capture_check.fitting_side([entry(2000, 2000)] * 400, 0.25)
            == capture_check.LEAST_SIDE_PX)


def test_the_shrunk_size_is_said(good, monkeypatch):
    monkeypatch.setattr(capture_check, 'LEAST_SIDE_PX', 48)
    monkeypatch.setattr(capture_check, 'free_bytes', lambda: 1)
    folder, notes = check_folder(load_folder(good), CONFIG)
    assert folder.frames[0].camera.width == 48 and 'shrunk to 48 pixels' in notes[0]
    folder, notes = check_folder(load_folder(good), CONFIG, max_side=96)
    assert folder.frames[0].camera.width == 96 and 'shrunk' not in notes[0]

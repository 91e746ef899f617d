# SPDX-License-Identifier: Apache-2.0
"""When a place was last seen: the newest keyframe that saw its points, and that one's stamp."""

from dataclasses import replace

import numpy as np
import torch
from hand_made_map import CAMERA, cube_index
from hand_made_map import CUBES as WORDS

from lerf_ros.config import IndexConfig, QueryConfig
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.surface import PosedCamera, newest_keyframes, view_grids
from lerf_ros.query.answer import Answer, Hit, PhraseAnswer, Presence, dated
from lerf_ros.query.places import PlaceFinder
from lerf_ros.storage.keyframe_files import KeyframeFiles

CONFIG = IndexConfig(depth_tolerance=0.05)


def test_the_newest_keyframe_that_shows_a_point_counts():
    """All cameras are at the origin and look along z; 7 has something 1 m in front of it."""
    cameras = [PosedCamera(CAMERA, np.eye(4), None, index) for index in (3, 9, 7)]
    views = view_grids(cameras, 10**9, torch.device('cpu'))
    shape = CAMERA.height, CAMERA.width
    depths = [np.full(shape, 2.0), np.full(shape, np.nan), np.full(shape, 1.0)]
    points = np.array([[0, 0, 2.0], [0, 0, 1.0], [0, 0, 1.02], [0, 0, 5.0]], np.float32)
    # 9 shows nothing at all; nobody saw the last point.
    assert newest_keyframes(points, cameras, views, depths, CONFIG).tolist() == [3, 7, 7, -1]
    unknown = [replace(camera, index=-1) for camera in cameras]
    assert newest_keyframes(points, unknown, views, depths, CONFIG).tolist() == [-1] * 4


def test_a_place_was_last_seen_by_who_saw_a_tenth_of_it():
    index = cube_index(WORDS)
    members = np.flatnonzero(index.segments == 1)              # 216 points
    newest = np.full(len(index.points), 2, np.int32)
    newest[members[:30]] = 8
    newest[members[:10]] = 11                                  # a few points: a wrong depth
    finder = PlaceFinder(replace(index, newest=newest), QueryConfig(), 1.0)
    values, scales = np.ones(len(newest)), np.zeros(len(newest), int)
    assert finder.place_of(members, values, scales).hit.last_keyframe == 8
    finder = PlaceFinder(index, QueryConfig(), 1.0)            # a map of an earlier version
    assert finder.place_of(members, values, scales).hit.last_keyframe == -1


def test_the_index_is_stored_with_it_and_read_without():
    index = replace(cube_index(WORDS), newest=np.arange(len(cube_index(WORDS).points), dtype='i4'))
    arrays = index.arrays()
    assert LanguageIndex.from_arrays(arrays).newest.tolist() == index.newest.tolist()
    del arrays['newest']
    assert len(LanguageIndex.from_arrays(arrays).newest) == 0


def answer_with(last_keyframe):
    hit = Hit(np.zeros(3), np.eye(3), np.ones(3), 0.9, 0.1, 5, 3, last_keyframe=last_keyframe)
    return Answer('mug', Presence.PRESENT, 0.5, (hit,), np.zeros((0, 3)), np.zeros(0),
                  np.zeros((0, 3), np.uint8), None, 'map', True, 1, 0,
                  phrases=(PhraseAnswer('mug', Presence.PRESENT, (hit,)),))


def test_the_stamp_is_that_of_the_keyframe_or_unknown(tmp_path):
    files = KeyframeFiles(tmp_path)
    files.add(Keyframe(4, Frame(17, np.zeros((48, 64, 3), np.uint8), CAMERA, np.eye(4))))
    known = dated(answer_with(4), files.stamp)
    assert known.hits[0].last_seen_ns == known.phrases[0].hits[0].last_seen_ns == 17
    assert dated(answer_with(10**6), files.stamp).hits[0].last_seen_ns == 0    # forgotten
    assert dated(answer_with(-1), files.stamp).hits[0].last_seen_ns == 0

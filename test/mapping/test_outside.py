# SPDX-License-Identifier: Apache-2.0
"""Keyframes that look out of the scene frame are counted, and the status says where to."""

from dataclasses import replace

import numpy as np
from hand_made_map import CUBES, cube_index
from test_end_to_end import mapped
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros.map_query
from lerf_ros.config import KeyframeConfig
from lerf_ros.frames.frame import Keyframe
from lerf_ros.geometry.region import Region
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.coverage import Coverage
from lerf_ros.index.survey import Survey
from lerf_ros.map_query import MapQuery
from lerf_ros.mapping.keyframes import LearnedKeyframes
from lerf_ros.mapping.outside import OutsideViews
from lerf_ros.query.answer import Presence
from lerf_ros.query.request import QueryRequest

SCENE = SceneFrame((0.0, 0.0, 0.1), 0.8)        # resolved within 1.6 m of the cubes
HERE = [photograph(T, i) for i, T in enumerate(orbit(8))]


def transform(metres):
    """A shift (4, 4) along x."""
    T = np.eye(4)
    T[0, 3] = metres
    return T


def away(frames, metres=3.0):
    """The same cubes and cameras at another place of the world."""
    T = transform(metres)
    return [replace(frame, T_world_camera=T @ frame.T_world_camera, stamp_ns=frame.stamp_ns + 100)
            for frame in frames]


def learned(frames):
    keyframes = LearnedKeyframes(KeyframeConfig())
    views = OutsideViews(keyframes, metric=True)
    for index, frame in enumerate(frames):
        keyframes.add(Keyframe(index, frame), held_out=False)
        views.note(index, SCENE)
    return keyframes, views


def test_nothing_is_said_while_the_camera_stays():
    assert learned(HERE)[1].message == ''
    assert learned([*HERE, *HERE, *HERE, *away(HERE[:2])])[1].message == ''     # a glance aside


def test_the_status_names_keyframes_that_look_at_another_place():
    message = learned([*HERE, *away(HERE[:5])])[1].message
    assert message.startswith('5 of 13 keyframes look out of the part of space that this map '
                              'resolves, 1.6 m around (0.0, 0.0, 0.1), the farthest at (3.')
    assert 'scene.radius' in message


def test_keyframes_that_were_forgotten_do_not_count():
    keyframes, views = learned([*HERE[:4], *away(HERE[:3])])
    assert views.message.startswith('3 of 7')
    keyframes.add(Keyframe(7, HERE[7]), held_out=False, instead_of=4)
    assert views.message == ''


def test_without_depth_nothing_is_known():
    blind = [replace(frame, depth_m=None) for frame in away(HERE)]
    _, views = learned(blind)
    nothing = np.zeros((8, 8, 8), np.uint16)
    coverage = Coverage(nothing, nothing, nothing, np.ones(4), np.array([2, 5], np.int32))
    survey = Survey(cube_index(CUBES), coverage)
    assert views.message == '' and views.resolution(survey) == {}


def test_nothing_is_absent_from_a_place_out_of_the_scene_frame(tmp_path, monkeypatch):
    """Two places are mapped into one frame, as by a robot that drives on: the second is blurred."""
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: ColorEncoder())
    mapper = mapped(tmp_path, [*HERE, *away(HERE, 6.0)], steps=120)
    query = MapQuery.open(tmp_path)
    region = {x: Region(transform(x), np.array([1.2, 1.2, 0.6])) for x in (0.0, 6.0)}
    said = {x: query.ask(QueryRequest('purple', region=region[x])) for x in region}
    assert said[0.0].too_coarse == ''
    assert said[6.0].too_coarse.startswith('100% of what the camera looked at')
    assert said[6.0].presence == query.answer('purple').presence == Presence.NOT_OBSERVED
    assert mapper.outside.message.startswith('8 of 16 keyframes look out')
    query.change({'query.min_resolved': 0.0})       # coverage alone would call it absent
    assert query.ask(QueryRequest('purple', region=region[6.0])).presence == Presence.ABSENT

# SPDX-License-Identifier: Apache-2.0
"""A world that changes: things that were moved, and poses that became better."""

import numpy as np
import torch
from test_end_to_end import SMALL, assert_in_cube, color_encoder, feed, query_of  # noqa: F401
from tiny_world import CUBES, ColorEncoder, look_at, orbit, photograph

from lerf_ros.config import IndexConfig
from lerf_ros.frames.pose_jump import by_index
from lerf_ros.index.surface import PosedCamera, view_grids
from lerf_ros.index.survey import weak_areas
from lerf_ros.mapper import Mapper
from lerf_ros.mapping.world_changes import MOST_CHANGED, WorldChanges
from lerf_ros.storage.map_directory import MapDirectory

# The red cube moves to the other side of the table.
MOVED = {**CUBES, 'red': ((-0.20, 0.30, 0.0), (0.0, 0.50, 0.2))}
OLD_PLACE = np.array([-0.30, 0.0, 0.1])
SECOND = 10**9


def capture(count, cubes=CUBES, start=0.0, first_s=0, with_depth=True):
    frames = [photograph(T, (first_s + i) * SECOND, with_depth, cubes)
              for i, T in enumerate(orbit(count, start))]
    for frame in frames if with_depth else ():
        frame.depth_m[frame.depth_m > 3] = 0    # beyond the reach of the sensor
    return frames


def changes_of(frames, views=2):
    changes, stale = WorldChanges(views, 0.05), {}
    for slot, frame in enumerate(frames):
        stale.update(changes.add(slot, frame))
    return changes, stale


def is_red(frame):
    return np.abs(frame.image.astype(int) - (220, 40, 40)).max(-1) < 30


def test_in_a_static_world_no_ray_is_stale():
    changes, stale = changes_of(capture(24))
    assert not stale
    points = np.random.default_rng(0).uniform((-.5, -.5, 0), (.5, .5, .2), (100, 3))
    assert not changes.contradicted(points).any()


def test_noise_of_depth_makes_no_ray_stale():
    frames, rng = capture(24), np.random.default_rng(0)
    for frame in frames:
        frame.depth_m[:] *= 1 + 0.01 * rng.standard_normal(frame.depth_m.shape)
    assert not changes_of(frames)[1]


def test_rays_that_ended_on_what_has_gone_or_passed_where_something_came_are_stale():
    before = capture(12)
    frames = before + capture(12, MOVED, start=0.26, first_s=100)
    _, stale = changes_of(frames)
    assert stale and set(stale) <= set(range(12))       # only old images
    on_red = sum((stale[i] & is_red(before[i])).sum() for i in stale)
    red = sum(is_red(frame).sum() for frame in before)
    assert on_red > 0.5 * red
    # Where the cube came to stand the old images saw the floor behind; nothing else is stale.
    new = [photograph(before[i].T_world_camera, cubes=MOVED) for i in range(12)]
    meant = [is_red(before[i]) | is_red(new[i]) for i in range(12)]
    wrong = sum((stale[i] & ~meant[i]).sum() for i in stale)
    assert wrong < 0.15 * sum(s.sum() for s in stale.values())


def test_one_image_alone_makes_nothing_stale():
    before = capture(12)
    assert not changes_of([*before, photograph(before[0].T_world_camera, 10**12, cubes=MOVED)])[1]


def test_a_wrong_pose_does_not_make_the_world_stale():
    """Localisation that jumps contradicts most of the overlap: that is no moved thing."""
    frames = capture(12)
    lost = []
    for i, frame in enumerate(capture(4, first_s=100)):
        T = frame.T_world_camera.copy()
        T[:3, 3] += (0, 0, 0.5)
        lost.append(type(frame)(frame.stamp_ns + i, frame.image, frame.camera, T, frame.depth_m))
    _, stale = changes_of(frames + lost)
    assert sum(s.mean() for s in stale.values()) < 0.05 * len(frames) and MOST_CHANGED <= 0.5


def test_without_depth_nothing_is_known_to_change():
    frames = capture(6, with_depth=False) + capture(6, MOVED, first_s=100, with_depth=False)
    changes, stale = changes_of(frames)
    assert not stale and not changes.contradicted(np.zeros((3, 3))).any()


def mapper_on(folder):
    return Mapper(SMALL, MapDirectory(folder, True), ColorEncoder(), 'map', True)


def test_a_moved_thing_is_found_at_its_new_place_and_not_at_its_old_one(tmp_path):
    mapper = feed(mapper_on(tmp_path), capture(16), 0, 200)
    assert_in_cube(query_of(tmp_path).answer('red'), 'red')
    feed(mapper, capture(16, MOVED, start=0.2, first_s=100), 8, 100)
    answer = query_of(tmp_path).answer('red')
    low, high = MOVED['red']
    assert answer.found
    position = answer.hits[0].position
    assert (position >= np.array(low) - .05).all() and (position <= np.array(high) + .05).all()
    near_old = [h for h in answer.hits if np.linalg.norm(h.position - OLD_PLACE) < 0.2]
    assert not near_old
    assert_in_cube(query_of(tmp_path).answer('blue'), 'blue')


def move(mapper, poses):
    return mapper.move_keyframes(by_index(mapper.learned.placed(), poses))


def test_better_poses_by_stamp_move_rays_views_and_what_is_stored(tmp_path):
    frames = capture(8)
    mapper = mapper_on(tmp_path)
    drift = np.eye(4)
    drift[:3, 3] = 0.0, 0.0, 0.4
    for i, frame in enumerate(frames):
        T = drift @ frame.T_world_camera if i >= 4 else frame.T_world_camera
        mapper.add_frame(type(frame)(frame.stamp_ns, frame.image, frame.camera, T, frame.depth_m))
    truth = {frame.stamp_ns: frame.T_world_camera for frame in frames}
    assert move(mapper, {**truth, 77: np.eye(4)}) == 4
    assert move(mapper, truth) == 0
    straight = mapper_on(tmp_path / 'straight')
    for frame in frames:
        straight.add_frame(frame)
    for row in range(len(straight.trainer.radiance.store)):
        a, b = (m.trainer.radiance.store.grid_of(row, 500).rays for m in (mapper, straight))
        np.testing.assert_allclose(a.origins * mapper.trainer.scene.radius
                                   + np.array(mapper.trainer.scene.center),
                                   b.origins * straight.trainer.scene.radius
                                   + np.array(straight.trainer.scene.center), atol=1e-5)
    for built in (mapper, straight):
        built.directory.keyframes.write_transforms()
    files = [(tmp_path / name / 'transforms.json').read_text() for name in ('.', 'straight')]
    assert files[0] == files[1]


def test_the_field_follows_better_poses(tmp_path):
    """After a loop closure the cubes are where the new poses say, not where they were learned."""
    shift = np.eye(4)
    shift[:3, 3] = 0.3, 0.0, 0.0
    frames = capture(12)
    off = [type(f)(f.stamp_ns, f.image, f.camera, shift @ f.T_world_camera, f.depth_m)
           for f in frames]
    mapper = feed(mapper_on(tmp_path), off, 0, 150)
    move(mapper, {f.stamp_ns: f.T_world_camera for f in frames})
    feed(mapper, [], 0, 300)
    assert_in_cube(query_of(tmp_path).answer('green'), 'green')


def seen_exactly(frames):
    """Views of frames with their true depths as if a perfect field had rendered them."""
    cameras = [PosedCamera(frame.camera, frame.T_world_camera) for frame in frames]
    views, points, depths = view_grids(cameras, 20000, torch.device('cpu')), [], []
    for view, frame in zip(views, frames, strict=True):
        column_row = (view.pixels - 0.5).astype(int)
        z = frame.depth_m[column_row[:, 1], column_row[:, 0]]
        directions = view.camera.directions(view.pixels)
        distance = torch.from_numpy(z / directions[:, 2])
        at = np.unique(column_row[:, 1]), np.unique(column_row[:, 0])
        depths.append(distance.numpy().reshape(len(at[0]), len(at[1])))
        points.append((view.rays.origins + distance[:, None] * view.rays.directions).float())
    return views, torch.cat(points), depths


def test_weak_areas_are_where_few_keyframes_looked():
    """All round the table, but a place aside was looked at from two keyframes only."""
    aside = np.array([0.9, 0.6, 0.0])
    few = [photograph(look_at(aside + (0.3, 0.1 * i, 0.3), aside)) for i in range(2)]
    frames = [photograph(look_at(np.array([0.5 * np.cos(a), 0.5 * np.sin(a), 0.6]), np.zeros(3)))
              for a in np.arange(12)]
    weak = weak_areas(*seen_exactly(frames), IndexConfig())
    assert not len(weak) or np.linalg.norm(weak - aside, axis=1).min() > 0.3
    weak = weak_areas(*seen_exactly(frames + few), IndexConfig())
    assert np.linalg.norm(weak - aside, axis=1).min() < 0.3
    assert np.linalg.norm(weak, axis=1).min() > 0.4        # not the middle of the table


def test_weak_areas_come_with_a_snapshot(tmp_path):
    """Four views are fewer than the index wishes for: all that they show is weak."""
    mapper = feed(mapper_on(tmp_path), capture(4), 0, 60)
    assert len(mapper.weak_areas) and np.isfinite(mapper.weak_areas).all()

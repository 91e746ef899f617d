# SPDX-License-Identifier: Apache-2.0
"""Second looks: from where a thing is seen best, what is cut out, and what is not done twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import CUBES, ColorEncoder, orbit, photograph

from lerf_ros.config import IndexConfig
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.geometry.camera import transform_points
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.language_index import LanguageIndex
from lerf_ros.index.looks import SecondLooks, Shown, best_sights
from lerf_ros.index.second_look import SecondLooker, covered, crops_of
from lerf_ros.index.surface import PosedCamera, view_grids

NAMES = list(CUBES)
POSES = orbit(8)
ENCODER = ColorEncoder()

LOOKS = IndexConfig(look_views=3)


class World:
    """The cubes as a looker gets them: index, cameras, grids and depths; keyframes from 100 on."""

    def __init__(self, count=8):
        self.frames = [photograph(T) for T in POSES[:count]]
        self.cameras = [PosedCamera(f.camera, f.T_world_camera, None, 100 + i)
                        for i, f in enumerate(self.frames)]
        self.views = view_grids(self.cameras, 10**9, torch.device('cpu'))
        self.depths = [distances(f) for f in self.frames]
        self.index, self.pictures = index_of(self.frames), []

    def encode(self, crops):
        self.pictures.append([crop.shape for crop in crops])
        return ENCODER.encode_images(crops)

    def picture(self, index):
        return self.frames[index - 100].image, None

    def looker(self, **settings):
        return SecondLooker(self.encode, self.picture, replace(LOOKS, **settings))

    def look(self, looker, index=None, seconds=float('inf')):
        scene = SceneFrame((0.0, 0.0, 0.0), 1.0)
        return looker.look(index or self.index, scene, self.cameras, self.views, self.depths,
                           seconds)


def distances(frame):
    grid = frame.camera.pixel_grid().reshape(-1, 2)
    along = frame.camera.directions(grid)[:, 2].reshape(frame.depth_m.shape)
    return frame.depth_m / along


def index_of(frames):
    points, segments = [], []
    for frame in frames:
        pixels = frame.camera.pixel_grid()[::2, ::2].reshape(-1, 2)
        depth = frame.depth_m[::2, ::2].reshape(-1)
        where, _ = frame.camera.back_project(pixels, depth)
        points.append(transform_points(frame.T_world_camera, where))
        word = ENCODER.shares(frame.image[::2, ::2].reshape(-1, 3)).argmax(1)
        segments.append(np.where(word < 3, word + 1, 0))
    points, segments = np.concatenate(points), np.concatenate(segments).astype(np.int32)
    near = np.abs(points).max(1) < 1
    points, segments = points[near], segments[near]
    count = len(points)
    return LanguageIndex(points.astype(np.float32), np.zeros((count, 3), np.uint8),
                         np.full(count, 8), np.zeros((1, count, 2), np.int16),
                         np.eye(2, dtype=np.float32), np.array([0.1], np.float32),
                         np.zeros((count, 3), np.float16), segments,
                         np.array([[0.0, 0.0, 1.0, 0.0]]))


@pytest.fixture(scope='module')
def world():
    return World()


def test_each_thing_is_seen_by_itself_in_its_own_colour(world):
    looks = world.look(world.looker())
    assert sorted(set(looks.segments.tolist())) == [1, 2, 3]      # the floor is no thing
    for segment, embedding in zip(looks.segments, looks.embeddings.astype(float)):
        assert embedding[:3].argmax() == segment - 1
        assert embedding[segment - 1] > 0.7     # the floor around it is blank


def test_a_box_is_where_the_keyframe_shows_the_thing(world):
    looks = world.look(world.looker())
    for segment, keyframe, box in zip(looks.segments, looks.keyframes, looks.boxes):
        shown = ENCODER.shares(world.frames[keyframe - 100].image.reshape(-1, 3)).argmax(1)
        y, x = np.nonzero(shown.reshape(72, 96) == segment - 1)
        truth = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert np.abs(box - truth).max() <= 3, (segment, keyframe, box, truth)


def test_what_is_hidden_is_not_looked_at():
    world = World(count=4)
    depth = world.depths[0]
    world.depths[0] = np.full_like(depth, 0.2)      # a hand before the lens of keyframe 100
    looks = world.look(world.looker(look_views=4))
    assert len(looks) > 0
    assert 100 not in looks.keyframes


def test_views_come_from_different_sides():
    # Three cameras: the best, its neighbour that is nearly as good, and one from the other side.
    quality = np.array([[1.0], [0.95], [0.6]])
    directions = np.array([[[1.0, 0, 0]], [[0.995, 0.0995, 0]], [[-1.0, 0, 0]]])
    none = np.zeros((3, 1), bool)
    assert [s.view for s in best_sights(quality, directions, none, 2)[0]] == [0, 2]
    # What is known is kept where another is hardly better; a poor view never takes part.
    known = np.array([[False], [True], [False]])
    assert [s.view for s in best_sights(quality, directions, known, 1)[0]] == [1]
    poor = np.array([[1.0], [0.2], [0.1]])
    assert [s.view for s in best_sights(poor, directions, none, 3)[0]] == [0]


def test_only_new_and_changed_things_are_encoded(world):
    looker = world.looker()
    first = world.look(looker)
    count = looker.encoded
    assert count == len(first) > 0
    again = world.look(looker)
    assert (looker.encoded, len(again)) == (0, count)
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    # The red cube has lost its upper half: its boxes changed, those of the others did not.
    low = (world.index.segments != 1) | (world.index.points[:, 2] < 0.1)
    halved = replace(world.index, points=world.index.points[low],
                     segments=world.index.segments[low])
    changed = world.look(looker, halved)
    assert 0 < looker.encoded <= int((changed.segments == 1).sum())
    # Segments may be numbered anew: what counts is where they are.
    swapped = np.array([0, 3, 2, 1], np.int32)[halved.segments]
    world.look(looker, replace(halved, segments=swapped))
    assert looker.encoded == 0


def test_a_budget_leaves_the_rest_for_later(world):
    looker = world.looker()
    assert len(world.look(looker, seconds=0.0)) == 0
    assert (looker.encoded, looker.left > 0) == (0, True)
    missing = looker.left
    assert len(world.look(looker)) == missing
    assert looker.left == 0


def test_masked_pixels_are_not_looked_at():
    world = World(count=3)
    masked = np.ones((72, 96), bool)
    masked[:, :] = False
    looker = SecondLooker(world.encode, lambda i: (world.frames[i - 100].image, masked),
                          LOOKS)
    assert len(world.look(looker)) == 0
    unread = SecondLooker(world.encode, lambda _: None, LOOKS)
    assert len(world.look(unread)) == 0


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory'),
                                   EncoderUnavailableError('it reads no pictures')])
def test_an_encoder_that_fails_is_no_reason_to_lose_a_snapshot(world, error):
    def fails(_crops):
        raise error
    looker = SecondLooker(fails, world.picture, LOOKS)
    assert len(world.look(looker)) == 0
    assert looker.left > 0


def test_crops_are_squares_inside_of_the_image_of_the_thing_alone():
    image = np.arange(40 * 60 * 3, dtype=np.int64).reshape(40, 60, 3)
    pixels = np.stack(np.meshgrid(np.arange(10), np.arange(10, 14)), -1).reshape(-1, 2) + 0.5
    shown = Shown(np.array([0.0, 10.0, 10.0, 14.0]), pixels, 1.0)
    one, two = crops_of(image, shown, (1.2, 2.0), lambda _: np.array(-1))
    assert (one.shape, two.shape) == ((12, 12, 3), (20, 20, 3))
    # Moved in from the left edge: columns 0 to 11, rows 6 to 17. The thing is there, and a pixel
    # around it; all else is blank.
    np.testing.assert_array_equal(one[3:9, :10], image[9:15, :10])
    assert (one[:3] == -1).all() and (one[9:] == -1).all() and (one[:, 11:] == -1).all()
    everywhere = np.argwhere(np.ones((40, 60)))[:, ::-1] + 0.5
    large = Shown(np.array([10.0, 0.0, 50.0, 40.0]), everywhere, 2.0)
    np.testing.assert_array_equal(crops_of(image, large, (1.8,), lambda _: -1)[0], image)


def test_looks_are_stored_with_the_index_and_maps_without_them_load(world):
    index = replace(world.index, looks=world.look(world.looker()))
    stored = index.arrays()
    back = LanguageIndex.from_arrays(stored)
    for name in SecondLooks.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back.looks, name), getattr(index.looks, name))
    old = {name: value for name, value in stored.items() if not name.startswith('look_')}
    assert len(LanguageIndex.from_arrays(old).looks) == 0


def test_a_map_that_has_lost_its_things_is_looked_at():
    """As when a snapshot is made of a field that has unlearned them: nothing is there to see."""
    world = World()
    looker = world.looker()
    assert len(world.look(looker)) > 0
    empty = replace(world.index, segments=np.full_like(world.index.segments, -1),
                    planes=world.index.planes[:0])
    assert len(world.look(looker, empty)) == 0


@pytest.mark.parametrize(('size', 'spacing', 'most'), [
    ((60, 60), 2, 4),       # as far as the points are apart, twice
    ((60, 8), 4, 2),        # a third of that width or so, though points are 4 pixels apart
    ((8, 60), 4, 2)])
def test_a_look_shows_little_around_a_thing_that_is_small_in_the_image(size, spacing, most):
    width, height = size
    x, y = np.meshgrid(np.arange(0, width + 1, spacing), np.arange(0, height + 1, spacing))
    pixels = np.stack([x, y], -1).reshape(-1, 2) + 20.5
    mask = covered(pixels, 2.0 * spacing, (100, 100))
    assert mask[20:21 + height, 20:21 + width].mean() > 0.98     # without gaps
    rows, columns = np.nonzero(mask)
    assert 20 - most <= rows.min() and rows.max() <= 20 + height + most
    assert 20 - most <= columns.min() and columns.max() <= 20 + width + most

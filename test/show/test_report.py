# SPDX-License-Identifier: Apache-2.0
"""Pictures and numbers of the demo, against values worked out by hand."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from lerf_ros.evaluation.demo_results import DemoResults, TruthBox, check_answer, map_colors
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.query.answer import Answer, Hit, PhraseAnswer, Presence
from lerf_ros.show.colors import FADED, answer_colors, relevancy_colors, turbo
from lerf_ros.show.files import write_ply
from lerf_ros.show.pictures import (
    PosedImage,
    ViewChooser,
    caption,
    contact_sheet,
    disc_radius,
    overlay,
    save_overlay,
    splat,
    visible,
    write_image,
)

CAMERA = PinholeCamera(64, 48, 50.0, 50.0, 32.0, 24.0)
GREY = np.full((48, 64, 3), 100, np.uint8)


def hit_at(position, size=(0.1, 0.1, 0.1), relevancy=0.8):
    return Hit(np.array(position, float), np.eye(3), np.array(size), relevancy, 0.2, 30, 4)


def answer_of(text, hits=(), points=((0, 0, 0),), relevancy=(0.1,), colors=None):
    points = np.array(points, float)
    colors = np.full((len(points), 3), 50, np.uint8) if colors is None else np.array(
        colors, np.uint8)
    return Answer(text, Presence(bool(hits)), 0.55, tuple(hits), points,
                  np.array(relevancy, float), colors, None, 'map', True, 1, 0)


def plane(z, half=0.5, count=41):
    """A square grid of points at depth z, facing the camera."""
    x, y = np.meshgrid(np.linspace(-half, half, count), np.linspace(-half, half, count))
    return np.stack([x, y, np.full_like(x, z)], -1).reshape(-1, 3)


# Colours -------------------------------------------------------------------------------------

def test_colors_below_a_half_stay_and_the_maximum_is_the_last_of_turbo():
    own = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8)
    painted = relevancy_colors(np.array([0.49, 0.5, 0.7]), own)
    assert painted[0].tolist() == [1, 2, 3]
    assert painted[1].tolist() == turbo(np.array([0.0]))[0].tolist()
    assert painted[2].tolist() == turbo(np.array([1.0]))[0].tolist()
    assert own[2].tolist() == [7, 8, 9]   # the input is left alone


def test_turbo_is_rgb_and_ends_in_red():
    low, middle, high = turbo(np.array([0.15, 0.5, 1.0])).astype(int)
    assert low[2] > low[0] and middle[1] > middle[2] and high[0] > high[2]


@pytest.mark.parametrize('relevancy', [np.array([0.2, 0.5]), np.zeros(0)])
def test_nothing_relevant_paints_nothing(relevancy):
    own = np.full((len(relevancy), 3), 9, np.uint8)
    assert (relevancy_colors(relevancy, own) == own).all()


def test_relevancy_outside_of_the_hits_is_faint():
    told = answer_of('cup', points=np.zeros((3, 3)), relevancy=(0.9, 0.9, 0.2))
    full = turbo(np.array([1.0]))[0]
    found = replace(told, presence=Presence.PRESENT)
    # Which points are the hits is not known: as in the paper.
    assert answer_colors(found)[:2].tolist() == [full.tolist()] * 2
    inside, spilt, other = answer_colors(replace(found, hit_numbers=np.array([1, 0, 0])))
    assert inside.tolist() == full.tolist() and other.tolist() == told.colors[2].tolist()
    # What only photographs confirm, and not the field, is shown as part of the hit all the same.
    alone = answer_colors(replace(found, hit_numbers=np.array([1, 0, 1])))[2]
    assert alone.tolist() == turbo(np.array([0.0]))[0].tolist()
    expected = FADED * full + (1 - FADED) * told.colors[1]
    assert np.abs(spilt - expected).max() <= 0.5 and FADED < 0.5
    absent = answer_colors(replace(told, hit_numbers=np.zeros(3, int)))
    assert np.abs(absent[:2] - expected).max() <= 0.5       # nothing looks like a place of it
    assert absent[2].tolist() == told.colors[2].tolist()


# Occlusion -----------------------------------------------------------------------------------

def test_a_point_alone_covers_a_disc_at_its_projection():
    # x = 0.2 at depth 2: column 32 + 50 * 0.2 / 2 = 37, row 24; radius 0.08 is 2 pixels.
    index, depth = splat(np.array([[0.2, 0.0, 2.0]]), CAMERA, np.eye(4), radius=0.08)
    rows, columns = np.nonzero(index == 0)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (35, 39, 22, 26)
    assert np.count_nonzero(index == 0) == 21   # all of 5 x 5 pixels but the corners
    assert np.unique(depth[index == 0]).tolist() == [2.0] and np.isinf(depth[index < 0]).all()


def test_the_near_surface_hides_the_far_one():
    near, far = plane(1.0), plane(2.0, half=0.2)
    points = np.concatenate([near, far])
    radius = disc_radius(points)
    seen = visible(points, CAMERA, np.eye(4), radius)
    assert not seen[len(near):].any()
    assert visible(far, CAMERA, np.eye(4), radius).all()   # alone, all of it is in the image
    inside = (np.abs(near[:, 0]) < 0.6) & (np.abs(near[:, 1]) < 0.45)
    assert seen[:len(near)][inside].all()


def test_points_behind_the_camera_are_never_seen():
    assert not visible(plane(-1.0), CAMERA, np.eye(4), 0.05).any()


def test_disc_radius_is_three_quarters_of_a_grid_pitch():
    assert disc_radius(plane(1.0, half=0.5, count=41)) == pytest.approx(0.75 / 40, rel=1e-6)


def test_a_relevant_object_behind_a_wall_is_not_painted():
    wall, target = plane(1.0), plane(2.0, half=0.2)
    relevancy = np.r_[np.full(len(wall), 0.2), np.full(len(target), 0.9)]
    hidden = answer_of('x', points=np.concatenate([wall, target]), relevancy=relevancy)
    assert (overlay(PosedImage(GREY, CAMERA, np.eye(4)), hidden) == GREY).all()
    alone = replace(answer_of('x', points=target, relevancy=relevancy[len(wall):]),
                    presence=Presence.PRESENT, hits=(hit_at((0, 0, -5.0)),))     # its box is behind
    painted = overlay(PosedImage(GREY, CAMERA, np.eye(4)), alone)
    # The target reaches from 32 - 50 * 0.1 to 32 + 50 * 0.1: its middle is painted, corners not.
    assert (painted[24, 32] != 100).any() and (painted[2, 2] == 100).all()
    assert painted[24, 32].tolist() == np.round(
        0.75 * turbo(np.array([1.0]))[0] + 0.25 * 100).tolist()


def test_the_box_of_the_best_hit_is_drawn_where_it_projects():
    # Front face at depth 1.9, half edge 0.19: columns 32 +- 50 * 0.19 / 1.9 = 27 and 37.
    answer = answer_of('x', [hit_at((0, 0, 2.0), (0.38, 0.38, 0.2))], points=[[0, 0, 50.0]])
    picture = overlay(PosedImage(GREY, CAMERA, np.eye(4)), answer)
    changed = np.nonzero((picture != 100).any(-1))
    # A black line of three pixels around a white one, both smoothed.
    assert 23 <= changed[1].min() <= 26 and 37 <= changed[1].max() <= 40
    assert picture[24, 25:29].max() > 200 and (picture[:10] == 100).all()


def test_the_gripper_is_drawn_where_it_projects():
    T = np.eye(4)
    T[:3, 3] = 0.2, 0.0, 1.0
    answer = replace(answer_of('mug', [hit_at((0.2, 0, 1.0))]), T_world_target=T)
    drawn = overlay(PosedImage(GREY, CAMERA, np.eye(4)), answer).astype(int)
    green = (drawn[..., 1] > 200) & (drawn[..., 0] < 150)
    rows, columns = np.nonzero(green)
    # column 32 + 50 * 0.2 = 42; the fingers stand 8 cm apart along y, 4 pixels at 1 m, and reach
    # back towards the camera: 0.95 m away they are 4.2 pixels apart around column 42.5
    assert columns.min() >= 40 and columns.max() <= 44    # two pixels wide
    assert 20 <= rows.min() <= 22 and 25 <= rows.max() <= 27
    assert 'no grasp' in caption(replace(answer, T_world_target=None, no_target_reason='wide'))


def test_the_chosen_view_is_the_one_that_sees_the_hit():
    target = plane(2.0, half=0.2, count=21)
    wall = plane(1.0, half=0.4)
    answer = answer_of('x', [hit_at((0, 0, 2.0), (0.5, 0.5, 0.1))],
                       points=np.concatenate([wall, target]),
                       relevancy=np.r_[np.full(len(wall), 0.1), np.full(len(target), 0.9)])
    hidden = PosedImage(GREY, CAMERA, np.eye(4))
    away = np.diag([-1.0, 1.0, -1.0, 1.0])
    beyond = np.eye(4)
    beyond[2, 3] = 1.2   # past the wall, right before the target
    far = np.eye(4)
    far[:3, 3] = (0.0, 1.5, 0.0)   # sees over the wall from the side, if at all
    chooser = ViewChooser([hidden, PosedImage(GREY, CAMERA, away), PosedImage(GREY, CAMERA, far),
                           PosedImage(GREY, CAMERA, beyond)], answer.points_world)
    assert chooser.best(answer) == 3


def test_a_view_of_the_whole_box_wins_against_a_closer_one_of_a_part():
    target = plane(2.0, half=0.2, count=21)
    answer = answer_of('x', [hit_at((0, 0, 2.0), (0.5, 0.5, 0.1))], points=target,
                       relevancy=np.full(len(target), 0.9))
    views = []
    for x, z in ((0.0, 0.0), (0.5, 1.2), (0.0, -1.0)):   # whole, closer but half out, too far
        T = np.eye(4)
        T[0, 3], T[2, 3] = x, z
        views.append(PosedImage(GREY, CAMERA, T))
    assert ViewChooser(views, target).best(answer) == 0


def test_contact_sheet_holds_every_answer(tmp_path):
    view = PosedImage(GREY, CAMERA, np.eye(4))
    points = plane(2.0, half=0.3)
    answers = [answer_of('red mug', [hit_at((0, 0, 2.0))], points, np.full(len(points), 0.8)),
               answer_of('a tiger', (), points, np.full(len(points), 0.3)),
               answer_of('nothing mapped', (), np.zeros((0, 3)), ())]
    sheet = contact_sheet([view], answers, 'demo', ['inside', '', ''])
    # Two tiles of 2 x 400 + 6 and three gaps; a title and two rows of 300 + 30.
    assert sheet.shape == (44 + 2 * 330, 2 * 806 + 3 * 6, 3)
    write_image(tmp_path / 'sheet.png', sheet)
    assert (cv2.imread(str(tmp_path / 'sheet.png'))[..., ::-1] == sheet).all()
    assert caption(answers[0]) == 'red mug: found, relevancy 0.80'
    assert caption(replace(answers[0], probability=0.47)) == (
        'red mug: found, relevancy 0.80, in the map with probability 0.47 only')
    assert caption(answers[1], 'right') == 'a tiger: not found (best 0.30, needs 0.55), right'
    scattered = answer_of('a lion', (), points, np.full(len(points), 0.7))
    assert caption(scattered) == 'a lion: not found'    # not "best 0.70, needs 0.55"
    two = answer_of('red mug', [hit_at((0, 0, 2.0)), hit_at((1, 0, 2.0), relevancy=0.6)])
    assert caption(two) == 'red mug: found at 2 places, best relevancy 0.80'
    rivals = PhraseAnswer('apple', Presence.ABSENT, looks_more_like=('banana', 'orange'))
    assert caption(replace(answers[1], text='apple', phrases=(rivals,))) == (
        'apple: not found, looks more like banana')


def test_the_picture_of_an_answer_says_what_was_found(tmp_path, monkeypatch):
    view = PosedImage(GREY, CAMERA, np.eye(4))
    monkeypatch.setattr('lerf_ros.show.pictures.map_views', lambda folder: [view])
    answer = answer_of('a tiger', (), plane(2.0, half=0.3), np.full(41 * 41, 0.3))
    picture = cv2.imread(str(save_overlay(tmp_path / 'map', answer, tmp_path / 'out')))
    # Two pictures of 64 x 48 above a line of 30 pixels where a picture has 400, so of 5 here.
    assert picture.shape == (48 + 5, 2 * 64, 3)
    assert (picture[:48] == 100).all()              # nothing is relevant
    assert picture[48:].min() < 200 and picture[48:].max() == 255       # dark letters on white


def test_an_unwritable_picture_is_an_error(tmp_path):
    with pytest.raises(OSError, match='cannot be written'):
        write_image(tmp_path / 'no' / 'folder.png', GREY)


# Numbers -------------------------------------------------------------------------------------

BOX = TruthBox(np.array([0.0, 0.0, 0.0]), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize('position, inside, distance', [
    ((0.05, 0.1, 0.15), True, 0.0),
    ((0.12, 0.1, 0.15), True, 0.02),        # outside of the box, inside of the grown one
    ((0.14, 0.1, 0.15), False, 0.04),
    ((0.13, 0.24, 0.15), False, 0.05),      # 3 cm and 4 cm beyond: sqrt(9 + 16) = 5 cm
    ((-0.029, -0.029, 0.3), True, 0.029 * 2 ** 0.5)])   # grown is a box, not a ball
def test_inside_box_and_distance(position, inside, distance):
    judged = check_answer(answer_of('mug', [hit_at(position)]), 0.2, [BOX])
    assert judged.inside_box is inside
    assert judged.distance_m == pytest.approx(distance)
    assert judged.relevancy == 0.8 and judged.position == pytest.approx(position)


def test_the_nearest_of_several_boxes_counts():
    other = TruthBox(np.array([1.0, 0.0, 0.0]), np.array([1.1, 0.2, 0.3]))
    judged = check_answer(answer_of('mug', [hit_at((1.05, 0.1, 0.15))]), 0.2, [BOX, other])
    assert judged.inside_box and judged.distance_m == 0.0


def test_what_is_not_found_has_no_position_and_the_clouds_relevancy():
    judged = check_answer(answer_of('tiger', (), points=np.zeros((2, 3)), relevancy=(0.3, 0.4)),
                          0.1)
    assert (judged.found, judged.inside_box, judged.distance_m, judged.position) == (
        False, False, None, None)
    assert judged.relevancy == 0.4


def results(right, wrong, absent_found=0):
    good = check_answer(answer_of('mug', [hit_at((0.05, 0.1, 0.1))]), 0.2, [BOX])
    bad = check_answer(answer_of('cup', [hit_at((9, 9, 9))]), 0.2, [BOX])
    ghost = check_answer(answer_of('tiger', [hit_at((0, 0, 0))]), 0.1)
    none = check_answer(answer_of('lion'), 0.1)
    return DemoResults((good,) * right + (bad,) * wrong,
                       (ghost,) * absent_found + (none,) * (3 - absent_found), 123.4, 5,
                       {'psnr': float('nan'), 'keyframes': 7})


@pytest.mark.parametrize('right, wrong, ghosts, passed', [
    (7, 1, 0, True), (8, 0, 0, True), (6, 2, 0, False), (8, 0, 1, False),
    (9, 2, 0, False), (10, 1, 0, True),     # 11 * 7 / 8 = 9.6, so ten are needed
    (0, 0, 0, False)])
def test_the_bar(right, wrong, ghosts, passed):
    assert results(right, wrong, ghosts).passed is passed


def test_results_json_and_table(tmp_path):
    outcome = results(7, 1)
    outcome.write(tmp_path / 'results.json')
    read = json.loads((tmp_path / 'results.json').read_text())
    assert read['seconds'] == 123.4 and read['seed'] == 5 and read['psnr'] is None
    assert len(read['present']) == 8 and len(read['absent']) == 3
    assert set(read['present'][0]) >= {'query', 'found', 'inside_box', 'distance_m', 'relevancy',
                                       'latency_s'}
    assert read['present'][7]['inside_box'] is False
    assert read['present'][7]['distance_m'] == pytest.approx(
        ((9 - 0.1) ** 2 + (9 - 0.2) ** 2 + (9 - 0.3) ** 2) ** 0.5)
    lines = outcome.table().splitlines()
    assert len(lines) == 2 + 8 + 3 and lines[0].startswith('query')
    assert lines[2].split() == ['mug', 'yes', 'yes', '+0.05', '+0.10', '+0.10', 'yes', '0.000',
                                'm', '0.80', '-', '0.200', 's']
    assert read['present'][0]['grasp'] is False
    held = replace(answer_of('mug', [hit_at((0.05, 0.1, 0.1))]), T_world_target=np.eye(4))
    assert check_answer(held, 0.2, [BOX]).grasp is True
    assert '7 of 8 present' in outcome.summary() and '0 of 3 absent' in outcome.summary()
    assert outcome.quality() == 'held-out PSNR not known, median depth error not known'
    control = replace(outcome, extras={**outcome.extras, 'untrained_language_right': 0})
    assert control.quality().endswith('; with an untrained language field 0 of 8 are right')


def test_the_map_takes_each_colour_from_the_answer_in_which_it_mattered_least():
    points = [[0, 0, 0], [1, 0, 0]]
    first = answer_of('a', (), points, (0.9, 0.1), [[255, 0, 0], [2, 2, 2]])
    second = answer_of('b', (), points, (0.2, 0.8), [[1, 1, 1], [255, 0, 0]])
    older = replace(answer_of('c', (), [[5, 5, 5]], (0.1,)), snapshot_stamp_ns=-1)
    xyz, colors = map_colors([older, first, second])
    assert xyz.tolist() == points and colors.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_ply_is_read_back(tmp_path):
    points = np.array([[0.5, -1.0, 2.0], [3.0, 4.0, 5.0]])
    write_ply(tmp_path / 'map.ply', points, np.array([[1, 2, 3], [250, 251, 252]], np.uint8))
    head, body = (tmp_path / 'map.ply').read_bytes().split(b'end_header\n')
    assert b'element vertex 2' in head and len(body) == 2 * (3 * 8 + 3)
    assert np.frombuffer(body[:24], '<f8').tolist() == [0.5, -1.0, 2.0]
    assert list(body[51:54]) == [250, 251, 252]

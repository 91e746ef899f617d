# SPDX-License-Identifier: Apache-2.0
"""Evaluation scenes from folders: labelled frames, novel views, boxes in 3D."""

import json
import logging
import math
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_eval import SMALL
from tiny_world import CAMERA, COLORS, CUBES, ColorEncoder, orbit, photograph

from lerf_ros.cli import parser
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.extractor import FeatureExtractor
from lerf_ros.errors import DatasetError
from lerf_ros.evaluation import command, frozen_radiance
from lerf_ros.evaluation.boxed_scene import BoxedObject, BoxTruth, robot_mask
from lerf_ros.evaluation.command import EFFORTS
from lerf_ros.evaluation.experiment import EvalPlan, run_scene
from lerf_ros.evaluation.folder_scenes import folder_scene, labelled_truth
from lerf_ros.evaluation.frozen_radiance import fitted
from lerf_ros.evaluation.labels import ImageLabels, LabelledObject
from lerf_ros.evaluation.lerf_views import nerfstudio_normalisation
from lerf_ros.evaluation.records import EvalResults
from lerf_ros.evaluation.scene_encoders import extract_all, looker_of
from lerf_ros.evaluation.scenes import views_to_evaluate
from lerf_ros.evaluation.scoring import kernel_px
from lerf_ros.geometry.camera import OPENGL_TO_OPENCV

SHELF = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'apc_shelf_rgbd'
POSES = orbit(14)
PLAN = EvalPlan(('lerf', 'fusion'), 120, 80, (), 1, ('purple',), torch.device('cpu'))


class TinyEncoder:
    """The colour encoder as the evaluation runs it."""

    texts = ColorEncoder()

    def settings(self, config):
        return config

    def features(self, scene, frame, config):
        return extract_all(FeatureExtractor(self.texts, config.features), scene, frame, config)

    def looker(self, scene, config):
        return looker_of(self.texts, scene, config)


def write_folder(folder, with_depth, **more):
    """The tiny world as a nerfstudio folder."""
    (folder / 'images').mkdir(parents=True)
    frames = []
    for i, T in enumerate(POSES):
        frame, name = photograph(T, with_depth=with_depth), f'images/frame_{i:05d}.png'
        cv2.imwrite(str(folder / name), frame.image[..., ::-1])
        entry = {'file_path': name, 'transform_matrix': (T @ OPENGL_TO_OPENCV).tolist()}
        if with_depth:
            entry['depth_file_path'] = f'{i}.npy'
            np.save(folder / f'{i}.npy', frame.depth_m)
            entry['depth_unit_scale_factor'] = 1.0
        frames.append(entry)
    (folder / 'transforms.json').write_text(json.dumps({
        'w': CAMERA.width, 'h': CAMERA.height, 'fl_x': CAMERA.fx, 'fl_y': CAMERA.fy,
        'cx': CAMERA.cx, 'cy': CAMERA.cy, 'frames': frames, **more}))
    return folder


def cube_boxes(i):
    """The box (x, y, x, y) of each cube's pixels in a frame."""
    image = photograph(POSES[i]).image
    boxes = {}
    for name, color in COLORS.items():
        y, x = np.nonzero((image == color).all(-1))
        boxes[name] = [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
    return boxes


def ovs_label(i, factor=2):
    """LERF-OVS' label of a frame, made on an image `factor` times as large."""
    objects = []
    for name, box in cube_boxes(i).items():
        x0, y0, x1, y1 = (factor * value for value in box)
        objects.append({'category': name, 'bbox': [x0, y0, x1, y1],
                        'segmentation': [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]})
    return {'info': {'name': f'frame_{i:05d}.png', 'width': factor * CAMERA.width,
                     'height': factor * CAMERA.height}, 'objects': objects}


def write_labels(folder, frames=(3, 9)):
    folder.mkdir(parents=True, exist_ok=True)
    for i in frames:
        (folder / f'frame_{i:05d}.json').write_text(json.dumps(ovs_label(i)))


@pytest.fixture(scope='module', autouse=True)
def few_rays():
    """A table of rays that suits so small a world."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_radiance, 'TABLE_RAYS', 8192)
        yield


@pytest.fixture(scope='module')
def measured(tmp_path_factory, few_rays):
    """The results of a folder without depth and with labels in two frames, and its pictures."""
    folder = write_folder(tmp_path_factory.mktemp('tiny') / 'cubes', with_depth=False)
    write_labels(folder / 'labels')
    pictures = folder / 'pictures'
    return run_scene(folder_scene(folder), {'colors': TinyEncoder()}, PLAN, SMALL,
                     pictures), pictures


def test_labelled_frames_are_judged_by_both_rules(measured):
    results, pictures = measured
    assert [row.query for row in results.objects] == list(COLORS)
    for row in results.objects:
        assert (row.scene, row.encoder, row.method) == ('cubes', 'colors', 'lerf')
        assert row.localized and row.lerf_ovs_localized
        # The labels are the boxes around the cubes' pixels, the map is a coarse one.
        assert row.lerf_ovs_iou is not None and row.lerf_ovs_iou > 0.2
    assert [path.name for path in pictures.glob('*.png')] == ['overlays_cubes_colors_lerf.png']


def test_nothing_is_claimed_in_3d(measured):
    results, _ = measured
    assert all(row.hit is None and row.iou_3d is None and math.isnan(row.size_px)
               for row in results.objects)
    assert all(math.isnan(stage.hits) and math.isnan(stage.iou_3d)
               for stage in results.convergence)
    assert EvalResults.from_json(results.to_json()).to_json() == results.to_json()


def test_labelled_phrases_are_the_ones_that_exist(measured):
    results, _ = measured
    scores = {p.text: p.score for p in results.phrases}
    assert {p.text for p in results.phrases if p.present} == set(COLORS)
    assert scores['purple'] < min(scores[name] for name in COLORS)


def test_what_needs_depth_is_left_out_where_there_is_none(measured):
    left_out, = measured[0].info['left out']
    assert left_out.startswith('cubes, colors, fusion: ') and 'no frame has depth' in left_out
    assert {row.method for row in measured[0].objects} == {'lerf'}


def test_fusion_and_a_tsdf_run_on_depth(tmp_path):
    folder = write_folder(tmp_path / 'cubes', with_depth=True)
    write_labels(tmp_path / 'all' / 'cubes')
    methods = ('fusion', 'fusion_second_look', 'tsdf')
    plan = replace(PLAN, methods=methods, radiance_steps=2)
    scene = folder_scene(folder, tmp_path / 'all')   # labels of several folders, by their names
    results = run_scene(scene, {'colors': TinyEncoder()}, plan, SMALL)
    assert [row.method for row in results.objects] == [m for m in methods for _ in range(3)]
    assert results.info == {'left out': []}


def test_truth_is_resized_with_the_view():
    labels = ImageLabels('a.png', (200, 100), (
        LabelledObject('cup', np.array([20.0, 10, 60, 50]),
                       np.array([[20.0, 10], [60, 10], [60, 50], [20, 50]])),
        LabelledObject('pan', np.array([100.0, 0, 120, 20]), None)))
    truth = labelled_truth(labels, ('pan', 'pot', 'cup'), (1, 1))((100, 50))
    assert {i: boxes.tolist() for i, boxes in truth.boxes_px.items()} == {
        0: [[50, 0, 60, 10]], 2: [[10, 5, 30, 25]]}
    mask, = truth.masks.values()
    y, x = np.nonzero(mask)
    assert mask.shape == (50, 100) and (x.min(), y.min(), x.max(), y.max()) == (10, 5, 30, 25)


def test_the_filter_has_the_same_part_of_every_view():
    assert [kernel_px(np.zeros(shape)) for shape in ((728, 990), (120, 160), (48, 64), (4, 4))] \
        == [30, 5, 2, 1]


def test_labels_that_belong_to_no_image(tmp_path, caplog):
    folder = write_folder(tmp_path / 'cubes', with_depth=False)
    with pytest.raises(DatasetError, match='--labels'):
        folder_scene(folder)
    label = ovs_label(0)
    label['info']['name'] = 'other.jpg'
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'a.json').write_text(json.dumps(label))
    with pytest.raises(DatasetError, match=r'other\.jpg'):
        folder_scene(folder, tmp_path / 'labels')
    write_labels(tmp_path / 'labels', (5,))
    with caplog.at_level(logging.WARNING):
        assert len(folder_scene(folder, tmp_path / 'labels').views) == 1
    assert 'other.jpg' in caplog.text


def test_lerfs_own_views_are_novel_ones(tmp_path):
    folder = write_folder(tmp_path / 'cubes', with_depth=False)
    # A camera between the frames, in nerfstudio's training frame as its viewer writes it.
    T = orbit(3, 0.2)[1]
    frame = nerfstudio_normalisation(POSES)
    pose = frame.T @ T
    pose[:3, 3] *= frame.scale
    (folder / 'labels').mkdir()
    (folder / 'labels' / 'keyframes.json').write_text(json.dumps({
        'render_width': 192, 'render_height': 144,
        'keyframes': [{'matrix': str((pose @ OPENGL_TO_OPENCV).T.ravel().tolist()), 'fov': 60}]}))
    shapes = [{'label': 'red', 'points': [[8, 6], [24, 18]]}]
    label = {'shapes': shapes, 'imagePath': '0_rgb.png', 'imageWidth': 96, 'imageHeight': 72}
    (folder / 'labels' / '0_rgb.json').write_text(json.dumps(label))
    scene = folder_scene(folder)
    view, = views_to_evaluate(scene, 0)
    np.testing.assert_allclose(view.T_world_camera, T, atol=1e-9)
    assert view.photo is None and [thing.query for thing in scene.objects] == ['red']
    camera = fitted(view.camera, 160)
    assert (camera.width, camera.height) == (160, 120)
    assert camera.fy == pytest.approx(60 / math.tan(math.radians(30)))
    assert view.truth((192, 144)).boxes_px[0].tolist() == [[16, 12, 48, 36]]
    (folder / 'labels' / '1_rgb.json').write_text(json.dumps(label))
    with pytest.raises(DatasetError, match='1 keyframes, but there are 2'):
        folder_scene(folder)


def test_a_point_belongs_to_the_box_it_lies_in():
    def thing(low, high):
        return BoxedObject(1, 'a', 'a', np.array(low, float), np.array(high, float))
    truth = BoxTruth((thing([0, 0, 0], [1, 1, 1]), thing([0.5, 0, 0], [3, 3, 3])))
    # The second point lies in both boxes, and the first box is the smaller one.
    points = np.array([[0.2, 0.5, 0.5], [0.7, 0.5, 0.5], [2, 2, 2], [0.2, 2, 0]])
    assert truth.at(points).tolist() == [0, 0, 1, -1]


def test_the_robot_is_what_never_changes():
    rng = np.random.default_rng(0)
    images = [np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)
              for _ in range(8)]
    for image in images:
        image[:60, 100:] = 30 + rng.integers(-5, 5, (60, 60, 3))
    valid = robot_mask(images)
    assert valid.shape == (120, 160)
    # The filter that takes out noise mixes two pixels of the rest in.
    assert not valid[:56, 104:].any() and valid[70:].all() and valid[:, :90].all()
    assert robot_mask(images[:1]).all()


def test_boxes_and_masks_of_a_folder(tmp_path):
    objects = [{'id': 7 * (k + 1), 'name': f'{name}_cube', 'query': name,
                'aabb_min': low, 'aabb_max': high} for k, (name, (low, high))
               in enumerate(CUBES.items())]
    folder = write_folder(tmp_path / 'cubes', with_depth=True, objects=objects)
    content = json.loads((folder / 'transforms.json').read_text())
    for i, entry in enumerate(content['frames']):
        image, ids = photograph(POSES[i]).image, np.zeros((CAMERA.height, CAMERA.width), np.uint8)
        for k, color in enumerate(COLORS.values()):
            ids[(image == color).all(-1)] = 7 * (k + 1)
        entry['mask_instance_path'] = f'mask{i}.png'
        cv2.imwrite(str(folder / f'mask{i}.png'), ids)
    (folder / 'transforms.json').write_text(json.dumps(content))
    scene = folder_scene(folder, max_side=48)
    assert scene.label_names == ('red', 'green', 'blue', 'shelf') and scene.labels is not None
    assert all(labels.shape == (36, 48) for labels in scene.labels)
    areas = sorted((labels == 1).sum() for labels in scene.labels)
    assert scene.objects[1].pixels == pytest.approx(areas[-5] ** 0.5)
    # Only the held-out frame of every eight is judged.
    view, = views_to_evaluate(scene, 3, every=8)
    np.testing.assert_allclose(view.T_world_camera, POSES[7])
    x0, y0, x1, y1 = cube_boxes(7)['red']
    np.testing.assert_allclose(view.truth((96, 72)).boxes_px[0][0], [x0, y0, x1, y1], atol=2)


@pytest.mark.skipif(not SHELF.is_dir(), reason=f'{SHELF} is not there')
def test_the_shelf():
    scene = folder_scene(SHELF, max_side=320)
    assert scene.metric and len(scene.frames) == 15 and len(scene.objects) == 4
    assert 'a blue tissue box' in [thing.query for thing in scene.objects]
    assert all(thing.pixels > 36 for thing in scene.objects)
    valid = scene.frames[0].valid
    # Gripper foam in both upper corners, black in all images; all objects are below it.
    assert valid is not None and not valid[10:70, 10:55].any() and not valid[10:70, 265:310].any()
    assert valid[130:].all() and valid.mean() > 0.8


def test_the_command_line_chooses_the_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr('lerf_ros.evaluation.folder_scenes.folder_scene', lambda f, *_: str(f))
    monkeypatch.setattr('lerf_ros.evaluation.scenes.simulated_scene', lambda seed, *_: seed)

    def chosen(*line):
        return [make() for make in command.scenes(parser().parse_args(['eval', *line]))]
    assert chosen() == list(EFFORTS['cpu'].seeds)
    assert chosen('a', 'b') == ['a', 'b']
    assert chosen('a', '--seeds', '3') == ['a', 3] and chosen('--seeds', '1', '2') == [1, 2]


def test_what_other_processes_are_given_can_be_handed_over():
    """--jobs: arguments, configuration and how to make each scene."""
    arguments = parser().parse_args(['eval', '--jobs', '2', '--seeds', '0', '1'])
    config = command.settings(arguments, LerfConfig())
    given = pickle.loads(pickle.dumps((arguments, config, command.scenes(arguments))))
    assert given[1] == config and len(given[2]) == 2


@pytest.mark.parametrize('words', [['{}', '--encoders', 'conse'], ['--encoders', 'conse', '{}'],
                                   ['--encoders', '{}']])
def test_a_folder_behind_the_encoders_is_a_folder(tmp_path, words):
    arguments = parser().parse_args(['eval', *(word.format(tmp_path) for word in words)])
    command.take_folders(arguments)
    assert (arguments.folders, arguments.encoders) == ([tmp_path], ['conse'])

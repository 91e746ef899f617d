# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros calibrate`: threshold and probabilities from ground truth, on a map made by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CAMERA, CUBES, WORDS, WordEncoder, axis, cube_index, write_map

import lerf_ros.map_query
from lerf_ros.cli import main
from lerf_ros.config import LerfConfig
from lerf_ros.errors import DatasetError
from lerf_ros.evaluation import calibration, folder_scenes
from lerf_ros.evaluation.calibration import (
    Samples,
    ask_scene,
    best_threshold,
    fit_calibration,
    inside_view,
    is_there,
    joined,
    share_of,
)
from lerf_ros.evaluation.scenes import EvalScene, EvalView, TruthObject, ViewTruth
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Presence
from lerf_ros.settings import to_dict
from lerf_ros.storage.map_directory import MapDirectory


class GuessingEncoder(WordEncoder):
    """Words that it does not know look a little like a plate: the longer, the more."""

    def encode_texts(self, texts):
        return np.stack([axis(text) if text in WORDS else self.guess(text) for text in texts])

    @staticmethod
    def guess(text):
        share = 0.1 + 0.03 * len(text)
        return share * axis('plate') + math.sqrt(1 - share ** 2) * axis('object')


@pytest.fixture(autouse=True)
def guessing(monkeypatch):
    monkeypatch.setattr(lerf_ros.map_query, 'load_encoder', lambda *_, **__: GuessingEncoder())


@pytest.fixture
def map_folder(tmp_path):
    folder = write_map(tmp_path / 'map')
    MapDirectory(folder).write_snapshot(
        {'index': cube_index(CUBES).arrays()},
        {'stamp_ns': 6, 'encoder': {'name': 'words'}, 'config': to_dict(LerfConfig())}, 2)
    return folder


def scene_of_cubes():
    def thing(word):
        center, edge = np.array(CUBES[word][0]), CUBES[word][1]
        return TruthObject(word, word, word, center - edge / 2, center + edge / 2, math.nan)
    return EvalScene('cubes', (), None, (), tuple(map(thing, CUBES)), True)


def test_a_calibrated_map_has_its_threshold_and_probabilities(map_folder, monkeypatch, capsys):
    """Before, the rule: an absent word of 14 letters has relevancy sigmoid(10 * 0.52) = 0.995."""
    before = MapQuery.open(map_folder)
    absent = before.answer('crane truck')
    assert before.text_query.config.threshold == pytest.approx(0.68)
    assert absent.presence == Presence.PRESENT and math.isnan(absent.probability)

    monkeypatch.setattr(folder_scenes, 'folder_scene', lambda *_: scene_of_cubes())
    assert main(['calibrate', 'capture', '--map', str(map_folder)]) == 0
    told = capsys.readouterr().out
    assert 'cubes: 3 phrases for things that are there' in told
    assert '100% of what is there and 0% of what is not reach' in told

    query = MapQuery.open(map_folder)
    threshold = query.text_query.config.threshold
    longest = max(calibration.ABSENT, key=len)
    assert 1 / (1 + math.exp(-10 * (0.1 + 0.03 * len(longest)))) < threshold
    assert threshold < 1 / (1 + math.exp(-10))
    there, missing = query.answer('mug'), query.answer('crane truck')
    assert there.presence == Presence.PRESENT and missing.presence == Presence.ABSENT
    assert there.probability > 0.5 > missing.probability

    # At other settings nothing is known, and the rule counts again.
    query.change({'query.negatives': ['stuff']})
    assert math.isnan(query.answer('mug').probability)
    assert query.text_query.config.threshold == pytest.approx(0.68)
    query.change({'query.threshold': 0.9})
    assert query.text_query.config.threshold == 0.9


def test_a_calibration_that_cannot_be_read_counts_as_none(map_folder, caplog):
    for text in ('{', '[]', '{"encoder": 1}'):
        (map_folder / 'calibration.json').write_text(text)
        assert math.isnan(MapQuery.open(map_folder).answer('mug').probability)
    assert 'lerf_ros calibrate' in caplog.text


def test_a_new_map_in_the_folder_starts_without_the_old_calibration(map_folder):
    (map_folder / 'calibration.json').write_text(json.dumps({'encoder': {}, 'settings': {}}))
    directory = MapDirectory(map_folder)
    assert map_folder / 'calibration.json' not in directory.strangers()
    directory.discard()
    assert not map_folder.exists()


def test_samples_of_a_scene(map_folder):
    """Three phrases are there; an absent word finds the plate, which is wrong."""
    places, presences = ask_scene(MapQuery.open(map_folder), scene_of_cubes(), ['dolphin'])
    assert not presences.is_near.any()
    near = ask_scene(MapQuery.open(map_folder), scene_of_cubes(), ['dolphin'], ['dolphin'])[1]
    assert near.is_near.tolist() == [False, False, False, True]
    assert presences.right.tolist() == [True, True, True, False]
    assert presences.relevancy[:3] == pytest.approx([1 / (1 + math.exp(-10))] * 3, abs=1e-4)
    assert presences.relevancy[3] == pytest.approx(1 / (1 + math.exp(-3.1)), abs=1e-2)
    assert places.right[:3].all() and not places.right[3:].any()


def test_the_threshold_separates_as_well_as_can_be():
    relevancy = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    right = np.array([False, False, True, False, True])
    found = best_threshold(Samples(np.zeros((5, 3)), relevancy, right))
    assert found == pytest.approx(0.65)      # all present, one of three absent


def test_near_words_count_as_much_as_far_ones_for_the_threshold():
    # One near word reaches .8, nine far ones .1: of the wrong, a half and not a tenth.
    relevancy = np.array([0.7, 0.75, 0.9, *[0.1] * 9, 0.8])
    right = np.array([True, True, True, *[False] * 10])
    near = np.array([False] * 12 + [True])
    features = np.zeros((13, 3))
    # From .85 one of three is found and nothing wrong; from .4 all three, and half of the wrong.
    assert best_threshold(Samples(features, relevancy, right, near)) == pytest.approx(0.4)
    right[:2] = False
    assert best_threshold(Samples(features, relevancy, right, near)) == pytest.approx(0.85)


def test_a_place_weighs_what_its_phrase_does():
    # Three phrases that are there, two far ones and five near ones: a half, a quarter, a quarter.
    assert 3 * share_of(True, False, 3, 2, 5) == pytest.approx(0.5)
    assert 2 * share_of(False, False, 3, 2, 5) == pytest.approx(0.25)
    assert 5 * share_of(False, True, 3, 2, 5) == pytest.approx(0.25)
    assert 2 * share_of(False, False, 3, 2, 0) == pytest.approx(0.5)
    some = Samples(np.zeros((2, 3)), np.zeros(2), np.array([True, False]),
                   share=np.array([0.3, 0.1]))
    assert joined([some, some]).weights == pytest.approx([0.375, 0.125, 0.375, 0.125])


def test_too_little_to_fit_says_what_is_missing():
    some = Samples(np.zeros((4, 3)), np.linspace(0.4, 0.9, 4), np.array([True] * 3 + [False]))
    with pytest.raises(DatasetError, match='3 places are right and 1 wrong'):
        fit_calibration([some], [some])


@pytest.mark.parametrize('position, expected', [
    ((0.0, 0.0, 2.0), True), ((0.5, 0.0, 2.0), False), ((0.0, 0.0, -2.0), None),
    ((3.0, 0.0, 2.0), None)])
def test_boxes_in_images(position, expected):
    """The camera looks along z; 60 pixels of focal length, its middle at (32, 24)."""
    boxes = {0: np.array([[28.0, 20.0, 36.0, 28.0]])}
    view = EvalView(CAMERA, np.eye(4), lambda size: ViewTruth(boxes, {}))
    assert inside_view(np.array(position), 0, view) is expected
    assert inside_view(np.array(position), 1, view) is None
    thing = TruthObject('mug', 'mug', 'mug', None, None, math.nan)
    scene = replace(scene_of_cubes(), objects=(thing,), views=(view, view))
    assert is_there(np.array(position), thing, scene) is bool(expected)


@pytest.mark.parametrize('arguments, words', [
    ([], 'give a labelled capture, or --simulated'),
    (['capture', '--simulated', '1'], 'one of them'),
    (['--simulated', '1'], 'say with --map')])
def test_what_must_be_given(arguments, words, capsys):
    assert main(['calibrate', *arguments]) == 2
    assert words in capsys.readouterr().err

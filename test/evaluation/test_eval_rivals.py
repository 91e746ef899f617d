# SPDX-License-Identifier: Apache-2.0
"""OWL-ViT's role in the evaluation, played by detectors that are right, wrong or away."""

import logging
import math

import numpy as np
import pytest
import torch
from tiny_eval import SMALL
from tiny_world import orbit, photograph

from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.evaluation import frozen_radiance
from lerf_ros.evaluation.experiment import EvalPlan, run_scene
from lerf_ros.evaluation.owl_vit import Detection, score_detector
from lerf_ros.evaluation.scenes import EvalScene, EvalView, TruthObject, ViewTruth

THINGS = tuple(TruthObject(name, name, name, None, None, math.nan) for name in ('cup', 'pan'))
PICTURE = np.zeros((50, 100, 3), np.uint8)


class Fixed:
    """Always gives the same boxes."""

    def __init__(self, **boxes):
        self.boxes, self.sizes = boxes, []

    def detect(self, image, texts):
        self.sizes.append(image.shape)
        return [Detection(text, 0.1 * i, np.array(self.boxes[text], float))
                for i, text in enumerate(texts, 1)]


def view(**boxes):
    return ViewTruth({('cup', 'pan').index(name): np.array([box], float)
                         for name, box in boxes.items()}, {}), PICTURE


def test_the_centre_of_the_best_box_decides():
    # Centres: (20, 20), in the box, which it need not overlap well, and (70, 20), outside.
    detector = Fixed(cup=[0, 0, 40, 40], pan=[60, 10, 80, 30])
    cup, pan = score_detector('s', detector, THINGS, [view(cup=[19, 19, 22, 22],
                                                           pan=[60, 21, 80, 30])])
    assert cup.localized is True and pan.localized is False
    assert (cup.encoder, cup.method, cup.relevancy) == ('owl-vit', 'owl-vit', 0.1)
    assert cup.hit is None and cup.iou_3d is None and cup.lerf_ovs_iou is None


def test_a_centre_belongs_to_the_pixel_that_it_lies_in():
    # 22.9 lies in pixel 22, the last one of the box.
    cup, _ = score_detector('s', Fixed(cup=[22.9] * 4, pan=[0] * 4), THINGS,
                            [view(cup=[19, 19, 22, 22])])
    assert cup.localized is True


def test_only_views_that_show_the_object_count():
    detector = Fixed(cup=[0, 0, 40, 40], pan=[0, 0, 40, 40])
    right, wrong = [19, 19, 22, 22], [50, 0, 60, 10]
    cup, pan = score_detector('s', detector, THINGS, [view(cup=right), view(), view(cup=wrong),
                                                      view(cup=right)])
    assert cup.localized is True and pan.localized is None
    cup, _ = score_detector('s', detector, THINGS, [view(cup=right), view(cup=wrong)])
    assert cup.localized is False   # half is not most
    assert score_detector('s', detector, THINGS, [])[0].relevancy == 0.0


def small_scene():
    frames = tuple(photograph(T, i) for i, T in enumerate(orbit(4)))
    views = tuple(EvalView(f.camera, f.T_world_camera,
                           lambda size: ViewTruth({0: np.array([[0, 0, *size]])}, {}), f.image)
                  for f in frames[:1])
    return EvalScene('small', frames, None, (), THINGS, True, None, views)


def plan_with(detector):
    return EvalPlan(('owl-vit',), 1, 1, (), 1, (), torch.device('cpu'), detector)


@pytest.fixture(autouse=True)
def few_rays(monkeypatch):
    monkeypatch.setattr(frozen_radiance, 'TABLE_RAYS', 4096)


def test_it_sees_a_rendering_once_and_asks_no_encoder():
    detector = Fixed(cup=[0, 0, 40, 40], pan=[0, 0, 40, 40])
    results = run_scene(small_scene(), {'a': object(), 'b': object()},
                        plan_with(lambda: detector), SMALL)
    assert [row.localized for row in results.objects] == [True, None]
    assert detector.sizes == [(72, 96, 3)] and results.info == {'left out': []}


def test_a_hub_that_is_away_leaves_it_out(caplog):
    def away():
        raise EncoderUnavailableError('connect once')
    with caplog.at_level(logging.WARNING):
        results = run_scene(small_scene(), {}, plan_with(away), SMALL)
    assert not results.objects
    assert results.info == {'left out': ['small, owl-vit: connect once']}
    assert 'small, owl-vit is left out: connect once' in caplog.text

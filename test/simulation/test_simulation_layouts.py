# SPDX-License-Identifier: Apache-2.0
"""Evaluation layouts, resized and recoloured models; the demo's layouts stay what they are."""

import numpy as np
import pytest

from lerf_ros.simulation.evaluation_layout import COLORS, TWINS, evaluation_layout
from lerf_ros.simulation.meshes import rounded_box
from lerf_ros.simulation.models import Model, Part, pose, recoloured, resized
from lerf_ros.simulation.objects import ABSENT, CATALOGUE
from lerf_ros.simulation.room import TABLE_SIZE
from lerf_ros.simulation.scene import MIN_GAP, TabletopScene
from lerf_ros.simulation.textures import solid

SEEDS = range(6)


@pytest.fixture(scope='module')
def layouts() -> list[TabletopScene]:
    return [evaluation_layout(seed) for seed in SEEDS]


# Number of objects and the sum of all coordinates of their boxes: a map made of a layout, and
# whatever was published about it, is worth nothing once the layout changes.
@pytest.mark.parametrize('seed, count, total', [(0, 10, 15.84776), (1, 11, 17.5408),
                                                (2, 12, 19.766209), (3, 12, 20.816584),
                                                (4, 11, 20.537377)])
def test_the_layout_of_a_seed_never_changes(seed, count, total):
    objects = TabletopScene.generate(seed).objects
    assert len(objects) == count
    assert sum(float(o.box_min.sum() + o.box_max.sum()) for o in objects) == pytest.approx(
        total, abs=1e-4)


def test_evaluation_layouts_hold_sixty_objects_whose_queries_differ(layouts):
    assert sum(len(layout.objects) for layout in layouts) >= 60
    for layout in layouts:
        queries = [thing.query for thing in layout.objects]
        assert len(set(queries)) == len(queries) >= 10


def test_evaluation_layouts_hold_both_pairs(layouts):
    for seed, layout in enumerate(layouts):
        first, second, third, fourth = layout.objects[:4]
        color, _, noun = first.query.partition(' ')
        other, _, same = second.query.partition(' ')
        assert noun == same == TWINS[seed % len(TWINS)].noun
        assert color != other and {color, other} <= set(COLORS)
        assert third.group == fourth.group != first.group and third.query != fourth.query
        rest = [thing.group for thing in layout.objects[4:]]
        assert len(set(rest)) == len(rest) and not {first.group, third.group} & set(rest)


def test_evaluation_layouts_stand_apart_on_the_table(layouts):
    for layout in layouts:
        for i, a in enumerate(layout.objects):
            assert np.all(np.abs([a.box_min[:2], a.box_max[:2]]) <= np.asarray(TABLE_SIZE) / 2)
            for b in layout.objects[:i]:
                apart = np.maximum(a.box_min - b.box_max, b.box_min - a.box_max)[:2].max()
                assert apart >= MIN_GAP - 1e-6, f'{a.name} and {b.name}'


def test_an_evaluation_layout_is_the_same_for_a_seed(layouts):
    again = evaluation_layout(1)
    for a, b in zip(again.objects, layouts[1].objects, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.box_max, b.box_max)


def test_twins_are_kinds_of_the_catalogue_and_their_parts_exist():
    kinds = {kind.query: kind for kind in CATALOGUE}
    for twins in TWINS:
        parts = kinds[twins.query].build(np.random.default_rng(0)).parts
        assert max(twins.parts) < len(parts) and len(set(twins.colors)) >= 2
        assert not set(ABSENT) & set(twins.noun.split())


def striped(points: np.ndarray) -> np.ndarray:
    return np.sin(points * 50)


def test_a_resized_model_is_larger_in_all_its_parts_and_keeps_its_pattern():
    box = rounded_box((0.1, 0.2, 0.3), 0.001).moved((0, 0, 0.15))
    model = Model('box', (Part(box, striped, 0.3), Part(box, striped, 0.3, pose(0.5, 0, 0.1))))
    large = resized(model, 1.2)
    for before, after in zip(model.parts, large.parts, strict=True):
        np.testing.assert_allclose(after.world_vertices(), 1.2 * before.world_vertices())
        np.testing.assert_allclose(after.color(after.mesh.vertices.astype(np.float32)),
                                   before.color(before.mesh.vertices.astype(np.float32)),
                                   atol=1e-5)


def test_a_recoloured_model_keeps_its_form_and_its_other_parts():
    box = rounded_box((0.1, 0.2, 0.3), 0.001)
    model = Model('box', (Part(box, solid((0, 0, 1))), Part(box, striped)))
    red = recoloured(model, 'red box', (0,), solid((1, 0, 0)))
    assert red.name == 'red box' and red.parts[1] is model.parts[1]
    assert red.parts[0].mesh is box
    np.testing.assert_array_equal(red.parts[0].color(np.zeros((1, 3))), [[1, 0, 0]])

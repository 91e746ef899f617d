# SPDX-License-Identifier: Apache-2.0
"""Parts of simulated objects have names, labels and boxes of their own."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.scene import label_names, part_labels

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'bench'))

from named_parts import PART_NAMES, name_parts


@pytest.mark.parametrize('noun', PART_NAMES)
def test_every_named_part_is_a_mesh_of_a_kind_of_the_catalogue(noun):
    kinds = [kind for kind in CATALOGUE if kind.query.endswith(noun)]
    assert kinds
    for kind in kinds:
        count = len(kind.build(np.random.default_rng(0)).parts)
        meshes = [k for indices in PART_NAMES[noun].values() for k in indices]
        assert len(set(meshes)) == len(meshes) and max(meshes) < count


@pytest.fixture(scope='module')
def layout():
    return evaluation_layout(200)     # two mugs, a guitar, a lamp, a dumbbell, a toaster


def test_labels_of_objects_and_room_stay_and_parts_come_behind(layout):
    naming, names = name_parts(layout), label_names(layout)
    assert naming.names[:len(names)] == names
    assert naming.names[len(names):][:2] == ('red mug handle', 'blue mug handle')
    changed = naming.labels != part_labels(layout)
    assert set(naming.labels[changed]) == {part.label for part in naming.parts}
    # Body and coffee of a mug are still the mug.
    assert naming.labels[:3].tolist() == [0, len(names), 0]


def test_a_part_lies_within_its_object_and_is_smaller(layout):
    for part in name_parts(layout).parts:
        thing = layout.objects[part.thing]
        assert (part.box_min >= thing.box_min - 1e-9).all()
        assert (part.box_max <= thing.box_max + 1e-9).all()
        assert np.prod(part.box_max - part.box_min) < np.prod(thing.box_max - thing.box_min)

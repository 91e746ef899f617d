# SPDX-License-Identifier: Apache-2.0
"""What an arm must not hit around a mug on a table."""

import numpy as np
import pytest
from rooms import MUG, box, known_space, mug_hit

from lerf_ros.robot.surroundings import hull


def test_the_hit_its_points_and_the_table_are_named():
    found = known_space().surroundings(mug_hit(), 0.6)
    assert found.target.name == 'mug'
    assert found.target.size == pytest.approx([MUG[1]] * 3)
    assert found.target.T_world_box[:3, 3] == pytest.approx(MUG[0])
    assert len(found.points) == 27 and found.points[:, 2].min() > 0.74     # none of the table
    table = next(box for box in found.others if box.name == 'surface_1')
    top = table.T_world_box[2, 3] + table.size[2] / 2
    assert top == pytest.approx(0.74, abs=1e-6) and table.size[2] == pytest.approx(0.02)
    assert all(box.name != 'thing_2' for box in found.others)              # the mug itself


def test_things_out_of_reach_are_left_out_and_near_ones_come_first():
    beside = box((0.35, 0.0, 0.8), (0.1, 0.1, 0.1))
    found = known_space(extra=beside).surroundings(mug_hit(), 0.6)
    names = [item.name for item in found.others]
    assert 'thing_4' in names and 'thing_3' not in names    # thing_3 stands in the corner
    assert 'surface_0' not in names                         # the floor is 0.8 m below


def test_the_mesh_holds_all_points_and_faces_outward():
    points = box((1.0, 2.0, 0.5), (0.1, 0.2, 0.1))
    mesh = hull('thing', points)
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(0.1 * 0.2 * 0.1)
    assert hull('flat', points[points[:, 2] == points[:, 2].min()]) is None
    assert hull('few', points[:3]) is None

# SPDX-License-Identifier: Apache-2.0
"""An answer in which every field says something."""

from dataclasses import replace

import numpy as np
from ros_bench import answer

from lerf_ros.query.answer import Grasp, Timing


def shifted(x=0.0, y=0.0, z=0.0):
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


GRASP = Grasp(shifted(1, 2, 3), shifted(1, 2, 2.9), shifted(1, 2, 2.8), 0.06, 0.9, 0.95, 0.5)


def full_answer():
    """Two phrases, a grasp, a calibrated probability."""
    plain = answer('mug, cup')
    hit = replace(plain.hits[0], label='cup', probability=0.75)
    return replace(plain, hits=(hit,), texts=('mug', 'cup'), labels=np.array([1, 0], np.uint32),
                   grasps=(GRASP,), T_world_target=GRASP.T_world_grasp, probability=0.875,
                   observed=0.5, timing=Timing(0.25, 0.125, 0.0625))

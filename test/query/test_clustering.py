# SPDX-License-Identifier: Apache-2.0
"""DBSCAN gives what scikit-learn's gives, point by point, without loading scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest

from lerf_ros.query.clustering import dbscan_labels


@pytest.mark.parametrize('seed', range(20))
def test_labels_are_those_of_scikit_learn(seed):
    from sklearn.cluster import DBSCAN
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 3, (6, 4))
    points = np.concatenate([rng.normal(center, rng.uniform(0.05, 0.3), (rng.integers(3, 80), 4))
                             for center in centers])
    reach, least = rng.uniform(0.05, 0.5), int(rng.integers(1, 9))
    expected = DBSCAN(eps=reach, min_samples=least, algorithm='kd_tree').fit_predict(points)
    assert dbscan_labels(points, reach, least).tolist() == expected.tolist()


def test_a_chain_an_end_and_a_stray():
    line = np.array([[0.0], [1], [2], [3], [10]])
    assert dbscan_labels(line, 1.0, 3).tolist() == [0, 0, 0, 0, -1]
    assert dbscan_labels(line, 1.0, 4).tolist() == [-1] * 5
    assert dbscan_labels(line, 0.5, 1).tolist() == [0, 1, 2, 3, 4]


def test_a_query_loads_no_scikit_learn():
    code = 'import sys, lerf_ros.map_query; print([m for m in sys.modules if "sklearn" in m])'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'

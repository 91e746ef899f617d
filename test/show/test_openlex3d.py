# SPDX-License-Identifier: Apache-2.0
"""The layout of OpenLex3D's predictions, of a map whose embeddings are known."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import CUBES, axis, cube_index, plain_index, write_map

from lerf_ros import cli
from lerf_ros.index.looks import SecondLooks
from lerf_ros.show.openlex3d import object_embeddings

FLOOR = 1600
EACH = 216      # points of a cube


def test_three_files_that_agree(tmp_path, capsys):
    folder, out = write_map(tmp_path / 'map'), tmp_path / 'out'
    assert cli.main(['export', str(folder), '--format', 'openlex3d', '--out', str(out)]) == 0
    assert '4 objects of 2248 points in metres, encoder words' in capsys.readouterr().out
    embeddings, objects = np.load(out / 'embeddings.npy'), np.load(out / 'index.npy')
    assert embeddings.dtype == np.float32 and objects.shape == (3 * EACH + FLOOR,)
    # embeddings[objects[i]] is that of point i: three cubes, then the floor.
    words = [*CUBES, 'floor']
    for word, first in zip(words, (0, EACH, 2 * EACH, 3 * EACH), strict=True):
        np.testing.assert_allclose(embeddings[objects[first]], axis(word), atol=1e-6)
    assert np.bincount(objects).tolist() == [FLOOR, EACH, EACH, EACH]


def test_other_programs_read_the_cloud(tmp_path):
    open3d = pytest.importorskip('open3d')
    folder, out = write_map(tmp_path / 'map'), tmp_path / 'out'
    assert cli.main(['export', str(folder), '--format', 'openlex3d', '--out', str(out)]) == 0
    cloud = open3d.io.read_point_cloud(str(out / 'point_cloud.pcd'))
    index = cube_index(CUBES)
    np.testing.assert_allclose(np.asarray(cloud.points), index.points_world, atol=1e-6)
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, index.colors, atol=0.01)


def test_a_segment_has_the_scale_of_its_size_and_its_second_looks():
    # 0.1 m wide at scales 0.1 and 1.0: it is a mug; what is around it is floor. The last point is
    # in no segment, and has the smallest scale.
    points = np.array([[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]])
    codes = np.stack([[axis('mug'), axis('mug'), axis('ball')], [axis('floor')] * 3])
    index = plain_index(points, codes, np.array([0, 0, -1]), np.array([0.1, 1.0]))
    embeddings, objects = object_embeddings(index)
    assert objects.tolist() == [0, 0, 1]
    np.testing.assert_allclose(embeddings, [axis('mug'), axis('ball')], atol=1e-6)
    looks = SecondLooks(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros((1, 4)),
                        axis('plate')[None].astype(np.float16))
    seen = object_embeddings(replace(index, looks=looks))[0]
    np.testing.assert_allclose(seen[0], (axis('mug') + axis('plate')) / np.sqrt(2), atol=1e-3)

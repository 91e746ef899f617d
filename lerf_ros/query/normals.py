# SPDX-License-Identifier: Apache-2.0
"""Which way a surface faces, from the points around: its plane of least squares (Open3D).

The gradient of the field's density is about twice as far off: hash grids are rough.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 24


def surface_normals(points: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3) of points (N, 3), on the side of the cameras (N, 3) that saw them."""
    import open3d as o3d

    if not len(points):
        return np.zeros((0, 3))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
    normals = np.asarray(cloud.normals)
    away = ((origins - points) * normals).sum(1) < 0
    return np.where(away[:, None], -normals, normals)

# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as people write them, and in words what keeps a matrix from being one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.errors import InvalidRequestError

TOLERANCE = 1e-3        # of lengths and angles, as from numbers with four digits
AXES = 'xyz'


def rigid_transform(numbers: Sequence[float]) -> np.ndarray:
    """Returns the transform (4, 4) of x y z qx qy qz qw, or of the 16 numbers of a 4x4 by rows.

    What rounding left of a rotation is made exact. Raises InvalidRequestError, which says what is
    wrong: another count of numbers, a scale, a mirrored axis, a quaternion that is none.
    """
    values = np.asarray(numbers, np.float64).ravel()
    if len(values) not in (7, 16):
        raise InvalidRequestError(f'a transform has 7 numbers, x y z qx qy qz qw, or the 16 of a '
                                  f'4x4 matrix; these are {len(values)}')
    if not np.isfinite(values).all():
        raise InvalidRequestError('all numbers of a transform must be finite')
    T = of_quaternion(values) if len(values) == 7 else values.reshape(4, 4)
    if not np.allclose(T[3], [0, 0, 0, 1], atol=TOLERANCE):
        raise InvalidRequestError(f'the last row of a transform is 0 0 0 1, not '
                                  f'{" ".join(f"{value:g}" for value in T[3])}: is the matrix '
                                  'written by columns?')
    if words := no_rotation(T[:3, :3]):
        raise InvalidRequestError(words)
    left, _, right = np.linalg.svd(T[:3, :3])
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = left @ right, T[:3, 3]
    return out


def of_quaternion(values: np.ndarray) -> np.ndarray:
    """Returns the transform (4, 4) of x y z qx qy qz qw; InvalidRequestError for another length."""
    length = float(np.linalg.norm(values[3:]))
    if abs(length - 1) > TOLERANCE:
        raise InvalidRequestError(f'a quaternion qx qy qz qw has length 1, and this one '
                                  f'{length:g}: no turn at all is 0 0 0 1')
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(values[3:]).as_matrix(), values[:3]
    return T


def no_rotation(matrix: np.ndarray) -> str:
    """Returns in words why a matrix (3, 3) is no rotation; empty where it is one."""
    if np.allclose(matrix.T @ matrix, np.eye(3), atol=2 * TOLERANCE):
        return mirrored(matrix) if np.linalg.det(matrix) < 0 else ''
    lengths = np.linalg.norm(matrix, axis=0)
    if np.allclose(matrix.T @ matrix, np.diag(lengths ** 2), atol=2 * TOLERANCE):
        if np.ptp(lengths) <= TOLERANCE:
            return (f'the transform scales by {lengths.mean():g}, and a map keeps its lengths: '
                    'give a rotation and a translation in metres')
        stretched = ', '.join(f'{axis} by {length:g}' for axis, length in zip(
            AXES, lengths, strict=True) if abs(length - 1) > TOLERANCE)
        return (f'the transform scales {stretched}, and a map keeps its lengths: give a rotation '
                'and a translation in metres')
    return 'the first three columns of the transform are not at right angles: it is no rotation'


def mirrored(matrix: np.ndarray) -> str:
    """Returns in words which axis an orthonormal matrix (3, 3) of determinant -1 mirrors.

    It is the one without whose mirroring the rest is the smallest turn.
    """
    traces = [np.trace(matrix) - 2 * matrix[k, k] for k in range(3)]
    return (f'the transform mirrors an axis ({AXES[int(np.argmax(traces))]}; its determinant is '
            '-1), so left would be right: give a rotation and a translation')

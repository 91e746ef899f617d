# SPDX-License-Identifier: Apache-2.0
"""Point clouds with relevancy to and from messages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2, PointField

from lerf_ros.nodes.common.conversions.images import byte_array
from lerf_ros.query.answer import Answer

CLOUD_FIELDS = ('x', 'y', 'z', 'rgb', 'relevancy', 'label', 'hit')
NUMBERS = ('label', 'hit')
CLOUD_TYPE = np.dtype([(name, '<u4' if name in ('rgb', *NUMBERS) else '<f4')
                       for name in CLOUD_FIELDS])
POINT_TYPES = {PointField.FLOAT32: '<f4', PointField.UINT32: '<u4'}
MAX_ROUNDING = 0.002    # world units by which single precision may move a point of a cloud


def to_cloud(points: np.ndarray, colors: np.ndarray, relevancy: np.ndarray, frame_id: str,
             stamp: Time, labels: np.ndarray | int = 0,
             hits: np.ndarray | int = 0) -> PointCloud2:
    """Returns the cloud of points (N, 3), colors (N, 3) uint8, relevancy (N,) and labels (N,).

    hits (N,): number of the hit, from 1, that each point is part of, 0 for none. rgb is a float32
    by type whose bits are 0x00RRGGBB, as PCL and RViz expect it.
    """
    cloud = np.zeros(len(points), CLOUD_TYPE)
    cloud['x'], cloud['y'], cloud['z'] = np.asarray(points, np.float32).reshape(-1, 3).T
    red, green, blue = np.asarray(colors, np.uint32).reshape(-1, 3).T
    cloud['rgb'] = red << 16 | green << 8 | blue
    cloud['relevancy'], cloud['label'], cloud['hit'] = relevancy, labels, hits
    fields = [PointField(name=name, offset=4 * i, count=1, datatype=PointField.UINT32
                         if name in NUMBERS else PointField.FLOAT32)
              for i, name in enumerate(CLOUD_FIELDS)]
    msg = PointCloud2(height=1, width=len(cloud), fields=fields, is_dense=True,
                      is_bigendian=False, point_step=CLOUD_TYPE.itemsize,
                      row_step=CLOUD_TYPE.itemsize * len(cloud))
    msg.header.frame_id, msg.header.stamp = frame_id, stamp
    msg.data = byte_array(cloud)
    return msg


def colored_cloud(points: np.ndarray, colors: np.ndarray, frame_id: str,
                  stamp: Time) -> PointCloud2:
    """Returns the cloud of points (N, 3) in their colours (N, 3) uint8: x, y, z and rgb alone."""
    kind = np.dtype([(name, CLOUD_TYPE[name]) for name in CLOUD_FIELDS[:4]])
    cloud = np.zeros(len(points), kind)
    cloud['x'], cloud['y'], cloud['z'] = np.asarray(points, np.float32).reshape(-1, 3).T
    red, green, blue = np.asarray(colors, np.uint32).reshape(-1, 3).T
    cloud['rgb'] = red << 16 | green << 8 | blue
    msg = PointCloud2(height=1, width=len(cloud), is_dense=True, is_bigendian=False, fields=[
        PointField(name=name, offset=4 * i, count=1, datatype=PointField.FLOAT32)
        for i, name in enumerate(CLOUD_FIELDS[:4])], point_step=kind.itemsize,
        row_step=kind.itemsize * len(cloud))
    msg.header.frame_id, msg.header.stamp = frame_id, stamp
    msg.data = byte_array(cloud)
    return msg


class CloudPoints(NamedTuple):
    """What a cloud of an answer says of N points, as `to_cloud` took it.

    points (N, 3) float64. colors (N, 3) uint8. relevancy (N,) float64. hits (N,) uint32: number of
    the hit, from 1, that each is part of, 0 for none.
    """

    points: np.ndarray
    colors: np.ndarray
    relevancy: np.ndarray
    hits: np.ndarray


def read_cloud(msg: PointCloud2) -> CloudPoints:
    """Returns the points of a cloud that `to_cloud` made; none for a message without fields."""
    if not msg.fields or not msg.width:
        return CloudPoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0),
                           np.zeros(0, np.uint32))
    cloud = np.frombuffer(msg.data, np.dtype({
        'names': [field.name for field in msg.fields], 'itemsize': msg.point_step,
        'formats': [POINT_TYPES[field.datatype] for field in msg.fields],
        'offsets': [field.offset for field in msg.fields]}))
    packed = np.ascontiguousarray(cloud['rgb']).view('<u4')
    colors = np.stack([packed >> 16, packed >> 8, packed], -1) & 255
    points = np.stack([cloud['x'], cloud['y'], cloud['z']], -1).astype(np.float64)
    return CloudPoints(points, colors.astype(np.uint8), cloud['relevancy'].astype(np.float64),
                       np.array(cloud['hit']))


def rounding_note(answer: Answer) -> str:
    """Returns advice where large coordinates make the answer's cloud coarse; '' elsewhere.

    PointCloud2 stores x, y and z in single precision, and RViz draws nothing else.
    """
    largest = np.abs(answer.points_world).max(initial=0.0)
    error = float(np.spacing(np.float32(largest))) / 2
    if not error > MAX_ROUNDING:
        return ''
    return (f'coordinates in {answer.frame_id!r} reach {largest:.0f}: the points of a PointCloud2 '
            f'(single precision) are off by up to {error:.3f} there, hits and grasps are not. For '
            'exact clouds ask with the frame_id of a frame near the scene, or map in one: ros2 run '
            'tf2_ros static_transform_publisher publishes it')


def answer_to_cloud(answer: Answer, stamp: Time) -> PointCloud2:
    """Returns every index point in the answer's frame, with its relevancy and its hit, if any."""
    from lerf_ros.show.colors import answer_colors
    return to_cloud(answer.points_world, answer_colors(answer), answer.relevancy, answer.frame_id,
                    stamp, answer.labels if len(answer.labels) else 0,
                    answer.hit_numbers if len(answer.hit_numbers) else 0)

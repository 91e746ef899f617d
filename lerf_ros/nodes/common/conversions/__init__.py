# SPDX-License-Identifier: Apache-2.0
"""ROS messages to and from what the core computes with.

Import the functions from here; the modules below hold one kind of message each.
"""

from lerf_ros.nodes.common.conversions.clouds import (
    answer_to_cloud,
    colored_cloud,
    read_cloud,
    rounding_note,
    to_cloud,
)
from lerf_ros.nodes.common.conversions.colors import (
    ColorReader,
    image_to_rgb,
)
from lerf_ros.nodes.common.conversions.depth import depth_to_metres
from lerf_ros.nodes.common.conversions.geometry import (
    camera_from_info,
    matrix_to_pose,
    matrix_to_transform,
    ns_to_stamp,
    pose_to_matrix,
    stamp_to_ns,
    stamped_transform,
    to_camera_info,
    transform_to_matrix,
)
from lerf_ros.nodes.common.conversions.images import (
    mask_to_valid,
    read_mask,
    resized_nearest,
    to_image,
)

__all__ = ['ColorReader', 'answer_to_cloud', 'camera_from_info', 'colored_cloud',
           'depth_to_metres', 'image_to_rgb', 'mask_to_valid', 'matrix_to_pose',
           'matrix_to_transform', 'ns_to_stamp', 'pose_to_matrix', 'read_cloud', 'read_mask',
           'resized_nearest', 'rounding_note', 'stamp_to_ns', 'stamped_transform',
           'to_camera_info', 'to_cloud', 'to_image', 'transform_to_matrix']

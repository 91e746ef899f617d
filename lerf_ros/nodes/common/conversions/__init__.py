# SPDX-License-Identifier: Apache-2.0
"""ROS messages of images, cameras, poses and clouds to and from what the core computes with.

Import the functions from here; the modules below hold one kind of message each.
"""

from lerf_ros.nodes.common.conversions.cameras import (
    camera_from_info,
    distortion_of,
    to_camera_info,
)
from lerf_ros.nodes.common.conversions.clouds import answer_to_cloud, coarse_note, to_cloud
from lerf_ros.nodes.common.conversions.colors import compressed_to_rgb, image_to_rgb, wide_bits
from lerf_ros.nodes.common.conversions.depth import depth_to_metres
from lerf_ros.nodes.common.conversions.images import (
    byte_array,
    mask_to_valid,
    pixel_rows,
    read_mask,
    resized_nearest,
    to_image,
)
from lerf_ros.nodes.common.conversions.poses import (
    matrix_to_pose,
    matrix_to_transform,
    pose_to_matrix,
    rigid_matrix,
    transform_to_matrix,
)
from lerf_ros.nodes.common.conversions.stamps import ns_to_stamp, stamp_to_ns

__all__ = ['answer_to_cloud', 'byte_array', 'camera_from_info', 'coarse_note', 'compressed_to_rgb',
           'depth_to_metres', 'distortion_of', 'image_to_rgb', 'mask_to_valid', 'matrix_to_pose',
           'matrix_to_transform', 'ns_to_stamp', 'pixel_rows', 'pose_to_matrix', 'read_mask',
           'resized_nearest', 'rigid_matrix', 'stamp_to_ns', 'to_camera_info', 'to_cloud',
           'to_image', 'transform_to_matrix', 'wide_bits']

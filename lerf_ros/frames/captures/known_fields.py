# SPDX-License-Identifier: Apache-2.0
"""Sorts the fields of transforms.json into used, irrelevant and refused ones.

They are those that nerfstudio, instant-ngp, SDFStudio, Blender's synthetic scenes, NeRFCapture,
the converters of Record3D and Polycam, and ScanNet++ write. A field that may change the meaning of
poses, lens, depth or pixels is used or refused; other unknown fields are noted as unused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.intrinsics import LENS_FIELDS, UNDISTORT
from lerf_ros.frames.captures.posed_folder import Notes
from lerf_ros.geometry.camera import PINHOLE

USED = frozenset((
    'frames', 'file_path', 'transform_matrix', 'stamp_ns', 'metric', 'w', 'h', 'fl_x', 'fl_y',
    'cx', 'cy', *LENS_FIELDS[PINHOLE], 'distortion_params',
    'camera_model', 'is_fisheye', 'camera_angle_x', 'camera_angle_y', 'x_fov', 'y_fov',
    'depth_file_path', 'depth_path', 'depth_unit_scale_factor', 'integer_depth_scale',
    'enable_depth_loading', 'mask_path', 'mask_file_path', 'fisheye_crop_radius', 'n_frames',
    'is_bad', 'applied_scale', 'applied_transform'))
# Position of the unit cube, training and display options, origin of each image, and fields that
# repeat others.
HARMLESS = frozenset((
    'aabb_scale', 'scale', 'offset', 'aabb', 'render_aabb', 'up', 'sharpen', 'envmap',
    'importance_sampling', 'n_extra_learnable_dims', 'enable_ray_loading', 'fix_premult',
    'sharpness', 'sharpness_discard_threshold', 'driver_parameters', 'fovx', 'fovy',
    'orientation_override', 'auto_scale_poses_override', 'ply_file_path', 'colmap_im_id',
    'train_filenames', 'val_filenames', 'test_filenames', 'test_frames', 'split', 'rotation',
    'objects', 'mask_instance_path', 'timestamp', 'time', 'has_mask', 'blur_score',
    'motion_blur_score', 'exposure_time', 'semantic_path', 'normal_path', 'normal_file_path',
    'mono_depth_path', 'mono_normal_path', 'camera_label', 'image_id', 'camera_id', 'scene_box',
    'has_mono_prior', 'has_sensor_depth', 'has_foreground_mask', 'has_sparse_sfm_points', 'pairs',
    # A rolling shutter has no effect without a pose for the end of the exposure.
    'rolling_shutter', 'rolling_shutter_time', 'camera_linear_velocity',
    'camera_angular_velocity',
    # What lerf_ros writes beside submaps.
    'of_submaps'))
LENSES = 'is a lens that is not supported; ' + UNDISTORT
COLOUR_KEY = 'hides a colour of the images: write alpha channels (PNG) or mask_path instead'
REFUSED: Mapping[str, str] = {
    'ftheta_p0': LENSES, 'latlong': LENSES, 'equirectangular': LENSES, 'orthographic': LENSES,
    'white_transparent': COLOUR_KEY, 'black_transparent': COLOUR_KEY, 'mask_color': COLOUR_KEY,
    'from_mitsuba': "says that poses have Mitsuba's axes: turn them by half about the camera's y "
                    'axis and delete the field',
    'normal_mts_args': "says that poses have Mitsuba's axes: turn them by half about the camera's "
                       'y axis and delete the field',
    'transform_matrix_end': 'says that the camera moved during the exposure: write the pose of '
                            'its middle as transform_matrix and delete start and end'}
# Names that suggest a change of meaning.
CHANGES = re.compile(
    r'depth|mask|alpha|distort|fov|scale|unit|conven|coord|axis|axes|pose|transform|matrix|'
    r'rotat|intrinsic|lens|fish|crop|skew|shutter|c2w|w2c|camtoworld|cam_to|'
    r'^k$|^[kps]\d$|tau|^f[xy]$',
    re.IGNORECASE)


def check_fields(fields: Mapping[str, object], name: str, notes: Notes) -> None:
    """Notes unused fields; raises DatasetError for one that may change the meaning of others."""
    for field, value in fields.items():
        if field in USED or field in HARMLESS or is_neutral(value):
            continue
        if field in REFUSED and not same_as_start(fields, field):
            raise DatasetError(f'{name}: {field} = {short(value)} {REFUSED[field]}')
        if field in REFUSED or field == 'transform_matrix_start':
            continue
        if CHANGES.search(field):
            raise DatasetError(
                f'{name}: {field} = {short(value)} is not known here, and a field of this name may '
                'change what poses, lens, depth or pixels mean. Delete it from the file if it does '
                'not, or say it in the fields of nerfstudio (ns-process-data writes them)')
        notes.add(f'{field} is not known and not used')


def is_neutral(value: object) -> bool:
    """Returns whether a value is null, false, zero, empty or the identity transform."""
    if value is None or value is False or value in (0, '', [], {}):
        return True
    if not isinstance(value, list):
        return False
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return not array.any() or (array.ndim == 2 and np.array_equal(array, np.eye(*array.shape)))


def same_as_start(fields: Mapping[str, object], field: str) -> bool:
    """Returns whether a field is the pose at the end of the exposure and equals that at its start.
    """
    start = fields.get('transform_matrix_start', fields.get('transform_matrix'))
    return field == 'transform_matrix_end' and fields[field] == start


def short(value: object) -> str:
    """Shortens the text of a value for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + '...'

# SPDX-License-Identifier: Apache-2.0
"""Reads intrinsics and lens distortion from the fields of transforms.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lerf_ros.errors import DatasetError, FrameError
from lerf_ros.frames.captures.posed_folder import Notes
from lerf_ros.geometry.camera import FISHEYE, PINHOLE, PinholeCamera

PINHOLE_MODELS = ('SIMPLE_PINHOLE', 'PINHOLE', 'SIMPLE_RADIAL', 'RADIAL', 'OPENCV',
                  'FULL_OPENCV')
FISHEYE_MODELS = ('OPENCV_FISHEYE', 'SIMPLE_RADIAL_FISHEYE', 'RADIAL_FISHEYE')
FISHEYE_MODEL = 'OPENCV_FISHEYE'
# The fields of the distortion, in the order of PinholeCamera.
LENS_FIELDS = {PINHOLE: ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6', 's1', 's2', 's3', 's4',
                         'tau_x', 'tau_y'),
               FISHEYE: ('k1', 'k2', 'k3', 'k4')}
# Fields that express the same thing: a frame that has one of a group replaces the file's group.
ALTERNATIVES = (('fl_x', 'camera_angle_x', 'x_fov'), ('fl_y', 'camera_angle_y', 'y_fov'),
                ('distortion_params', *LENS_FIELDS[PINHOLE]),
                ('camera_model', 'is_fisheye'))
# Least plausible focal length as a fraction of the width: a fisheye of 360 degrees has 0.16. Values
# that were divided by the width are below it too.
SHORTEST_FOCAL = 0.02
# Relative difference by which focal length and field of view of one file may differ by rounding.
FOCAL_TOLERANCE = 0.02
LARGEST = 1e300
UNDISTORT = 'undistort the images to a pinhole camera first (colmap image_undistorter, or OpenCV)'


def merged_fields(content: Mapping[str, object], frame: Mapping[str, object]) -> dict[str, object]:
    """Returns the fields of a frame, and those of the file that the frame does not replace."""
    replaced = {name for group in ALTERNATIVES if any(frame.get(n) is not None for n in group)
                for name in group}
    distortion_of_its_own = {name for name in ALTERNATIVES[2] if frame.get(name) is not None}
    if distortion_of_its_own and 'distortion_params' not in distortion_of_its_own:
        replaced -= set(ALTERNATIVES[2]) - {'distortion_params'}   # k1 to p2 replace one by one
    return {**{k: v for k, v in content.items() if k not in replaced and k != 'frames'},
            **{k: v for k, v in frame.items() if v is not None}}


def camera_fields(camera: PinholeCamera) -> dict[str, object]:
    """Returns intrinsics, distortion and lens model as fields of transforms.json."""
    # k4 to k6 are unambiguous only in OpenCV's full model.
    return {'w': camera.width, 'h': camera.height, 'fl_x': camera.fx, 'fl_y': camera.fy,
            'cx': camera.cx, 'cy': camera.cy,
            'camera_model': FISHEYE_MODEL if camera.model == FISHEYE else 'FULL_OPENCV',
            **dict(zip(LENS_FIELDS[camera.model], camera.distortion, strict=False))}


def parse_camera(fields: Mapping[str, object], name: str,
                 image_size: Callable[[], tuple[int, int]] | None = None,
                 notes: Notes | None = None) -> PinholeCamera:
    """Builds a camera from the fields of an image.

    name: names the image in messages. image_size: returns width and height of the image; called if
    the fields lack them. Raises DatasetError for an unsupported lens and for implausible values.
    """
    notes = Notes() if notes is None else notes
    model = lens_model(fields, name)
    width, height = size_of(fields, name, image_size, notes)
    fx, fy = focal_lengths(fields, name, width, height, notes)
    if fields.get('cx') is None or fields.get('cy') is None:
        notes.add('cx and cy are not given: the middle of the image is taken')
    cx = number(fields, 'cx', name, width / 2)
    cy = number(fields, 'cy', name, height / 2)
    # A cropped image may not contain the principal point, but it is not far away.
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        raise DatasetError(f'{name}: the principal point cx = {cx:g}, cy = {cy:g} is far outside '
                           f'of the image of {width}x{height} pixels')
    if 0 < min(fx, fy) < SHORTEST_FOCAL * width or (max(cx, cy) <= 1.0 and min(width, height) > 16):
        raise DatasetError(
            f'{name}: fl_x = {fx:g}, fl_y = {fy:g}, cx = {cx:g}, cy = {cy:g} are not those of an '
            f'image of {width}x{height} pixels: pixels are expected, not shares of the width')
    try:
        return PinholeCamera(width, height, fx, fy, cx, cy, distortion(fields, model, name),
                             FISHEYE if model in FISHEYE_MODELS else PINHOLE)
    except FrameError as error:
        raise DatasetError(f'{name}: {error}') from error


def lens_model(fields: Mapping[str, object], name: str) -> str:
    """Returns COLMAP's name of the lens model; instant-ngp writes `is_fisheye` instead."""
    said, fisheye = fields.get('camera_model'), fields.get('is_fisheye')
    if fisheye is not None and not isinstance(fisheye, bool):
        raise DatasetError(f'{name}: is_fisheye = {fisheye!r}: true or false is needed')
    if said is None:
        return FISHEYE_MODEL if fisheye else 'OPENCV'
    model = 'OPENCV' if str(said).upper() == 'PERSPECTIVE' else str(said).upper()
    if model not in (*PINHOLE_MODELS, *FISHEYE_MODELS):
        raise DatasetError(
            f'{name}: camera model {model} is not supported, only '
            f'{", ".join((*PINHOLE_MODELS, *FISHEYE_MODELS))}; {UNDISTORT}')
    if fisheye is not None and fisheye != (model in FISHEYE_MODELS):
        raise DatasetError(f'{name}: camera_model {model} and is_fisheye {str(fisheye).lower()} '
                           'contradict each other: delete the wrong one')
    return model


def size_of(fields: Mapping[str, object], name: str,
            image_size: Callable[[], tuple[int, int]] | None, notes: Notes) -> tuple[int, int]:
    """Returns width and height in pixels, from the fields or from the image."""
    if fields.get('w') is None and fields.get('h') is None and image_size is not None:
        notes.add('w and h are not given: the size of the images is taken')
        return image_size()
    width, height = number(fields, 'w', name), number(fields, 'h', name)
    if width != int(width) or height != int(height) or min(width, height) < 1:
        raise DatasetError(f'{name}: w = {width:g}, h = {height:g} are not positive whole pixels')
    return int(width), int(height)


def focal_lengths(fields: Mapping[str, object], name: str, width: int, height: int,
                  notes: Notes) -> tuple[float, float]:
    """Returns fx and fy in pixels, from focal lengths or fields of view.

    If only one is given, pixels are taken to be square. The field of view is that of a pinhole
    camera, as in instant-ngp.
    """
    fx = focal_length(fields, 'x', width, name, notes)
    fy = focal_length(fields, 'y', height, name, notes)
    if fx is None and fy is None:
        raise DatasetError(f'{name}: fl_x is missing, for the frame and for the file, and so are '
                           'fl_y, camera_angle_x and camera_angle_y')
    if fx is None or fy is None:
        notes.add('one focal length is given: the pixels are taken to be square')
    focal = fy if fx is None else fx
    assert focal is not None
    return focal, focal if fy is None else fy


def focal_length(fields: Mapping[str, object], axis: str, pixels: int, name: str,
                 notes: Notes) -> float | None:
    """Returns the focal length along one axis in pixels, or None if no field gives it."""
    length, angle, degrees = f'fl_{axis}', f'camera_angle_{axis}', f'{axis}_fov'
    fov = None
    if fields.get(angle) is not None:
        fov = number(fields, angle, name)
    elif fields.get(degrees) is not None:
        angle, fov = degrees, math.radians(number(fields, degrees, name))
    if fields.get(length) is None and fov is None:
        return None
    if fov is not None and not 0 < fov < math.pi:
        if fields.get(length) is None:
            raise DatasetError(f'{name}: {angle} = {fields[angle]} is not between 0 and 180 '
                               'degrees (camera_angle is in radians, fov in degrees)')
        fov = None   # a fisheye's; its focal length holds the same information
    from_fov = None if fov is None else pixels / 2 / math.tan(fov / 2)
    if fields.get(length) is None:
        return from_fov
    value = number(fields, length, name)
    if from_fov is not None and abs(from_fov - value) > FOCAL_TOLERANCE * abs(value):
        notes.add(f'{length} and {angle} contradict each other by more than '
                  f'{FOCAL_TOLERANCE:.0%}: {length} is taken', name)
    return value


def distortion(fields: Mapping[str, object], model: str, name: str) -> tuple[float, ...]:
    """Returns the distortion in PinholeCamera's order: k1, k2, p1, p2, k3, ...; fisheye: k1 to k4.
    """
    if model == 'FULL_OPENCV':
        values = tuple(number(fields, key, name, 0.0) for key in LENS_FIELDS[PINHOLE])
        return values if any(values[8:]) else values[:8]    # only lerf_ros writes more than 8
    more = [key for key in LENS_FIELDS[PINHOLE][6:] if number(fields, key, name, 0.0)]
    if more:
        raise DatasetError(f'{name}: {more[0]} = {fields[more[0]]} belongs to camera_model '
                           f'FULL_OPENCV, not to {model}: correct the one or the other')
    names = ('k1', 'k2', 'k3', 'k4', 'p1', 'p2')
    listed = fields.get('distortion_params')
    if listed is not None:
        if not isinstance(listed, list) or len(listed) != len(names):
            raise DatasetError(
                f'{name}: distortion_params must be the six numbers {", ".join(names)}')
        fields = dict(zip(names, listed))
    k1, k2, k3, k4, p1, p2 = (number(fields, key, name, 0.0) for key in names)
    if model in FISHEYE_MODELS:
        if p1 or p2:
            raise DatasetError(f'{name}: a fisheye lens with p1 = {p1:g}, p2 = {p2:g} is not '
                               f'supported; {UNDISTORT}')
        return k1, k2, k3, k4
    if k4 != 0.0:
        # nerfstudio's k4 multiplies r^8; OpenCV's k4 divides.
        raise DatasetError(f'{name}: k4 = {k4} (a polynomial of eighth degree) is not supported: '
                           'calibrate with k1, k2, k3, p1, p2 or undistort the images')
    return k1, k2, p1, p2, k3


def number(fields: Mapping[str, object], key: str, name: str,
           default: float | None = None) -> float:
    """Returns a field as a finite number; raises DatasetError that names the frame if it is none.

    default: replaces a missing value; None makes a missing value an error.
    """
    value = fields.get(key)
    value = default if value is None else value
    if value is None:
        raise DatasetError(f'{name}: {key} is missing, for the frame and for the file')
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        raise DatasetError(f'{name}: {key} = {repr(value)[:40]} is not a number')
    return float(value)

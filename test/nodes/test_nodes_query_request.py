# SPDX-License-Identifier: Apache-2.0
"""Every field of the request message becomes the core's, or a named error."""

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')
pytest.importorskip('lerf_ros.srv', reason='the interfaces of lerf_ros are not built')

from sensor_msgs.msg import Image, RegionOfInterest

from lerf_ros.errors import BadImageError, InvalidRequestError, InvalidThresholdError
from lerf_ros.msg import QueryRelation
from lerf_ros.nodes.common.conversions import matrix_to_pose, to_image
from lerf_ros.nodes.query.messages import (
    MAX_FRAME_CHARACTERS,
    MAX_HITS,
    MAX_PIXELS,
    check_frame,
    to_request,
    viewpoint_of,
)
from lerf_ros.query.phrases.reading import Relation, RelationKind, Thing
from lerf_ros.query.request import KeyframeCrop, QueryRequest
from lerf_ros.srv import Query

pytestmark = pytest.mark.ros
HOME = np.eye(4)


def test_a_phrase_alone():
    assert to_request(Query.Request(text='red mug'), HOME) == QueryRequest('red mug')


def test_words_and_numbers_pass_as_they_are():
    msg = Query.Request(texts=['mug', 'cup'], negatives=['thing'], rather_than=['bowl'],
                        part='handle', threshold=0.5, max_hits=7, plan_grasps=False)
    assert to_request(msg, HOME) == QueryRequest(
        texts=('mug', 'cup'), negatives=('thing',), rather_than=('bowl',), part='handle',
        threshold=0.5, max_hits=7, plan_grasps=False)


def test_colours_sizes_and_relations_are_fields_of_their_own():
    msg = Query.Request(text='mug', colors=['red'], sizes=['largest'], whole_phrase=True)
    msg.relations = [QueryRelation(kind='on', anchors=['blue box']),
                     QueryRelation(kind='leftmost')]
    assert to_request(msg, HOME) == QueryRequest(
        'mug', colors=('red',), sizes=('largest',), whole_phrase=True,
        relations=(Relation(RelationKind.ON, (Thing('box', ('blue',)),)),
                   Relation(RelationKind.LEFT_OF)))


@pytest.mark.parametrize(('kind', 'anchors', 'said'), [
    ('onto', ['box'], "'onto' is no known relation"), ('on', [], "'on' needs 1 anchor, not 0"),
    ('between', ['box'], "'between' needs 2 anchors, not 1"),
    ('on', ['red one'], "the anchor 'red one'"), ('on', [''], 'names no thing')])
def test_a_relation_that_is_none_is_named(kind, anchors, said):
    msg = Query.Request(text='mug', relations=[QueryRelation(kind=kind, anchors=anchors)])
    with pytest.raises(InvalidRequestError, match=said):
        to_request(msg, HOME)


def test_a_viewpoint_looks_along_the_x_axis_of_a_body_and_the_z_axis_of_a_camera():
    T = np.array([[0.0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    assert viewpoint_of(T, 'base_link').forward.tolist() == [0, 1, 0]
    assert viewpoint_of(T, 'camera_optical_frame').forward.tolist() == [0, 0, 1]
    assert viewpoint_of(T, 'base_link').position.tolist() == [5, 6, 7]


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8'])
def test_a_picture_becomes_rgb(encoding):
    channels = {'mono8': 1, 'rgb8': 3, 'bgr8': 3}.get(encoding, 4)
    # red 10, green 20, blue 30, in the order of the encoding
    order = {'rgb': [10, 20, 30], 'bgr': [30, 20, 10], 'mon': [10]}[encoding[:3]]
    pixel = (order + [255])[:channels]
    msg = Image(width=2, height=1, encoding=encoding, step=2 * channels, data=pixel * 2)
    picture = to_request(Query.Request(image=msg), HOME).image
    expected = [10, 10, 10] if encoding == 'mono8' else [10, 20, 30]
    assert picture.tolist() == [[expected, expected]]


@pytest.mark.parametrize('msg', [
    Image(width=2, height=2, encoding='rgb8', step=6, data=[0] * 11),       # a byte is missing
    Image(width=2, height=2, encoding='xyz48', step=4, data=[0] * 8),
    Image(width=0, height=2, encoding='rgb8', data=[]),
    Image(encoding='rgb8'), Image(width=MAX_PIXELS + 1, height=1, encoding='mono8')])
def test_a_picture_that_cannot_be_read(msg):
    with pytest.raises(BadImageError):
        to_request(Query.Request(image=msg), HOME)


def test_a_crop_of_a_keyframe():
    roi = RegionOfInterest(x_offset=3, y_offset=4, width=20, height=10)
    msg = Query.Request(keyframe=5, keyframe_crop=roi)
    assert to_request(msg, HOME) == QueryRequest(crop=KeyframeCrop(5, 3, 4, 20, 10))
    # the number of a keyframe alone asks for nothing: 0 is a keyframe as well
    assert to_request(Query.Request(text='mug', keyframe=5), HOME).crop is None


def test_a_region_is_turned_into_the_map_frame():
    T_map_frame = np.array([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])
    T_frame_region = np.eye(4)
    T_frame_region[:3, 3] = 1, 2, 3
    msg = Query.Request(text='mug', region_pose=matrix_to_pose(T_frame_region))
    msg.region_size.x, msg.region_size.y, msg.region_size.z = 0.5, 0.25, 0.125
    region = to_request(msg, T_map_frame).region
    # a quarter turn about z: (1, 2) -> (-2, 1), and then by (5, 0, 2)
    np.testing.assert_allclose(region.T_world_region[:3, 3], [3, 1, 5])
    np.testing.assert_allclose(region.T_world_region[:3, 0], [0, 1, 0], atol=1e-12)
    assert region.size.tolist() == [0.5, 0.25, 0.125]
    assert to_request(Query.Request(text='mug'), HOME).region is None


@pytest.mark.parametrize('size', [(1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (math.nan, 1.0, 1.0),
                                  (math.inf, 1.0, 1.0)])
def test_a_region_without_an_extent(size):
    msg = Query.Request(text='mug')
    msg.region_size.x, msg.region_size.y, msg.region_size.z = size
    with pytest.raises(InvalidRequestError):
        to_request(msg, HOME).check()


@pytest.mark.parametrize('field', ['position.x', 'orientation.w'])
def test_a_region_that_is_nowhere(field):
    msg = Query.Request(text='mug')
    msg.region_size.x = msg.region_size.y = msg.region_size.z = 1.0
    part, name = field.split('.')
    setattr(getattr(msg.region_pose, part), name, math.nan)
    with pytest.raises(InvalidRequestError):
        to_request(msg, HOME).check()


def test_a_quaternion_of_length_zero_is_no_rotation():
    msg = Query.Request(text='mug')
    msg.region_size.x = 1.0
    msg.region_pose.orientation.w = 0.0
    with pytest.raises(InvalidRequestError, match='region_pose'):
        to_request(msg, HOME)


def test_limits():
    with pytest.raises(InvalidRequestError, match='max_hits'):
        to_request(Query.Request(text='mug', max_hits=MAX_HITS + 1), HOME)
    with pytest.raises(InvalidThresholdError):
        to_request(Query.Request(text='mug', threshold=math.nan), HOME).check()
    check_frame('a' * MAX_FRAME_CHARACTERS)
    with pytest.raises(InvalidRequestError, match='frame_id'):
        check_frame('a' * (MAX_FRAME_CHARACTERS + 1))


def test_an_image_that_we_wrote_ourselves_is_read():
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    picture = to_request(Query.Request(image=to_image(pixels, 'rgb8')), HOME).image
    np.testing.assert_array_equal(picture, pixels)

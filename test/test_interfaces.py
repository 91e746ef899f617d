# SPDX-License-Identifier: Apache-2.0
"""The generated message types: what an untouched message says, and its named constants."""

import math

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: pip install .[ros], or a sourced one')
msg = pytest.importorskip('lerf_ros.msg', reason='the interfaces are not built')
srv = pytest.importorskip('lerf_ros.srv', reason='the interfaces are not built')


def constants(message_type: type) -> dict[str, int]:
    """The constants of a message type by name; rosidl makes them properties of the metaclass."""
    return {name: getattr(message_type, name) for name in dir(type(message_type))
            if name.isupper() and not name.startswith('_')}


def round_trip(message):
    """The message after serialization and deserialization, as on the wire."""
    from rclpy.serialization import deserialize_message, serialize_message
    return deserialize_message(serialize_message(message), type(message))


def test_a_query_of_text_alone_leaves_everything_to_the_node():
    request = srv.Query.Request(text='red mug')
    assert request.text == 'red mug'
    assert list(request.negatives) == []   # the canonical ones
    assert request.threshold == 0.0        # the node's
    assert request.max_hits == 0           # the node's
    assert request.return_cloud is False


def test_an_untouched_response_claims_nothing():
    response = srv.Query.Response()
    assert not response.success and not response.found and not response.has_target
    assert response.error_code == srv.Query.Response.NONE
    assert list(response.hits) == []
    assert response.target_pose.header.frame_id == ''
    assert response.target_pose.pose.orientation.w == 1.0
    assert (response.snapshot_stamp.sec, response.snapshot_stamp.nanosec) == (0, 0)
    assert response.metric is False
    assert response.cloud.width * response.cloud.height == 0


def test_absent_is_an_answer_and_not_an_error():
    response = srv.Query.Response(success=True, found=0)
    assert response.error_code == srv.Query.Response.NONE == 0


def test_error_codes_are_named_and_distinct():
    codes = constants(srv.Query.Response)
    presence = {name: codes.pop(name) for name in ('ABSENT', 'PRESENT', 'NOT_OBSERVED')}
    assert presence == {'ABSENT': 0, 'PRESENT': 1, 'NOT_OBSERVED': 2}
    assert {'NONE', 'EMPTY_TEXT', 'NO_SNAPSHOT', 'MAP_UNREADABLE', 'ENCODER_UNAVAILABLE',
            'ENCODER_MISMATCH', 'INVALID_THRESHOLD', 'NOT_ACTIVE', 'BUSY', 'INTERNAL'} <= set(codes)
    assert len(set(codes.values())) == len(codes)
    assert all(0 <= code < 2 ** 16 for code in codes.values())


def test_states_are_named_and_waiting_is_the_first():
    assert constants(msg.FieldStatus) == {'WAITING': 0, 'MAPPING': 1, 'PAUSED': 2, 'FAILED': 3,
                                          'SETTLED': 4}
    assert msg.FieldStatus().state == msg.FieldStatus.WAITING


def test_a_response_with_a_hit_survives_the_wire():
    hit = msg.QueryHit(relevancy=0.75, scale=0.25, points=120, keyframes=7)
    hit.pose.position.x, hit.size.z = 1.5, 0.125
    response = srv.Query.Response(success=True, found=1, query_id=2 ** 40, hits=[hit])
    received = round_trip(response)
    assert received == response
    assert received.hits[0].pose.position.x == 1.5
    assert received.query_id == 1_099_511_627_776


def test_unknown_quality_survives_the_wire_as_nan():
    status = msg.FieldStatus(psnr=math.nan, steps=2 ** 33, message='warte auf Bilder: später')
    received = round_trip(status)
    assert math.isnan(received.psnr)
    assert received.steps == 8_589_934_592
    assert received.message == 'warte auf Bilder: später'


def test_the_type_of_tf_is_the_one_that_tf2_speaks():
    from tf2_msgs import msg as tf2_msgs
    fields = tf2_msgs.TFMessage.get_fields_and_field_types()
    assert fields == {'transforms': 'sequence<geometry_msgs/TransformStamped>'}


def test_an_error_code_means_the_same_in_every_service():
    meanings = {}
    for service in (srv.Query, srv.SaveMap, srv.LoadMap, srv.ListMaps, srv.MapCommand):
        for name, code in constants(service.Response).items():
            if name not in ('ABSENT', 'PRESENT', 'NOT_OBSERVED'):
                assert meanings.setdefault(name, code) == code, name
    assert len(set(meanings.values())) == len(meanings)

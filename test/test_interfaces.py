# SPDX-License-Identifier: Apache-2.0
"""The generated message types: what an untouched message says, and its named constants."""

import math

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: pip install .[ros], or a sourced one')
msg = pytest.importorskip('lerf_ros.msg', reason='the interfaces are not built')
srv = pytest.importorskip('lerf_ros.srv', reason='the interfaces are not built')
action = pytest.importorskip('lerf_ros.action', reason='the interfaces are not built')


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
    assert not response.success and not response.has_target
    assert response.error_code == msg.ErrorCode.NONE
    assert list(response.hits) == []
    assert response.header.frame_id == ''
    assert response.target_pose.pose.orientation.w == 1.0
    assert (response.snapshot_stamp.sec, response.snapshot_stamp.nanosec) == (0, 0)
    assert response.metric is False
    assert response.cloud.width * response.cloud.height == 0


def test_absent_is_an_answer_and_not_an_error():
    response = srv.Query.Response(success=True, presence=msg.Presence.ABSENT)
    assert response.error_code == msg.ErrorCode.NONE == 0


def test_error_codes_are_named_and_distinct():
    codes = constants(msg.ErrorCode)
    assert constants(msg.Presence) == {'ABSENT': 0, 'PRESENT': 1, 'NOT_OBSERVED': 2}
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
    hit.box.center.position.x, hit.box.size.z = 1.5, 0.125
    response = srv.Query.Response(success=True, presence=1, query_id=2 ** 40, hits=[hit])
    received = round_trip(response)
    assert received == response
    assert received.hits[0].box.center.position.x == 1.5
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


def test_boxes_and_detections_are_those_that_vision_msgs_speaks():
    """Name and type of every field, as in vision_msgs 4 (ROS 2 Humble and later)."""
    from vision_msgs import msg as vision_msgs
    assert {name: getattr(vision_msgs, name).get_fields_and_field_types() for name in (
        'BoundingBox3D', 'ObjectHypothesis', 'ObjectHypothesisWithPose', 'Detection3D',
        'Detection3DArray')} == {
        'BoundingBox3D': {'center': 'geometry_msgs/Pose', 'size': 'geometry_msgs/Vector3'},
        'ObjectHypothesis': {'class_id': 'string', 'score': 'double'},
        'ObjectHypothesisWithPose': {'hypothesis': 'vision_msgs/ObjectHypothesis',
                                     'pose': 'geometry_msgs/PoseWithCovariance'},
        'Detection3D': {'header': 'std_msgs/Header',
                        'results': 'sequence<vision_msgs/ObjectHypothesisWithPose>',
                        'bbox': 'vision_msgs/BoundingBox3D', 'id': 'string'},
        'Detection3DArray': {'header': 'std_msgs/Header',
                             'detections': 'sequence<vision_msgs/Detection3D>'}}


def test_an_answer_on_the_topic_has_every_field_of_the_service_that_it_can_have():
    """What only a caller gets: the cloud, and how long it took."""
    response = set(srv.Query.Response.get_fields_and_field_types())
    answer = set(msg.Answer.get_fields_and_field_types())
    assert response - answer == {'map_age', 'encode_time', 'search_time', 'grasp_time', 'cloud'}
    assert answer - response == {'text', 'standing'}


def test_every_error_of_the_core_that_a_client_sees_has_a_code():
    from lerf_ros import errors
    codes = {error.code for error in vars(errors).values()
             if isinstance(error, type) and issubclass(error, errors.LerfError)}
    # These end in a node's log, its exit code or its status, or in the command line.
    inside = {'INVALID_SETTING', 'BAD_FRAME', 'CONTRADICTION', 'BAD_DATASET', 'MAP_IN_THE_WAY'}
    assert codes - inside <= set(constants(msg.ErrorCode))


def test_the_ends_of_a_search_are_named():
    assert constants(action.Find.Result) == {
        'SURE': 0, 'ALL_SEEN': 1, 'TIME_LIMIT': 2, 'CANCELED': 3, 'FAILED': 4}
    assert action.Find.Goal().propose_views is True

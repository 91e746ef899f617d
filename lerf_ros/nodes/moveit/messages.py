# SPDX-License-Identifier: Apache-2.0
"""Grasps and surroundings of a hit as MoveIt 2 takes them.

moveit_msgs is no dependency: it is imported where these functions are called. A `Grasp` goes to a
pick stage of MoveIt Task Constructor or of your own; a `CollisionObject` to the planning scene
(`/collision_object`, or `apply_collision_object` of moveit_py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from std_msgs.msg import Header

from lerf_ros.errors import ConfigError
from lerf_ros.nodes.common.conversions.geometry import matrix_to_pose
from lerf_ros.query.answer import Grasp
from lerf_ros.robot.surroundings import CollisionBox, CollisionMesh, Surroundings

APPROACH_SHARE = 0.5    # of the way from the pre-grasp pose that must be free at least
LIFT_M = 0.1            # metres, straight up
POSTURE_S = 1           # seconds that the fingers may take


@dataclass(frozen=True)
class Gripper:
    """joints: names of the finger joints, which each move by half of the opening, metres."""

    joints: tuple[str, ...] = ('panda_finger_joint1', 'panda_finger_joint2')


def require_moveit() -> None:
    """Raises ConfigError where moveit_msgs is not installed."""
    try:
        import moveit_msgs.msg  # noqa: F401
    except ImportError as error:
        raise ConfigError('moveit_msgs is not here: install ros-DISTRO-moveit-msgs, or build '
                          'MoveIt 2, and source its setup file') from error


def collision_objects(around: Surroundings, header: Header) -> list:
    """Returns the target and all around it as moveit_msgs/CollisionObject, to be added.

    header: its frame is that in which the surroundings are given. The target is the hull of its
    points where they span one, otherwise its box, and comes first. Raises ConfigError without
    moveit_msgs.
    """
    require_moveit()
    target = around.target if around.mesh is None else around.mesh
    return [_object(item, header) for item in (target, *around.others)]


def _object(item: CollisionBox | CollisionMesh, header: Header) -> object:
    from moveit_msgs.msg import CollisionObject
    from shape_msgs.msg import Mesh, MeshTriangle, SolidPrimitive

    message = CollisionObject()
    message.header, message.id = header, item.name
    message.operation = CollisionObject.ADD
    if isinstance(item, CollisionBox):
        message.pose = matrix_to_pose(item.T_world_box)
        shape = SolidPrimitive()
        shape.type, shape.dimensions = SolidPrimitive.BOX, [float(edge) for edge in item.size]
        message.primitives, message.primitive_poses = [shape], [matrix_to_pose(np.eye(4))]
        return message
    # Vertices are relative to the pose of the object, which lies in their middle.
    T = np.eye(4)
    T[:3, 3] = item.vertices.mean(0)
    message.pose = matrix_to_pose(T)
    mesh = Mesh()
    mesh.vertices = [Point(x=x, y=y, z=z) for x, y, z in (item.vertices - T[:3, 3]).tolist()]
    for corners in item.triangles.tolist():
        triangle = MeshTriangle()
        triangle.vertex_indices = np.asarray(corners, np.uint32)
        mesh.triangles.append(triangle)
    message.meshes, message.mesh_poses = [mesh], [matrix_to_pose(np.eye(4))]
    return message


def moveit_grasps(grasps: Sequence[Grasp], header: Header, gripper: Gripper,
                  touched: str = '') -> list:
    """Returns grasps as moveit_msgs/Grasp, best first, in the frame of the header.

    touched: id of the collision object that the fingers may touch, which is that of the target.
    Raises ConfigError without moveit_msgs.
    """
    require_moveit()
    from moveit_msgs.msg import Grasp as GraspMessage

    out = []
    for rank, grasp in enumerate(grasps):
        message = GraspMessage()
        message.id = f'grasp_{rank}'
        message.grasp_pose = PoseStamped(header=header, pose=matrix_to_pose(grasp.T_world_gripper))
        message.grasp_quality = float(grasp.score)
        message.pre_grasp_posture = _posture(gripper, grasp.opening_width, header)
        message.grasp_posture = _posture(gripper, 0.0, header)
        way = grasp.T_world_grasp[:3, 3] - grasp.T_world_pregrasp[:3, 3]
        length = float(np.linalg.norm(way))
        message.pre_grasp_approach = _translation(header, grasp.T_world_grasp[:3, 2], length)
        message.post_grasp_retreat = _translation(header, np.array([0.0, 0.0, 1.0]), LIFT_M)
        message.allowed_touch_objects = [touched] if touched else []
        out.append(message)
    return out


def _translation(header: Header, direction: np.ndarray, length: float) -> object:
    from moveit_msgs.msg import GripperTranslation

    message = GripperTranslation()
    message.direction.header = header
    vector = message.direction.vector
    vector.x, vector.y, vector.z = (float(part) for part in direction)
    message.desired_distance, message.min_distance = length, APPROACH_SHARE * length
    return message


def _posture(gripper: Gripper, opening: float, header: Header) -> object:
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    message, point = JointTrajectory(), JointTrajectoryPoint()
    message.header, message.joint_names = header, list(gripper.joints)
    point.positions = [opening / 2] * len(gripper.joints)
    point.time_from_start.sec = POSTURE_S
    message.points = [point]
    return message

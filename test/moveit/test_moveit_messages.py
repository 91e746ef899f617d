# SPDX-License-Identifier: Apache-2.0
"""Grasps and collision objects for MoveIt 2, with stand-ins for its messages.

The stand-ins have the fields of the .msg files of moveit_msgs, shape_msgs and trajectory_msgs that
are used; a field that is not theirs is an error. MoveIt itself was not there.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('geometry_msgs', reason='the messages need ROS')
from geometry_msgs.msg import Pose, PoseStamped, Vector3
from std_msgs.msg import Header

from lerf_ros.errors import ConfigError
from lerf_ros.nodes.moveit import messages as module
from lerf_ros.query.answer import Grasp
from lerf_ros.robot.surroundings import CollisionBox, Surroundings, hull


def message(name, constants=(), **fields):
    """A class with these fields, made anew for each message, and no others."""
    def start(self):
        for field, make in fields.items():
            object.__setattr__(self, field, make())

    def put(self, field, value):
        if field not in fields:
            raise AttributeError(f'{name} has no field {field}')
        object.__setattr__(self, field, value)

    return type(name, (), {'__init__': start, '__setattr__': put, **dict(constants)})


@pytest.fixture
def moveit(monkeypatch):
    point = message('JointTrajectoryPoint', positions=list,
                    time_from_start=lambda: SimpleNamespace(sec=0, nanosec=0))
    trajectory = message('JointTrajectory', header=Header, joint_names=list, points=list)
    translation = message(
        'GripperTranslation', desired_distance=float, min_distance=float,
        direction=lambda: SimpleNamespace(header=Header(), vector=Vector3()))
    found = {
        'moveit_msgs': {
            'CollisionObject': message(
                'CollisionObject', {'ADD': b'\x00'}, header=Header, pose=Pose, id=str,
                primitives=list, primitive_poses=list, meshes=list, mesh_poses=list,
                operation=bytes),
            'Grasp': message(
                'Grasp', id=str, pre_grasp_posture=trajectory, grasp_posture=trajectory,
                grasp_pose=PoseStamped, grasp_quality=float, pre_grasp_approach=translation,
                post_grasp_retreat=translation, allowed_touch_objects=list),
            'GripperTranslation': translation},
        'shape_msgs': {
            'SolidPrimitive': message('SolidPrimitive', {'BOX': 1}, type=int, dimensions=list),
            'Mesh': message('Mesh', triangles=list, vertices=list),
            'MeshTriangle': message('MeshTriangle', vertex_indices=list)},
        'trajectory_msgs': {'JointTrajectory': trajectory, 'JointTrajectoryPoint': point}}
    for package, classes in found.items():
        inner = ModuleType(f'{package}.msg')
        inner.__dict__.update(classes)
        outer = ModuleType(package)
        outer.msg = inner
        monkeypatch.setitem(sys.modules, package, outer)
        monkeypatch.setitem(sys.modules, f'{package}.msg', inner)


def at(x, y, z):
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def around():
    steps = np.linspace(-0.05, 0.05, 3)
    points = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3) + (1.0, 2.0, 0.8)
    table = CollisionBox('surface_0', at(1, 2, 0.74), np.array([1, 1, 0.02]))
    return Surroundings(CollisionBox('mug', at(1, 2, 0.8), np.full(3, 0.1)), hull('mug', points),
                        points, (table,))


def test_the_target_is_a_mesh_and_its_table_a_box(moveit):
    header = Header(frame_id='map')
    target, table = module.collision_objects(around(), header)
    assert (target.id, table.id) == ('mug', 'surface_0') and target.header.frame_id == 'map'
    assert (target.pose.position.x, target.pose.position.y) == pytest.approx((1.0, 2.0))
    vertices = np.array([[p.x, p.y, p.z] for p in target.meshes[0].vertices])
    assert np.abs(vertices).max() == pytest.approx(0.05)        # about the pose of the object
    assert max(max(t.vertex_indices) for t in target.meshes[0].triangles) == len(vertices) - 1
    assert table.primitives[0].type == 1 and table.primitives[0].dimensions == [1.0, 1.0, 0.02]
    assert table.pose.position.z == pytest.approx(0.74) and len(table.primitive_poses) == 1
    assert target.operation == table.operation == b'\x00'


def test_a_flat_target_is_its_box(moveit):
    flat = Surroundings(around().target, None, np.zeros((0, 3)), ())
    only, = module.collision_objects(flat, Header())
    assert only.meshes == [] and only.primitives[0].dimensions == [0.1, 0.1, 0.1]


def test_a_grasp_comes_from_the_pregrasp_pose_and_leaves_upward(moveit):
    down = at(1.0, 2.0, 0.8)
    down[:3, :3] = np.diag([1.0, -1.0, -1.0])               # z, the approach, points down
    before, hand = down.copy(), down.copy()
    before[2, 3], hand[2, 3] = 0.9, 0.9034
    grasp = Grasp(down, before, hand, 0.06, 0.7, 0.8, 0.5)
    found, = module.moveit_grasps([grasp], Header(frame_id='map'), module.Gripper(('a', 'b')),
                                  touched='mug')
    assert found.grasp_pose.header.frame_id == 'map' and found.grasp_quality == 0.7
    assert found.grasp_pose.pose.position.z == pytest.approx(0.9034)    # the hand, not the tips
    approach, retreat = found.pre_grasp_approach, found.post_grasp_retreat
    assert approach.desired_distance == pytest.approx(0.1)
    assert approach.min_distance == pytest.approx(0.05)
    assert (approach.direction.vector.z, retreat.direction.vector.z) == (-1.0, 1.0)
    assert found.pre_grasp_posture.joint_names == ['a', 'b']
    assert found.pre_grasp_posture.points[0].positions == pytest.approx([0.03, 0.03])
    assert found.grasp_posture.points[0].positions == [0.0, 0.0]
    assert found.allowed_touch_objects == ['mug']


def test_without_moveit_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'moveit_msgs', None)
    with pytest.raises(ConfigError, match='install ros-DISTRO-moveit-msgs'):
        module.collision_objects(around(), Header())

# SPDX-License-Identifier: Apache-2.0
"""A layout in MuJoCo: tables, their objects, and a parallel gripper that flies.

The hand follows a target that is moved (a mocap body and a weld); the fingers are two slides that
are pushed with at most GRIP_FORCE. Its shape is that of the planner's settings.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from lerf_ros.config import GraspConfig
from lerf_ros.simulation.room import TABLE_HEIGHT, TABLE_SIZE, TABLE_THICKNESS
from lerf_ros.task.bodies import Body

TIMESTEP = 0.002       # seconds
DENSITY = 400.0        # kg/m3: wood and full containers; MASSES limits it to what an arm can lift
MASSES = (0.03, 1.0)   # kg, the lightest and the heaviest object
# Friction coefficients: rubber pads on objects; anything else on anything else.
PAD_FRICTION, FRICTION = 0.9, 0.5
GRIP_FORCE = 40.0      # newtons a finger; a Franka Hand holds with up to 70
STIFFNESS = 4000.0     # N/m of a finger's position control
PUSHED_M = 1.5 * GRIP_FORCE / STIFFNESS   # target beyond closed, for full force
HOME = np.array([0.0, 0.0, TABLE_HEIGHT + 0.8])
PAD = 0.001            # metres: thickness of a pad, part of the finger


def build(bodies: Sequence[Body], config: GraspConfig,
          tables: Sequence[tuple[float, float]] = ((0.0, 0.0),)) -> mujoco.MjModel:
    """Returns the model; object k is the body `object{k}` with a free joint.

    tables: the middles (x, y) of their tops, world.
    """
    spec = mujoco.MjSpec()
    option = spec.option
    option.timestep, option.integrator = TIMESTEP, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    option.noslip_iterations = 3
    # Bodies at rest cost no time until they are touched.
    option.enableflags = int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    for number, (x, y) in enumerate(tables):
        table = spec.worldbody.add_geom(
            name=f'table{number}', type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, TABLE_HEIGHT - TABLE_THICKNESS / 2],
            size=[TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2, TABLE_THICKNESS / 2])
        rub(table, FRICTION)
    floor = spec.worldbody.add_geom(name='floor', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 1])
    rub(floor, FRICTION)
    for k, body in enumerate(bodies):
        add_object(spec, k, body)
    add_gripper(spec, config)
    return spec.compile()


def rub(geom: mujoco.MjsGeom, sliding: float) -> None:
    """Returns the friction of a surface, with a little against turning and rolling."""
    geom.friction, geom.condim = [sliding, 0.003, 0.0002], 6


def add_object(spec: mujoco.MjSpec, k: int, body: Body) -> None:
    """Adds an object; its mass is divided among the pieces by volume."""
    mass = float(np.clip(body.volume * DENSITY, *MASSES))
    item = spec.worldbody.add_body(name=f'object{k}', pos=body.origin)
    item.add_freejoint()
    for j, piece in enumerate(body.pieces):
        mesh = spec.add_mesh(name=f'object{k}_{j}', uservert=piece.ravel())
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        geom = item.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh.name,
                             density=mass / body.volume)
        rub(geom, FRICTION)


def add_gripper(spec: mujoco.MjSpec, config: GraspConfig) -> None:
    """Adds the hand: origin between the fingertips, +z the approach, +y the closing line."""
    spec.worldbody.add_body(name='target', mocap=True, pos=HOME)
    hand = spec.worldbody.add_body(name='hand', pos=HOME, gravcomp=1.0)
    hand.add_freejoint()
    box, depth = np.asarray(config.hand_box), config.finger_depth
    palm = hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0, 0, -depth - box[2] / 2],
                         size=box / 2, mass=0.8)
    rub(palm, FRICTION)
    for sign, name in ((1, 'right'), (-1, 'left')):
        add_finger(spec, hand, sign, name, config)
    weld = spec.add_equality(name='hold', type=mujoco.mjtEq.mjEQ_WELD,
                             objtype=mujoco.mjtObj.mjOBJ_BODY, name1='target', name2='hand')
    weld.data[:11] = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    weld.solref = [0.01, 1]
    for name in ('right', 'left'):
        spec.add_exclude(bodyname1='hand', bodyname2=name)
    spec.add_exclude(bodyname1='right', bodyname2='left')
    same = spec.add_equality(name='together', type=mujoco.mjtEq.mjEQ_JOINT,
                             objtype=mujoco.mjtObj.mjOBJ_JOINT, name1='right', name2='left')
    same.data[:5] = [0, 1, 0, 0, 0]
    same.solref = [0.005, 1]


def add_finger(spec: mujoco.MjSpec, hand: mujoco.MjsBody, sign: int, name: str,
               config: GraspConfig) -> None:
    """Adds a finger: position 0 is closed, half of the largest opening is open."""
    half = [config.finger_width / 2, config.finger_thickness / 2, config.finger_depth / 2]
    finger = hand.add_body(name=name, gravcomp=1.0)
    finger.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, sign, 0],
                     range=[0, config.max_opening / 2], limited=True, damping=20.0, armature=0.1,
                     solref_limit=[0.005, 1])
    geom = finger.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=half, mass=0.05,
                           pos=[0, sign * half[1], -half[2]])
    rub(geom, PAD_FRICTION)
    geom.priority = 1     # the friction of the pad applies, whatever it touches
    motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.set_to_position(kp=STIFFNESS, kv=100.0)
    motor.forcelimited, motor.forcerange = True, [-GRIP_FORCE, GRIP_FORCE]
    motor.ctrllimited, motor.ctrlrange = True, [-config.max_opening, config.max_opening / 2]

# SPDX-License-Identifier: Apache-2.0
"""Settings of the gripper and of the search for grasps; the defaults are a Franka Hand."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.errors import ConfigError
from lerf_ros.settings import Checked, setting

METRES = 'metres'


@dataclass(frozen=True)
class GraspConfig(Checked):
    """A parallel gripper and its grasps; +z is the approach axis, +y the closing axis."""

    max_opening: float = setting(
        0.08, 'largest distance between the fingers', unit=METRES, low=0.001, high=1.0)
    finger_depth: float = setting(
        0.045, 'length of a finger beyond the hand, along z', unit=METRES, low=0.001, high=1.0)
    finger_thickness: float = setting(
        0.01, 'of a finger along y', unit=METRES, low=0.001, high=0.2)
    finger_width: float = setting(0.02, 'of a finger along x', unit=METRES, low=0.001, high=0.2)
    hand_box: tuple[float, ...] = setting(
        (0.064, 0.206, 0.12), 'the hand behind the fingers, centred, along x, y, z', unit=METRES,
        low=0.001, high=2.0)
    tcp_to_gripper: tuple[float, ...] = setting(
        (0.0, 0.0, -0.1034, 0.0, 0.0, 0.0, 1.0),
        "the gripper's own frame (what an arm is commanded to) in the grasp frame: x, y, z in "
        'metres, then a quaternion x, y, z, w')
    pregrasp: float = setting(
        0.1, 'how far the pre-grasp pose is drawn back along z', unit=METRES, low=0.0, high=1.0)
    approach: str = setting(
        'any', 'from where the hand may come: straight down, within 20 degrees of the horizontal, '
        'or from anywhere above it', choices=('top_down', 'side', 'any'))
    friction: float = setting(
        0.6, 'coefficient between finger and object: surfaces that lean more against the closing '
        'direction are no contacts', low=0.05, high=2.0)
    clearance: float = setting(
        0.002, 'that the open fingers and the hand keep from every point of the map', unit=METRES,
        low=0.0, high=0.1)
    spare_opening: float = setting(
        0.02, 'how much wider than the object, on either side, the fingers open if there is room',
        unit=METRES, low=0.0, high=0.1)
    semantic_weight: float = setting(
        0.95, 'of relevancy in the ranking (LERF-TOGO)', low=0.0, high=1.0)
    geometric_weight: float = setting(
        0.05, 'of how well fingers and surface fit', low=0.0, high=1.0)
    max_candidates: int = setting(10, 'grasps returned', low=1, high=1000)
    samples: int = setting(
        2400, 'poses of the hand that are tried for a hit', low=10, high=100000)
    min_points: int = setting(12, 'points that a hit needs to be grasped', low=3, high=100000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.hand_box) != 3:
            raise ConfigError(f'grasp.hand_box has {len(self.hand_box)} numbers: give x, y, z')
        if len(self.tcp_to_gripper) != 7 or not any(self.tcp_to_gripper[3:]):
            raise ConfigError('grasp.tcp_to_gripper: give x, y, z and a quaternion x, y, z, w '
                              'that is not all zero')

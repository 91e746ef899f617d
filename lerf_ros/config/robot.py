# SPDX-License-Identifier: Apache-2.0
"""Settings of a robot's base and of the camera on it: where it may stand and what it sees."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.errors import ConfigError
from lerf_ros.settings import Checked, setting

METRES = 'metres'


@dataclass(frozen=True)
class RobotConfig(Checked):
    """A round base that drives on a level floor, with a camera above its middle."""

    base_radius: float = setting(
        0.3, 'of the circle that the base turns in', unit=METRES, low=0.01, high=5.0)
    base_height: float = setting(
        1.1, 'above the floor; what hangs higher is not in the way', unit=METRES, low=0.05,
        high=5.0)
    step_height: float = setting(
        0.06, 'points of the map lower than this above the floor are floor', unit=METRES,
        low=0.0, high=1.0)
    clearance: float = setting(
        0.05, 'that the base keeps from every obstacle', unit=METRES, low=0.0, high=1.0)
    stand_off: float = setting(
        0.6, "wanted distance from a thing's box to the middle of the base", unit=METRES,
        low=0.05, high=10.0)
    stand_reach: float = setting(
        1.0, 'largest such distance, at which the thing is still in reach', unit=METRES,
        low=0.05, high=10.0)
    floor_cell: float = setting(
        0.05, 'edge of the cells of the floor that are free or not', unit=METRES, low=0.01,
        high=1.0)
    seen_through: float = setting(
        0.5, 'part of the space above a cell that keyframes must have seen through so that it '
        'counts as free', low=0.0, high=1.0)
    camera_height: float = setting(
        1.2, 'of the camera above the floor', unit=METRES, low=0.05, high=5.0)
    view_range: float = setting(
        3.0, 'up to where a look of the camera shows things well enough', unit=METRES, low=0.1,
        high=50.0)
    view_spacing: float = setting(
        0.3, 'between the places from which looks are tried', unit=METRES, low=0.05, high=5.0)
    views: int = setting(5, 'best views that are named at most', low=1, high=100)
    view_gain: float = setting(
        0.02, 'part of what is unseen that a view must show so that it is named', low=0.0,
        high=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stand_reach < self.stand_off:
            raise ConfigError(f'stand_reach = {self.stand_reach} metres: must be at least '
                              f'stand_off, {self.stand_off} metres')
        if self.step_height >= self.base_height:
            raise ConfigError(f'step_height = {self.step_height} metres: must be below '
                              f'base_height, {self.base_height} metres')

# SPDX-License-Identifier: Apache-2.0
"""Settings of submaps, with which a map grows beyond what one scene frame resolves."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.settings import Checked, setting


@dataclass(frozen=True)
class SubmapConfig(Checked):
    """Whether space is divided into submaps, how, and how many of them are in memory."""

    use: bool = setting(
        False, 'map into a folder of submaps, which needs depth; a map that is there goes on as '
        'what it is')
    radius: float = setting(
        1.5, 'half the edge of the cube that a submap is for, its scene radius: a table and what '
        'stands around it', unit='world units', low=1e-3, high=10000.0)
    overlap: float = setting(
        0.2, 'part of its edge that a cube shares with the next one; things that are not wider '
        'lie in one of them as a whole', low=0.0, high=0.5)
    opens_at: float = setting(
        0.3, 'part of what a keyframe looks at from close by that lies in no submap, from which '
        'one is opened', low=0.01, high=1.0)
    joins_at: float = setting(
        0.25, 'part of it that lies in the cube of a submap in memory, from which the keyframe is '
        'learned there; that of which it shows most learns it in any case', low=0.01, high=1.0)
    most_active: int = setting(
        3, 'submaps that are in memory at once; those seen least recently wait on the disk', low=1,
        high=1000)

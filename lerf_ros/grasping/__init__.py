# SPDX-License-Identifier: Apache-2.0
"""From the points of a hit to poses of a parallel gripper; `planner.plan_grasps` is the door."""

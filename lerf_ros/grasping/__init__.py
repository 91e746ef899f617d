# SPDX-License-Identifier: Apache-2.0
"""Turns the points of a hit into poses of a parallel gripper: `planner.plan_grasps`."""

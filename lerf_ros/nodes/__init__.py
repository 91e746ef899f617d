# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes: the only part that knows ROS."""

from lerf_ros.quiet_threads import wait_quietly

wait_quietly()

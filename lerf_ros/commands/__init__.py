# SPDX-License-Identifier: Apache-2.0
"""The commands of `lerf_ros`, one module each: arguments and implementation."""

from lerf_ros.quiet_threads import wait_quietly

wait_quietly()

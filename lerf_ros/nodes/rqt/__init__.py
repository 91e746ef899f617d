# SPDX-License-Identifier: Apache-2.0
"""A panel that asks the robot, as a plugin of rqt and as a window of its own."""

# SPDX-License-Identifier: Apache-2.0
"""Messages of MoveIt 2, where moveit_msgs is installed; nothing else of the package needs it."""

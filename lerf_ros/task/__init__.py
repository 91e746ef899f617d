# SPDX-License-Identifier: Apache-2.0
"""Errands in physics (MuJoCo): a sentence, a map, a base that drives, a gripper that lifts."""

# SPDX-License-Identifier: Apache-2.0
"""What the mapper (lerf_ros/mapper.py) keeps: keyframes that wait, keyframes in training, state."""

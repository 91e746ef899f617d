# SPDX-License-Identifier: Apache-2.0
"""Cameras, poses, boxes of the world, and the scene frame of the fields."""

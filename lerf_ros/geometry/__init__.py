# SPDX-License-Identifier: Apache-2.0
"""Cameras, poses, and the frame in which the field lives."""

# SPDX-License-Identifier: Apache-2.0
"""TF look-up: where a frame is, where the camera was, and what is wrong with the transforms."""

# SPDX-License-Identifier: Apache-2.0
"""The commands of `lerf_ros`, one module each: their arguments and what they do."""

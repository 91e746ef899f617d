# SPDX-License-Identifier: Apache-2.0
"""Parts of the mapper node: camera inputs, poses, diagnoses, commands."""

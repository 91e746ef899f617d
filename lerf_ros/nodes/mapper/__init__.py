# SPDX-License-Identifier: Apache-2.0
"""Parts of the mapper node: camera inputs, assembly of frames, diagnosis, status, commands."""

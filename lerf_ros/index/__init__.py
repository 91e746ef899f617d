# SPDX-License-Identifier: Apache-2.0
"""What runs when a snapshot is made: surface points, segments, language, coverage."""

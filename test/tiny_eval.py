# SPDX-License-Identifier: Apache-2.0
"""Settings with which the tiny world is evaluated in seconds."""

from lerf_ros.config import LerfConfig

SMALL = LerfConfig().override({
    'field': {'levels': 8, 'max_resolution': 128, 'log2_table': 14, 'hidden': 32,
              'color_hidden': 32, 'proposal_samples': [32], 'samples': 16,
              'proposal_log2_table': 14},
    'language': {'levels': [4], 'max_resolutions': [64], 'log2_table': 13, 'hidden': 32},
    'training': {'rays': 256, 'language_rays': 128, 'decay_steps': 120, 'language_decay_steps': 80,
                 'settle_steps': 0, 'newest_fraction': 0.0, 'device': 'cpu'},
    'features': {'widths': [0.1]},
    'index': {'rays': 4000, 'scales': 1, 'rank': 9, 'voxel': 0.02},
    'query': {'cluster_radius': 0.08, 'min_points': 5}})

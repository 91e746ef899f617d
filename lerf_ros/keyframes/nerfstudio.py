# SPDX-License-Identifier: Apache-2.0
"""Where captures were read before there were other layouts than nerfstudio's.

Kept for callers of the package; captures/load.py is the door.
"""

from lerf_ros.keyframes.captures.load import load_folder
from lerf_ros.keyframes.captures.posed_folder import FrameEntry, PosedFolder

__all__ = ['FrameEntry', 'PosedFolder', 'load_folder']

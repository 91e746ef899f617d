# SPDX-License-Identifier: Apache-2.0
"""Second looks of a map: what reads its stored keyframes and encodes crops of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lerf_ros.config import IndexConfig
from lerf_ros.encoders.extractor import fill_masked
from lerf_ros.encoders.image_text import ImageTextEncoder
from lerf_ros.errors import EncoderUnavailableError, MapUnreadableError
from lerf_ros.index.second_look import LookAgain, SecondLooker
from lerf_ros.mapping.keyframes import LearnedKeyframes
from lerf_ros.storage.keyframe_files import KeyframeFiles

Stale = Callable[[int], np.ndarray | None]
log = logging.getLogger(__name__)


class MapLooks:
    """Takes second looks for the snapshots of one map, if the settings ask for any."""

    def __init__(self, encode: Callable[[Sequence[np.ndarray]], np.ndarray], files: KeyframeFiles,
                 config: IndexConfig, stale: Stale | None = None) -> None:
        """encode: unit embeddings (N, D) of RGB pictures. stale: pixels (H, W) bool of a keyframe,
        by index, that show what has gone since; None for none.
        """
        self.config, self._files, self._stale = config, files, stale
        self.looker = SecondLooker(encode, self.picture, config)

    @classmethod
    def of(cls, encoder: ImageTextEncoder, files: KeyframeFiles, config: IndexConfig,
           learned: LearnedKeyframes | None = None) -> MapLooks:
        """Returns the second looks of an encoder's image tower.

        learned: knows which pixels show what has gone; None where nothing has.
        """
        def encode(pictures: Sequence[np.ndarray]) -> np.ndarray:
            try:
                return encoder.encode_images(pictures)
            except TypeError as error:
                raise EncoderUnavailableError(f'the encoder reads no pictures ({error})') from error
        return cls(encode, files, config,
                   learned.changes.stale_if_known if learned is not None else None)

    def within(self, everything: bool) -> LookAgain | None:
        """Returns what looks for one snapshot; None where second looks are turned off.

        everything: whether it may take as long as it needs, instead of index.look_seconds.
        """
        if not self.config.look_views or not self.config.look_margins:
            return None
        return partial(self.looker.look,
                       seconds=math.inf if everything else self.config.look_seconds)

    def picture(self, index: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Returns the pixels (H, W, 3) of a keyframe, and which show what is there, (H, W) bool.

        All of them count where that is None. Returns None for a keyframe that cannot be read.
        """
        try:
            frame = self._files.read(index).frame
        except MapUnreadableError as error:
            log.warning('no second look at keyframe %d: %s', index, error)
            return None
        usable, stale = frame.valid, self._stale(index) if self._stale else None
        if stale is not None and stale.any():
            usable = ~stale if usable is None else usable & ~stale
        return fill_masked(frame.image, usable), usable

# SPDX-License-Identifier: Apache-2.0
"""How much an encoder is given at once: less after each time that the memory did not do."""

from __future__ import annotations

import logging

import torch

from lerf_ros.config import FeatureConfig
from lerf_ros.errors import TrainingFailedError

LEAST_SIDE = 128    # pixels; on smaller images a network sees little

log = logging.getLogger(__name__)


class MemoryLimits:
    """batch: crops encoded at once. max_side: of an image that a dense encoder sees, pixels.

    message: what was done last, for people; empty while everything fits.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self._config = config
        self.batch, self.max_side = config.batch, config.max_side
        self.message = ''

    def halve(self, dense: bool, reason: str) -> None:
        """Half of the crops at once, or images of half the side for a dense encoder.

        reason: what the device says. Raises TrainingFailedError when there is nothing to halve.
        """
        least = self.max_side // 2 < LEAST_SIDE if dense else self.batch == 1
        if least:
            what = f'an image of {self.max_side} pixels' if dense else 'a single crop'
            raise TrainingFailedError(
                f'{what} does not fit into the memory for the encoder ({reason}): end other '
                'programs there, or choose a smaller encoder or device cpu')
        if dense:
            self.max_side //= 2
            done = (f'images are encoded with {self.max_side} pixels at most from now on '
                    f'(features.max_side is {self._config.max_side})')
        else:
            self.batch //= 2
            done = (f'{self.batch} crops are encoded at once from now on (features.batch is '
                    f'{self._config.batch})')
        if torch.cuda.is_available():
            torch.cuda.empty_cache()    # what training keeps for later may be all that lacks
        self.message = f'out of memory: {done}'
        log.warning('%s: %s', self.message, reason)

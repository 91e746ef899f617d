# SPDX-License-Identifier: Apache-2.0
"""Crops of one size as the input of an open_clip model, resized together on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

BLACK, WHITE = 0.0, 255.0


class SquarePixels:
    """What open_clip's own preprocessing makes of a square image, for many at once.

    The filter is the one that the model was trained with (mostly bicubic; LERF's released code
    takes bilinear for every model), widened where it shrinks as PIL does it. Values are rounded
    to whole grey levels after resizing, again as PIL does it: so both paths agree.
    """

    def __init__(self, preprocess: Mapping[str, Any], device: str, dtype: torch.dtype) -> None:
        """preprocess: open_clip's description (size, mean, std, interpolation) of a model."""
        size = preprocess['size']
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self._mode = 'bilinear' if preprocess.get('interpolation') == 'bilinear' else 'bicubic'
        self._mean, self._std = (
            WHITE * torch.tensor(preprocess[name], device=device).view(1, -1, 1, 1)
            for name in ('mean', 'std'))
        self._device = device
        self._dtype = dtype

    @property
    def square(self) -> bool:
        """False where the model's input is not square: how a crop fits it then varies."""
        return self.size[0] == self.size[1]

    def __call__(self, squares: np.ndarray) -> torch.Tensor:
        """The model's input (N, 3, size, size) of RGB crops (N, side, side, 3) uint8."""
        pixels = torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2).float()
        for size in ((pixels.shape[-2], self.size[1]), self.size):   # across, then down, as PIL
            if pixels.shape[-2:] != size:
                pixels = interpolate(pixels, size, mode=self._mode, align_corners=False,
                                     antialias=True).round_().clamp_(BLACK, WHITE)
        return self._scaled(pixels)

    def normalised(self, images: np.ndarray) -> torch.Tensor:
        """RGB images (N, H, W, 3) uint8 as the model takes them (N, 3, H, W), not resized."""
        return self._scaled(torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float())

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels - self._mean) / self._std).to(self._dtype)

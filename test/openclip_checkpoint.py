# SPDX-License-Identifier: Apache-2.0
"""A small open_clip checkpoint on disk, for tests of the real open_clip path."""

import json
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / 'shared'
CHECKPOINT = SHARED / 'models' / 'openclip_conse'


def openclip_checkpoint(folder):
    """The checkpoint's name for open_clip, with its text tower's folder filled in.

    folder: an empty one. Skips the test where the checkpoint or open_clip is missing.
    """
    pytest.importorskip('open_clip', reason='extra `openclip` is not installed')
    if not CHECKPOINT.exists():
        pytest.skip(f'{CHECKPOINT} is not there')
    for path in CHECKPOINT.iterdir():
        if path.name != 'open_clip_config.json':
            (folder / path.name).symlink_to(path)
    config = json.loads((CHECKPOINT / 'open_clip_config.json').read_text())
    for key in ('hf_model_name', 'hf_tokenizer_name'):
        config['model_cfg']['text_cfg'][key] = str(folder / 'minilm')
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    return f'local-dir:{folder}'

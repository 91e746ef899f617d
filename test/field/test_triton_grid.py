# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the hash grid, without a GPU: interpreted, and compiled for several."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name('triton_check.py')

pytest.importorskip('triton', reason='triton is not installed: this torch is one for CPUs')


def run(what: str, folder: Path) -> dict:
    """What triton_check.py prints; its compiled kernels go to a folder of the test."""
    done = subprocess.run([sys.executable, str(CHECK), what], capture_output=True, text=True,
                          check=False, env={**os.environ, 'TRITON_CACHE_DIR': str(folder)})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_triton_looks_up_what_double_precision_does_on_all_grids_of_all_presets(tmp_path):
    found = run('interpret', tmp_path)
    assert len(found) >= 8
    for shape, (values, table, positions) in found.items():
        # A position times the finest scale, in single precision, is off by 2**-24 of it.
        limit = 4e-7 * int(shape.split(',')[2])
        assert max(values, table, positions) < max(limit, 1e-6), (shape, values, table, positions)


def test_the_kernels_compile_for_gpus_of_robots_desks_and_servers(tmp_path):
    sizes = run('compile', tmp_path)
    assert len(sizes) == 3 * 2 * 4 and min(sizes.values()) > 1000

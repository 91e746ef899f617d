# SPDX-License-Identifier: Apache-2.0
"""What has to work on a GPU, on a stand-in for one: the tests of check_*.py, in a process.

The stand-in changes torch before it is imported, so these tests cannot run in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import pytest
from on_stand_in import built_with_cuda, missing

HERE = Path(__file__).resolve().parent
SECONDS = 1800      # at most; a quiet core takes less than a minute


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each test came to, by `file::test`: passed, skipped with its reason, or its failure."""
    if missing():
        pytest.skip(missing())
    report = tmp_path_factory.mktemp('stand_in') / 'report.xml'
    done = subprocess.run(
        [sys.executable, HERE / 'on_stand_in.py', '-m', 'pytest', HERE, '-q',
         '-p', 'no:cacheprovider', '-o', 'python_files=check_*.py', f'--junitxml={report}'],
        cwd=HERE.parents[1], env=environment(), timeout=SECONDS,
        capture_output=True, text=True)
    assert report.is_file(), done.stdout + done.stderr
    return {f'{case.get("classname", "").rpartition(".")[2]}::{case.get("name")}': outcome(case)
            for case in ElementTree.parse(report).iter('testcase')}


def environment() -> dict[str, str]:
    """Returns the environment of a process with the stand-in: one thread, no coverage.

    Each operation of a tensor is Python there: counting its lines as well takes twice the time.
    """
    settings = {name: value for name, value in os.environ.items() if 'COVERAGE' not in name}
    return {**settings, 'OMP_NUM_THREADS': '1'}


def outcome(case: ElementTree.Element) -> str:
    """Returns the outcome of a test in pytest's report."""
    for kind in ('failure', 'error', 'skipped'):
        found = case.find(kind)
        if found is not None:
            return f'{kind}: {found.get("message")}\n{found.text}'
    return 'passed'


@pytest.mark.parametrize('file', sorted(path.stem for path in HERE.glob('check_*.py')))
def test_on_the_stand_in(outcomes: Mapping[str, str], file: str) -> None:
    """All tests of a file pass, but for those that this build of torch cannot run."""
    found = {name: text for name, text in outcomes.items() if name.startswith(f'{file}::')}
    failed = [f'{name}: {text}' for name, text in found.items()
              if not text.startswith(('passed', 'skipped'))]
    assert found and not failed, '\n'.join(failed)
    skipped = [text.partition('\n')[0] for text in found.values() if text.startswith('skipped')]
    if len(skipped) == len(found):
        pytest.skip('; '.join(sorted(set(skipped))))


# What takes a second or two each; check_life.py leads maps through their lives more closely.
SECTIONS = ('environment', 'grids_agree', 'steps_of_the_presets', 'learns_as_the_cpu_does',
            'query_of_many_points', 'many_keyframes', 'memory_runs_out')


@pytest.mark.skipif(not built_with_cuda(), reason='make gpu asks for a torch that has CUDA')
def test_make_gpu_runs_through_in_a_smoke_run(tmp_path: Path) -> None:
    if missing():
        pytest.skip(missing())
    out = tmp_path / 'gpu.json'
    done = subprocess.run(
        [sys.executable, HERE / 'on_stand_in.py', HERE.parents[1] / 'bench' / 'gpu.py', *SECTIONS,
         '--smoke', '--out', out], env=environment(), timeout=SECONDS, capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert set(found['sections']) == set(SECTIONS)
    assert all(section['ok'] for section in found['sections'].values())
    # With the GPU's profiler there are numbers here; the names are those of the file all the same.
    assert {'device', 'launches_per_step', 'syncs_per_step'} <= set(found)

# SPDX-License-Identifier: Apache-2.0
"""Writes docs/faults.md from the cases of the fault tests: python scripts/fault_table.py"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What no test over DDS can hold in one row: whole captures, commands and recordings.
INPUTS = Path(__file__).with_name('input_cases.md')
HEAD = """# Faults and their results

`scripts/fault_table.py` writes this page from the cases of test/nodes/test_faults_query.py and
test/nodes/test_faults_mapper.py. Each row is a test over real DDS, which also checks that the node
continues to work: the next request is answered, and the next good image becomes a keyframe. Tests
of kills, damaged files and restarts are test/storage/test_restore.py,
test/storage/test_saved_maps.py, test/mapping/test_supervisor.py and `make kill-test`. Missing and
incompatible inputs, and poses in another convention, are tested in
test/nodes/test_nodes_diagnoses.py; lack of memory, disk space or time in
test/training/test_step_guard.py, test/encoders/test_features_memory.py,
test/mapping/test_mapper_loop.py and test/mapping/test_keyframe_queue.py.
"""


def rows() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields titles, each with its rows of (input, result)."""
    sys.path[:0] = [str(ROOT / 'test'), str(ROOT / 'test' / 'nodes')]
    import test_faults_mapper as mapper
    import test_faults_query as query
    codes = {getattr(query.R, name): name for name in dir(type(query.R))
             if name.isupper() and name not in ('ABSENT', 'PRESENT', 'NOT_OBSERVED')}
    yield 'Requests to lerf/query', [
        (name, f'`{codes[code]}`' if code else 'answered')
        for name, (_, code, _) in query.REQUESTS.items()]
    yield 'Maps that the query node opens', [
        (name, f'`{codes[code]}`' if code else 'answered, from an older snapshot if necessary')
        for name, (_, code) in query.MAPS.items()]
    yield 'Messages to the mapper', [
        (name, f'refused and counted as "{reason}"' if reason else 'the image is used' + (
            f', and a diagnosis says "... {words} ..."' if words else ', without the faulty part'))
        for name, (_, _, reason, words) in mapper.CASES.items()]


def page() -> str:
    """docs/faults.md."""
    lines = [HEAD]
    for title, table in rows():
        lines += [f'## {title}', '', '| input | result |', '|---|---|']
        lines += [f'| {name} | {outcome} |' for name, outcome in table]
        lines.append('')
    return '\n'.join([*lines, INPUTS.read_text(encoding='utf-8')])


if __name__ == '__main__':
    (ROOT / 'docs' / 'faults.md').write_text(page(), encoding='utf-8')

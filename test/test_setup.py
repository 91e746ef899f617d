# SPDX-License-Identifier: Apache-2.0
"""The set-up installs a browser for the tests of the page where it can, and never fails for it."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parent.parent / 'scripts/system_packages.sh'
if not PACKAGES.exists():
    pytest.skip('not run from the source tree', allow_module_level=True)
ALL = 'ros offline view dev'


def machine(tmp_path, **commands):
    """Runs a line of bash on a machine that has these commands alone, by the scripts' own words."""
    for name, body in commands.items():
        path = tmp_path / name.replace('_', '-')
        path.write_text(f'#!/bin/bash\n{body}\n')
        path.chmod(0o755)

    def run(line):
        return subprocess.run(
            ['/bin/bash', '-c', f'set -euo pipefail; . {PACKAGES}; {line}'], text=True,
            capture_output=True, env={'PATH': str(tmp_path)}, timeout=20)
    return run


@pytest.mark.skipif(shutil.which('flock') is None, reason='there is no flock')
def test_two_set_ups_take_turns(tmp_path):
    tools = {name: f'exec {shutil.which(name)} "$@"'
             for name in ('dirname', 'flock', 'mkdir', 'sleep')}
    run = machine(tmp_path, **tools)
    turn = (f'. {PACKAGES.parent}/environment.sh; take_turn {tmp_path}/build/.set-up; '
            'echo begins; sleep 0.5; echo ends')
    with ThreadPoolExecutor() as pool:
        first, second = (done.stdout.split('\n') for done in pool.map(run, [turn] * 2))
    waited = [out for out in (first, second) if 'waiting for another set-up' in out[0]]
    assert len(waited) == 1 and waited[0][1:3] == ['begins', 'ends']


@pytest.mark.parametrize(('extras', 'commands', 'may'), [
    (ALL, {'id': 'echo 0', 'apt_get': ''}, True),
    (ALL, {'id': 'echo 1000', 'apt_get': ''}, False),               # nobody asks for a password
    (ALL, {'id': 'echo 0'}, False),                                 # no apt here
    (ALL, {'id': 'echo 0', 'apt_get': '', 'chromium': ''}, False),  # it is there
    ('ros offline view', {'id': 'echo 0', 'apt_get': ''}, False),   # nobody tests here
    ('ros offline dev', {'id': 'echo 0', 'apt_get': ''}, False)])   # there is no page
def test_a_browser_is_wanted_where_the_page_is_tested(tmp_path, extras, commands, may):
    ended = machine(tmp_path, **commands)(f'may_install_browser "{extras}"')
    assert (ended.returncode == 0) == may


def test_a_browser_that_cannot_be_had_is_said_and_ends_nothing(tmp_path):
    run = machine(tmp_path, apt_get='echo "E: no such package" >&2; exit 100')
    ended = run('install_browser; echo and on')
    assert ended.returncode == 0 and not ended.stderr
    said, after = ended.stdout.splitlines()
    assert 'no chromium' in said and 'skipped' in said and after == 'and on'


def test_lists_that_are_missing_are_fetched_once(tmp_path):
    lists, log = tmp_path / 'lists', tmp_path / 'log'
    run = machine(tmp_path, apt_get=f'echo "$1" >> {log}; [[ $1 == update ]] && : > {lists}; '
                  f'[[ -e {lists} ]]')
    ended = run('install_browser')
    assert (ended.returncode, ended.stdout) == (0, '')
    assert log.read_text().split() == ['install', 'update', 'install']

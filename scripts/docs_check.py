# SPDX-License-Identifier: Apache-2.0
"""Checks the commands of README.md and docs/: that they are understood, and that a map is made.

    python scripts/docs_check.py          every command is parsed against what there is
    python scripts/docs_check.py --run    and the first own map of the README is made, on a small
                                          world, exactly as it is typed there
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from lerf_ros import cli
from lerf_ros.commands.parser import spread_settings

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)     # language and text of a block
SHELLS = ('', 'sh', 'bash')
INLINE = re.compile(r'`(lerf_ros [^`]+)`')
RUN_HEADING = '## First own map'
STEPS = '20'        # of the training that is run; the world is small
VIEW_S = 60         # in which the page must be served


@dataclass(frozen=True)
class Command:
    """A command of a document. whole: as it is typed, not a mention in a sentence."""

    page: str
    text: str
    whole: bool = True


def commands(page: Path) -> Iterator[Command]:
    """Yields the commands of a document, lines that go on joined, comments left out."""
    text = page.read_text(encoding='utf-8')
    for block in (block for language, block in FENCE.findall(text) if language in SHELLS):
        for line in re.sub(r'\\\n\s*', '', block).splitlines():
            line = re.sub(r'\s+#.*$', '', line).strip()
            if line and not line.startswith('#'):
                yield Command(page.name, line)
    for mention in INLINE.findall(re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)):
        yield Command(page.name, mention.replace('\n', ' '), whole=False)


def problem(command: Command) -> str:
    """Returns what is wrong with a command, '' if nothing is or nothing is known of it."""
    try:
        words = shlex.split(re.split(r'\s(?:\||&&|>)\s', command.text)[0])
    except ValueError as error:
        return str(error)
    checks: dict[str, Callable[[list[str], bool], str]] = {
        'lerf_ros': check_lerf_ros, 'make': check_make, 'bash': check_script,
        'python': check_script, 'ros2': check_ros2}
    check = checks.get(words[0])
    return check(words[1:], command.whole) if check else ''


def check_lerf_ros(words: list[str], whole: bool) -> str:
    """Parses a command line; of a mention in a sentence the names alone are looked up."""
    parser = cli.parser()
    choices = next(action.choices for action in parser._actions if action.dest == 'command')
    assert isinstance(choices, dict)
    name = next((word for word in words if not word.startswith('-')), '')
    if not whole:
        if name not in (*choices, '', 'COMMAND'):
            return f'there is no command {name!r}'
        known = {option for action in choices.get(name, parser)._actions
                 for option in action.option_strings}
        strange = [word for word in words if word.startswith('--') and word not in known]
        return f'{name} has no {strange[0]}' if strange else ''
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(spread_settings(words))
    except SystemExit as end:
        return '' if not end.code else said.getvalue().strip()
    return ''


def check_make(words: list[str], whole: bool) -> str:
    """Looks up targets of the Makefile."""
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    missing = [word for word in words if '=' not in word and word not in targets]
    return f'there is no target {missing[0]}' if missing else ''


def check_script(words: list[str], whole: bool) -> str:
    """Looks up a script of this repository."""
    path = words[0].removeprefix('src/lerf_ros/') if words else ''
    return '' if not path.startswith(('scripts/', 'bench/')) or (ROOT / path).is_file() else \
        f'there is no {path}'


def check_ros2(words: list[str], whole: bool) -> str:
    """Looks up launch arguments, nodes, and the fields of a request."""
    if words[:2] == ['launch', 'lerf_ros']:
        launch = (ROOT / 'launch' / words[2]).read_text()
        names = [word.partition(':=')[0] for word in words[3:] if ':=' in word]
        missing = [name for name in names if f"'{name}'" not in launch]
        return f'{words[2]} has no argument {missing[0]}' if missing else ''
    if words[:2] == ['run', 'lerf_ros']:
        there = (ROOT / 'lerf_ros' / 'nodes' / f'{words[2]}.py').is_file()
        return '' if there else f'there is no node {words[2]}'
    if words[:2] == ['service', 'call'] and words[3].startswith('lerf_ros/srv/'):
        definition = ROOT / 'srv' / f'{words[3].split("/")[-1]}.srv'
        request = definition.read_text().split('\n---')[0]
        fields = re.findall(r'^[\w/\[\]]+ (\w+)', request, re.M)
        missing = [name for name in yaml.safe_load(words[4]) if name not in fields]
        return f'{definition.name} has no field {missing[0]}' if missing else ''
    return ''


def pages() -> list[Path]:
    """Returns the documents whose commands are checked."""
    return [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def run_first_map() -> None:
    """Runs the commands below RUN_HEADING on a small world; raises CalledProcessError."""
    sys.path[:0] = [str(ROOT / 'scripts'), str(ROOT / 'test')]
    from route_check import write_photographs
    section = (ROOT / 'README.md').read_text().split(RUN_HEADING)[1].split('\n## ')[0]
    lines = [line for line in FENCE.findall(section)[0][1].splitlines()]
    with tempfile.TemporaryDirectory() as place:
        write_photographs(Path(place) / 'FOLDER')
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[1] == 'train':
                words += ['--steps', STEPS] if '--resume' not in words else []
                words = [STEPS if word == '4000' else word for word in words]
            print('$', shlex.join(words), flush=True)
            words = [sys.executable, '-m', 'lerf_ros.cli', *words[1:]]
            if words[3] == 'view':
                serve_once(words, place)
            else:
                subprocess.run(words, cwd=place, check=True)


def serve_once(words: list[str], place: str) -> None:
    """Starts the page, waits for the line with its address, and ends it."""
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end='')
            if 'shows the map' in line:
                return
        raise AssertionError('the page was not served')
    finally:
        process.terminate()
        process.wait(VIEW_S)


def main() -> int:
    """Checks all commands; returns the exit status."""
    found = [command for page in pages() for command in commands(page)]
    wrong = [(command, text) for command in found if (text := problem(command))]
    for command, text in wrong:
        print(f'{command.page}: {command.text}: {text}', file=sys.stderr)
    print(f'{len(found)} commands in {len(pages())} documents, {len(wrong)} wrong')
    if '--run' in sys.argv[1:]:
        run_first_map()
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())

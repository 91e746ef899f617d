# SPDX-License-Identifier: Apache-2.0
"""Writes docs/cli.md from the parsers of the command line and from the errors."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

from lerf_ros import cli, errors

TARGET = Path(__file__).resolve().parent.parent / 'docs/cli.md'
HEAD = """# Command line

`scripts/cli_reference.py` writes this page from the parsers. `lerf_ros` alone says what to do next,
`lerf_ros COMMAND --help` lists the options of a command. Options and names may stand in any order.
`--set` takes one or several `NAME=VALUE`; `--negatives` and `--rather-than` take phrases with `;`
between them, or are given again. `-v` says more, and shows where an error comes from.

```sh
mkdir -p ~/.local/share/bash-completion/completions
lerf_ros completion bash > ~/.local/share/bash-completion/completions/lerf_ros
```

completes commands, options and files in bash; `zsh` and `tcsh` work alike.
"""
CODES = """## Exit status and errors

0: done. 1: the command ran and something failed (a check, a query, a node). 2: it could not run;
one line on stderr says what to do. 128 and more: a signal ended it; training then has written a
snapshot.

`error_code` of `lerf/query` and the other services, and `code` of the exceptions in Python:

| code | meaning |
|---|---|
"""


def document() -> str:
    """Returns the text of docs/cli.md."""
    groups = [action for action in cli.parser()._actions
              if isinstance(action, argparse._SubParsersAction)]
    summaries = {action.dest: action.help for action in groups[0]._choices_actions}
    parts = [HEAD]
    for name, parser in groups[0].choices.items():
        parts.append('\n'.join([f'## lerf_ros {name}\n', sentence(summaries[name]), '',
                                *option_lines(parser), '']))
    parts.append(CODES + ''.join(f'| `{code}` | {meaning} |\n' for code, meaning in codes()))
    return '\n'.join(parts)


def option_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the table of a command's options."""
    yield '| argument | meaning |'
    yield '|---|---|'
    for action in parser._actions:
        if action.dest in ('help', 'verbose'):
            continue
        names = ', '.join(f'`{name}`' for name in action.option_strings) or \
            f'`{action.metavar or action.dest}`'
        text = parser._get_formatter()._expand_help(action) if action.help else ''
        choices = f' ({", ".join(map(str, action.choices))})' if action.choices else ''
        yield f'| {names} | {text.replace("|", "/")}{choices} |'


def codes() -> Iterator[tuple[str, str]]:
    """Yields the code and the meaning of each error."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.LerfError) and 'code' in vars(kind):
            if kind is errors.LerfError:
                yield kind.code, 'A fault of the program; the log says more.'
            else:
                yield kind.code, inspect.cleandoc(kind.__doc__ or '').splitlines()[0]


def sentence(text: str | None) -> str:
    """Returns a summary as a sentence."""
    return f'{(text or "")[:1].upper()}{(text or "")[1:]}.'


if __name__ == '__main__':
    TARGET.write_text(document())

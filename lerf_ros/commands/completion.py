# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros completion SHELL`: prints the completion of commands, options and files for a shell."""

from __future__ import annotations

import argparse

from lerf_ros.errors import ConfigError

SHELLS = ('bash', 'zsh', 'tcsh')
# The names of options and arguments that take folders, and files.
FOLDERS = ('map', 'folder', 'folders', 'map_directory', 'pictures', 'export', 'out')
FILES = ('image', 'mask', 'params_file', 'preset')


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `completion`."""
    command = commands.add_parser(
        'completion', help='print the completion for a shell',
        description='Completion of commands, options and files. For bash: '
        'lerf_ros completion bash > ~/.local/share/bash-completion/completions/lerf_ros')
    command.add_argument('shell', choices=SHELLS)
    command.set_defaults(func=run_completion)


def run_completion(arguments: argparse.Namespace) -> int:
    """Prints the script; raises ConfigError without shtab, which writes it."""
    try:
        import shtab
    except ImportError as error:
        raise ConfigError('completion is written by shtab: pip install shtab') from error
    from lerf_ros.cli import parser

    top = parser()
    groups = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    for command in groups[0].choices.values():
        for action in command._actions:
            if action.dest in FOLDERS:
                action.complete = shtab.DIRECTORY   # type: ignore[attr-defined]
            elif action.dest in FILES:
                action.complete = shtab.FILE        # type: ignore[attr-defined]
    print(shtab.complete(top, arguments.shell))
    return 0

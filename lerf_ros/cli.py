# SPDX-License-Identifier: Apache-2.0
"""The command line `lerf_ros`, which runs the same core as the nodes without ROS.

Nothing heavy is imported until a command runs, so that help and completion come at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence

from lerf_ros import __version__, processes
from lerf_ros.commands import (
    agents,
    calibrate,
    completion,
    doctor,
    evaluate,
    export,
    merge,
    query,
    reindex,
    robot,
    train,
    view,
    welcome,
)
from lerf_ros.commands.parser import CommandParser, spread_settings
from lerf_ros.errors import LerfError

# In the order of a first hour.
MODULES = (train, query, agents, view, export, doctor, processes, robot, calibrate, evaluate,
           reindex, merge, completion)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status, or 2 after an error in one line on stderr.

    Where nobody reads on, as with `| head`, it ends as by SIGPIPE and says nothing.
    """
    try:
        try:
            return run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def run(arguments: Sequence[str] | None) -> int:
    """Does what `main` does, with an output that is read to its end."""
    words = spread_settings(sys.argv[1:] if arguments is None else arguments)
    parsed = parser().parse_args(words)
    if parsed.command is None:
        print(welcome.next_steps())
        return 0
    logging.basicConfig(level=logging.DEBUG if parsed.verbose else logging.INFO,
                        format='%(message)s')
    for name in ('httpx', 'httpcore', 'urllib3', 'filelock', 'matplotlib', 'PIL'):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return int(parsed.func(parsed))
    except (LerfError, OSError) as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            raise
        if parsed.verbose:
            logging.getLogger(__name__).debug('', exc_info=True)
        print(f'lerf_ros {parsed.command}: {in_one_line(error)}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def nobody_reads() -> bool:
    """Returns whether the reader of the output is gone: a pipe to somebody else may break, too."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def in_one_line(error: Exception) -> str:
    """Returns an error without a traceback: what could not be done, and with which file."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f'{error.filename}: {error.strerror}'


def parser() -> CommandParser:
    """Builds the parser of all commands."""
    top = CommandParser(prog='lerf_ros', description='Open-vocabulary 3D maps: lerf_ros alone '
                        'says what to do next.')
    top.add_argument('--version', action='version', version=f'lerf_ros {__version__}')
    add_verbose(top, False)
    commands = top.add_subparsers(dest='command', metavar='COMMAND')
    for module in MODULES:
        module.add_parser(commands)
    for command in commands.choices.values():
        # Left out where it is not given, or it would undo the one before the command.
        add_verbose(command, argparse.SUPPRESS)
    return top


def add_verbose(command: argparse.ArgumentParser, default: bool | str) -> None:
    """Adds --verbose to a command."""
    command.add_argument('-v', '--verbose', action='store_true', default=default,
                         help='say more, and show where an error comes from')


if __name__ == '__main__':
    sys.exit(main())

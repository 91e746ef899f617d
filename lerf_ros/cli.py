# SPDX-License-Identifier: Apache-2.0
"""The command line `lerf_ros`, which runs the same core as the nodes without ROS."""

from __future__ import annotations

import argparse
import logging
import sys

from lerf_ros import processes
from lerf_ros.commands import calibrate, query, reindex, train, view
from lerf_ros.commands.options import add_settings, read_config
from lerf_ros.errors import LerfError
from lerf_ros.evaluation import command


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status, or 2 after printing a LerfError to stderr."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('httpx').setLevel(logging.WARNING)
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.func(parsed))
    except LerfError as error:
        print(f'lerf_ros {parsed.command}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Builds the parser of all commands."""
    top = argparse.ArgumentParser(prog='lerf_ros', description='Open-vocabulary 3D maps.')
    commands = top.add_subparsers(dest='command', required=True)
    for module in (train, query, view, calibrate, reindex):
        module.add_parser(commands)
    evaluation = command.add_parser(commands)
    add_settings(evaluation)
    evaluation.set_defaults(func=run_eval)
    processes.add_parsers(commands)
    return top


def run_eval(arguments: argparse.Namespace) -> int:
    """Runs the evaluation; a named function, because --jobs pickles the arguments."""
    return command.run(arguments, read_config(arguments))


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros eval`: tables of localization, existence and extents, on captures or simulations."""

from __future__ import annotations

import argparse

from lerf_ros.commands.options import add_settings, read_config
from lerf_ros.evaluation import command


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `eval`."""
    evaluation = command.add_parser(commands)
    add_settings(evaluation)
    evaluation.set_defaults(func=run_eval)


def run_eval(arguments: argparse.Namespace) -> int:
    """Runs the evaluation; a named function, because --jobs pickles the arguments."""
    return command.run(arguments, read_config(arguments))

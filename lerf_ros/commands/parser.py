# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line: options and names in any order, errors in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

# A word that belongs to the --set before it; any other word ends the list of settings.
SETTING = re.compile(r'[A-Za-z_][\w.]*=')
MAX_PORT = 65535


class DefaultsFormatter(argparse.HelpFormatter):
    """Adds the default to the help of options that have one worth telling."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        told = action.default not in (None, False, True, '', 0, (), [], argparse.SUPPRESS)
        if not text or not told or not action.option_strings or 'default' in text:
            return text
        value = ' '.join(map(str, action.default)) if isinstance(action.default, (list, tuple)) \
            else '%(default)s'
        return f'{text} (default: {value})'


class CommandParser(argparse.ArgumentParser):
    """A parser in which options may stand before, between and after names and phrases."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**{'formatter_class': DefaultsFormatter,  # type: ignore[arg-type]
                            **arguments})
        self._intermixed = False

    def parse_known_args(  # type: ignore[override]
            self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
            ) -> tuple[argparse.Namespace, list[str]]:
        """Parses options first and names afterwards.

        argparse itself gives a list of phrases that may be empty its share before the first
        option, so that `query MAP --part lever "toaster"` would not be understood.
        """
        if self._subparsers is not None or self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True     # the method below calls this one again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False

    def error(self, message: str) -> NoReturn:
        """Prints the error in one line, with where the options are listed, and exits with 2."""
        self.exit(2, f'{self.prog}: {message} ({self.prog} --help lists the options)\n')


def spread_settings(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line with a --set of its own before each setting.

    `--set a.b=1 c.d=2 FOLDER` becomes `--set a.b=1 --set c.d=2 FOLDER`, so that what follows the
    settings is not taken for one.
    """
    out: list[str] = []
    in_settings = False
    for word in words:
        in_settings = word == '--set' or (in_settings and SETTING.match(word) is not None)
        if in_settings and word != '--set' and out[-1] != '--set':
            out.append('--set')
        out.append(word)
    return out


def port_number(text: str) -> int:
    """Reads the number of a TCP port; raises ArgumentTypeError for one that there is not."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f'{text!r} is no port: give a number from 1 to {MAX_PORT}')
    return int(text)


def seconds(text: str) -> float:
    """Reads a duration such as `90`, `60s`, `10m` or `1.5h`, in seconds."""
    parts = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(s|m|min|h)?', text.strip())
    if parts is None or float(parts[1]) <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no duration: give one such as 60s, 10m, 2h')
    return float(parts[1]) * {'h': 3600.0, 'm': 60.0, 'min': 60.0}.get(parts[2], 1.0)

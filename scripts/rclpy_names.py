# SPDX-License-Identifier: Apache-2.0
"""Writes which public names the rclpy of each ROS 2 distribution has, for the tests.

    python scripts/rclpy_names.py humble=PATH/rclpy jazzy=PATH/rclpy kilted=PATH/rclpy

PATH/rclpy is the Python package of that version, from its sources or its wheel. A line of
test/data/rclpy_names.txt is a name and the first letters of the distributions that have it:
modules, what they hold, members of classes, and the parameters of functions in brackets.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / 'test' / 'data' / 'rclpy_names.txt'
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def names_of(package: Path) -> Iterator[str]:
    """Yields the public dotted names of a package folder."""
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package.parent).with_suffix('').parts
        module = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        yield module
        yield from members(ast.parse(path.read_text()), module)


def members(scope: ast.AST, prefix: str) -> Iterator[str]:
    """Yields the names that a module or class body defines or imports, below a prefix."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, (ast.If, ast.Try)):
            yield from members(node, prefix)
        elif isinstance(node, FUNCTIONS):
            yield f'{prefix}.{node.name}'
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from (f'{prefix}.{node.name}({a.arg})' for a in arguments if a.arg != 'self')
            if node.args.kwarg:
                yield f'{prefix}.{node.name}(**)'
        elif isinstance(node, ast.ClassDef):
            yield f'{prefix}.{node.name}'
            yield from members(node, f'{prefix}.{node.name}')
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield f'{prefix}.{target.id}'
        elif isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith('rclpy')):
            yield from (f'{prefix}.{alias.asname or alias.name}' for alias in node.names)


def is_public(name: str) -> bool:
    """Whether no part of a dotted name begins with an underscore, but for __init__."""
    return not any(part.startswith('_') and not part.startswith('__init__(')
                   for part in name.split('.'))


def main() -> None:
    """Reads the folders of the command line and writes the file."""
    has: dict[str, str] = {}
    for argument in sys.argv[1:]:
        distribution, _, folder = argument.partition('=')
        for name in {name for name in names_of(Path(folder)) if is_public(name)}:
            has[name] = has.get(name, '') + distribution[0]
    head = [line for line in FILE.read_text().splitlines() if line.startswith('#')]
    FILE.write_text('\n'.join([*head, *(f'{name} {has[name]}' for name in sorted(has))]) + '\n')


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""The nodes use nothing of rclpy that a distribution lacks, by the names that each one has."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = Path(__file__).parent / 'data' / 'rclpy_names.txt'
DISTRIBUTIONS = 'hjk'    # Humble, Jazzy, Kilted
FILES = sorted([*(ROOT / 'lerf_ros/nodes').rglob('*.py'), *(ROOT / 'launch').glob('*.py')])
if not (ROOT / 'package.xml').exists():
    pytest.skip('not run from the source tree', allow_module_level=True)


def read_names():
    """Name -> distributions that have it, and the same for the last part of members and
    parameters, as a call through an object shows no more."""
    has, called = {}, defaultdict(set)
    for line in NAMES.read_text().splitlines():
        if not line.startswith('#'):
            name, letters = line.split()
            has[name] = set(letters)
            function, bracket, parameter = name.partition('(')
            parts = function.split('.')
            # A class is called by its own name.
            last = parts[-2] if parts[-1] == '__init__' else parts[-1]
            called[f'{last}({parameter}' if bracket else last] |= set(letters)
    return has, called


HAS, CALLED = read_names()


def lacking(source):
    """(line, name, distributions that lack it) of what a module uses of rclpy."""
    tree = ast.parse(source)
    yield from lacking_imports(tree)
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) \
                and node.value.id in names:
            whole = names[node.value.id]
            if any(name.startswith(f'{whole}.') for name in HAS):    # enums of C++ list no members
                yield from missing(node, f'{whole}.{node.attr}', HAS)
        elif isinstance(node, ast.Call):
            yield from lacking_in_call(node)


def imported(tree):
    """Local names of what is imported from rclpy, with the dotted names."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'rclpy':
            names.update({a.asname or a.name: f'{node.module}.{a.name}' for a in node.names})
        elif isinstance(node, ast.Import):
            names.update({a.asname or a.name: a.name for a in node.names
                          if a.name.split('.')[0] == 'rclpy'})
    return names


def lacking_imports(tree):
    """Imports that a distribution cannot make; of try and except ImportError, only both."""
    instead = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
                getattr(handler.type, 'id', '') == 'ImportError' for handler in node.handlers):
            other = [name for handler in node.handlers for name in imported(handler).values()]
            instead.update({id(part): other for part in ast.walk(node)})
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'rclpy':
            for alias in node.names:
                choice = [f'{node.module}.{alias.name}', *instead.get(id(node), [])]
                have = set().union(*(HAS.get(name, set()) for name in choice))
                if node.module == choice[-1].rpartition('.')[0] and id(node) in instead:
                    continue     # the other branch itself
                if have != set(DISTRIBUTIONS):
                    yield node.lineno, choice[0], set(DISTRIBUTIONS) - have


def lacking_in_call(call):
    """Methods and keywords that a newer rclpy has and another one has not."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else \
        getattr(call.func, 'id', None)
    if isinstance(call.func, ast.Attribute) and name in CALLED:
        yield from missing(call, name, CALLED)
    for keyword in call.keywords:
        known = f'{name}({keyword.arg})'
        if known in CALLED:
            any_keyword = CALLED.get(f'{name}(**)', set())
            yield from missing(call, known, {known: CALLED[known] | any_keyword})


def missing(node, name, table):
    lack = set(DISTRIBUTIONS) - table.get(name, set())
    if lack:
        yield node.lineno, name, lack


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_used_that_a_distribution_lacks(path):
    assert list(lacking(path.read_text())) == []


@pytest.mark.parametrize(('source', 'name', 'lack'), [
    ('from rclpy.event_handler import SubscriptionEventCallbacks',
     'rclpy.event_handler.SubscriptionEventCallbacks', {'h'}),
    ('from rclpy.nothing import Nothing', 'rclpy.nothing.Nothing', {'h', 'j', 'k'}),
    ('from rclpy.node import Node\nNode.no_method', 'rclpy.node.Node.no_method', {'h', 'j', 'k'}),
    ('import rclpy\nrclpy.no_function()', 'rclpy.no_function', {'h', 'j', 'k'}),
    ('self.create_timer(1.0, call, autostart=False)', 'create_timer(autostart)', {'h'}),
    ('node.get_type_description()', None, None),         # no name of rclpy
    ('try:\n    from rclpy.event_handler import SubscriptionEventCallbacks\n'
     'except ImportError:\n    from rclpy.qos_event import SubscriptionEventCallbacks', None, None),
    ('from rclpy.node import Node\nNode.create_timer(self, 1.0, call)', None, None)])
def test_the_check_finds_what_is_lacking(source, name, lack):
    found = list(lacking(source))
    assert [entry[1:] for entry in found] == ([] if name is None else [(name, lack)])

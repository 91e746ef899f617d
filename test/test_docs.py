# SPDX-License-Identifier: Apache-2.0
"""The documents say what the code does."""

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INTERNAL = {'design.md'}      # may be there; it is not part of the site


def script(name):
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f'scripts/{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module      # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_parameter_table_is_the_settings():
    pytest.importorskip('rclpy', reason='the nodes need ROS')
    assert (ROOT / 'docs/parameters.md').read_text() == script('parameter_table').document(), (
        'run: python scripts/parameter_table.py')


def test_command_line_reference_is_the_parsers():
    assert (ROOT / 'docs/cli.md').read_text() == script('cli_reference').document(), (
        'run: python scripts/cli_reference.py')


def test_every_command_in_the_documents_is_understood():
    check = script('docs_check')
    found = [command for page in check.pages() for command in check.commands(page)]
    assert len(found) > 60 and not [(c, text) for c in found if (text := check.problem(c))]


@pytest.mark.parametrize(('text', 'whole'), [
    ('lerf_ros train FOLDER --steeps 3', True), ('lerf_ros frob', True), ('lerf_ros frob', False),
    ('lerf_ros train --steeps', False), ('make frob', True), ('bash scripts/frob.sh', True),
    ('ros2 launch lerf_ros lerf.launch.py frob:=1', True), ('ros2 run lerf_ros frob', True),
    ('ros2 service call /lerf/query lerf_ros/srv/Query "{frob: 1}"', True),
    ('lerf_ros query MAP "a', True)])
def test_a_command_that_does_not_exist_is_found(text, whole):
    check = script('docs_check')
    assert check.problem(check.Command('README.md', text, whole))


def test_no_link_between_documents_is_broken():
    assert list(script('docs_site').broken_links()) == []


def test_every_page_is_in_the_site():
    pages = {page.name for page in (ROOT / 'docs').glob('*.md')}
    named = set(re.findall(r'[\w]+\.md', (ROOT / 'mkdocs.yml').read_text()))
    assert pages - INTERNAL == named


def test_interfaces_name_every_topic_and_service_and_readme_only_make_targets_there_are():
    interfaces = (ROOT / 'docs/interfaces.md').read_text()
    topics = (ROOT / 'lerf_ros/nodes/common/topics.py').read_text()
    for name in re.findall(r"= '(lerf/\w+)'", topics):
        assert f'`{name}`' in interfaces, name
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    for command in re.findall(r'`make ([\w-]+)', (ROOT / 'README.md').read_text()):
        assert command in targets, command


def test_readme_pictures_exist():
    for path in re.findall(r'!\[[^]]*\]\(([^)]+)\)', (ROOT / 'README.md').read_text()):
        assert (ROOT / path).is_file(), path


PYTHON = [pytest.param(block, id=f'{page.name}:{number}') for page in (
    ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))) for number, block in enumerate(
        re.findall(r'^```python\n(.*?)^```', page.read_text(), re.M | re.S))]


@pytest.mark.parametrize('block', PYTHON)
def test_python_in_the_documents_uses_names_that_there_are(block):
    """Imports of our own modules, and what is taken from classes imported so."""
    tree, ours = ast.parse(block), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] == 'lerf_ros':
            if node.module.startswith('lerf_ros.nodes.'):
                continue        # needs ROS
            module = importlib.import_module(node.module)
            ours |= {alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = ours.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), f'{node.value.id}.{node.attr}'

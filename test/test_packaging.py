# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: versions, comments of the interfaces, who imports whom, sizes."""

import ast
import importlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

import lerf_ros

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / 'package.xml').exists():
    pytest.skip('not run from the source tree', allow_module_level=True)

INTERFACE_FILES = sorted(path for kind in ('msg', 'srv', 'action')
                         for path in ROOT.glob(f'{kind}/*.{kind}'))
MODULES = [path for path in sorted((ROOT / 'lerf_ros').rglob('*.py'))
           if path.relative_to(ROOT / 'lerf_ros').parts[0] not in ('msg', 'srv', 'action')]

# Who may import whom. `errors` may be imported by all. A part imports itself freely.
BASICS = {'config', 'settings', 'geometry'}
CORE = BASICS | {'frames', 'encoders', 'field', 'training', 'index', 'query', 'grasping',
                 'storage', 'lerf'}
MAY_IMPORT: dict[str, set[str]] = {
    '__init__': {'config', 'frames', 'map_query', 'mapper', 'query'},
    'errors': set(),
    'quiet_threads': set(),
    'settings': set(),
    'config': {'settings'},
    'geometry': set(),
    'frames': BASICS,
    'encoders': BASICS | {'frames'},
    'field': BASICS,
    'training': BASICS | {'frames', 'encoders', 'field', 'lerf'},
    'index': BASICS | {'field'},
    'query': BASICS | {'frames', 'index'},      # the text encoder is handed in
    # The page of the method: it names all that takes part, and holds none of it.
    'lerf': CORE,
    'grasping': BASICS | {'frames', 'query'},
    # Geometry for a robot that acts on answers; nothing here knows ROS.
    'robot': BASICS | {'index', 'query', 'storage'},
    'simulation': BASICS | {'frames'},
    'storage': BASICS | {'frames'},
    # It judges what the method made, so it reads all of it; the method never reads it.
    'evaluation': CORE | {'map_query', 'mapping', 'simulation', 'show'},
    'show': BASICS | {'frames', 'query', 'storage', 'field', 'index', 'mapping'},
    'loaded_snapshot': CORE | {'show'},
    'map_query': CORE | {'loaded_snapshot', 'show'},
    'asked_map': {'query', 'loaded_snapshot'},
    # A robot's errand in physics, from a sentence to the lifted thing.
    'task': CORE | {'asked_map', 'evaluation', 'map_query', 'mapper', 'robot', 'simulation',
                    'submap_mapper', 'submap_query', 'quiet_threads'},
    # What agents are told of a map.
    'agents': CORE | {'asked_map', 'robot', 'show'},
    'mapper': CORE | {'mapping'},
    'submap_mapper': CORE | {'mapping'},
    'submap_query': CORE | {'loaded_snapshot', 'map_query', 'loaded_submaps'},
    'loaded_submaps': CORE | {'loaded_snapshot', 'map_query'},
    # What the node's own process loads of it is small; the loop runs in the other one.
    'mapping': CORE | {'process_group', 'quiet_threads'},
    'mapping/making': CORE | {'mapping', 'submap_mapper'},
    'mapping/single_map': CORE | {'mapper', 'mapping'},
    'mapping/submap_workers': CORE | {'mapping', 'submap_mapper'},
    # They only start processes: no part of the method is loaded for that. A demo makes room for
    # its map, and storage knows what may go.
    'process_group': set(),
    'processes': BASICS | {'process_group', 'storage', 'task'},
    'commands': CORE | {'agents', 'asked_map', 'mapper', 'mapping', 'map_query', 'submap_query',
                        'evaluation', 'robot', 'show', 'quiet_threads'},
    # The commands that talk to running nodes; all others run without ROS.
    'commands/robot': {'commands', 'nodes'},
    'commands/doctor': {'commands', 'nodes'},
    'commands/completion': {'cli'},     # completes the whole command line
    'cli': {'commands', 'processes'},
    'nodes': CORE | {'agents', 'asked_map', 'mapper', 'mapping', 'map_query', 'submap_query',
                     'processes', 'process_group', 'quiet_threads', 'robot', 'simulation',
                     'evaluation', 'show', 'msg', 'srv', 'action'},
}
ROS_PACKAGES = re.compile(r'(rclpy|tf2_\w+|tf2|launch|launch_ros|ament_index_python|rosbags|'
                          r'builtin_interfaces|rcl_interfaces|std_srvs|\w+_msgs)$')


def part_of(module: Path) -> str:
    """The first level below lerf_ros that a file belongs to, or itself where it has a row."""
    name = module.relative_to(ROOT / 'lerf_ros').with_suffix('').as_posix()
    return name if name in MAY_IMPORT else name.split('/')[0]


def imported_names(module: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, relative imports resolved."""
    package = module.relative_to(ROOT).with_suffix('').parts[:-1]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join((*package[:len(package) - node.level + 1],
                             *filter(None, [node.module]))) if node.level else node.module
            yield from (f'{base}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('module', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(module):
    part = part_of(module)
    assert part in MAY_IMPORT, f'{part} is a new part: say above what it may import'
    for name in imported_names(module):
        names = name.split('.')
        if name == 'lerf_ros.__version__':
            continue
        if names[0] == 'lerf_ros' and len(names) > 1:
            allowed = MAY_IMPORT[part] | {part, 'errors'}
            assert names[1] in allowed, f'{part} may not import {name}'
        elif part != 'nodes':
            assert not ROS_PACKAGES.match(names[0]), f'only nodes import ROS, not {part}: {name}'


@pytest.mark.parametrize('module', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(module):
    text = module.read_text()
    assert text.startswith('# SPDX-License-Identifier: Apache-2.0\n')
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f'{node.name} has {length} lines'


def test_versions_agree():
    package = ElementTree.parse(ROOT / 'package.xml').getroot().findtext('version')
    setup = re.search(r"^VERSION = '([^']+)'", (ROOT / 'setup.py').read_text(), re.MULTILINE)
    log = re.search(r'^(\d+\.\d+\.\d+)( \(.*\))?\n-+$', (ROOT / 'CHANGELOG.rst').read_text(),
                    re.MULTILINE)
    assert setup and log
    assert package == setup.group(1) == log.group(1) == lerf_ros.__version__


def test_bloom_can_read_the_package_and_its_changelog():
    parser = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    changelog = importlib.import_module('catkin_pkg.changelog')
    warnings: list[str] = []
    package = parser.parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    package.validate(warnings)
    assert not warnings
    versions = changelog.get_changelog_from_path(str(ROOT / 'CHANGELOG.rst')).foreach_version()
    newest, date, lines = next(iter(versions))
    assert newest == package.version and date is not None and lines


def test_pip_shows_who_made_it_and_what_it_is(monkeypatch):
    pytest.importorskip('setuptools', reason='brings distutils, which Python 3.12 has no more')
    run_setup = importlib.import_module('distutils.core').run_setup
    monkeypatch.chdir(ROOT)
    made = run_setup('setup.py', stop_after='init')
    of = made.metadata
    assert of.long_description.startswith('# lerf_ros') and of.author and of.url
    assert of.long_description_content_type == 'text/markdown'
    assert {'viser>=1.1', 'timm>=1.0', 'matplotlib>=3.8'} <= set(made.extras_require['all'])
    assert not [line for line in made.extras_require['all'] if line.startswith('ros-')]


def test_the_licence_is_the_same_everywhere():
    assert ElementTree.parse(ROOT / 'package.xml').getroot().findtext('license') == 'Apache-2.0'
    assert "license='Apache-2.0'" in (ROOT / 'setup.py').read_text()
    assert 'Version 2.0, January 2004' in (ROOT / 'LICENSE').read_text()


@pytest.mark.parametrize('path', INTERFACE_FILES, ids=lambda path: path.name)
def test_every_field_has_a_comment_above_it(path):
    previous = ''
    for line in path.read_text().splitlines():
        if line and not line.startswith('#') and line != '---':
            assert previous.startswith('# '), f'no comment above: {line}'
        previous = line


def test_every_interface_is_built():
    cmake = (ROOT / 'CMakeLists.txt').read_text()
    for path in INTERFACE_FILES:
        assert f'"{path.relative_to(ROOT)}"' in cmake


def test_containers_name_extras_and_files_that_exist():
    docker, editor = ROOT / 'docker' / 'Dockerfile', ROOT / '.devcontainer' / 'devcontainer.json'
    if not docker.exists():
        pytest.skip('an installed copy has no docker folder')
    content = json.loads(editor.read_text())
    named = re.findall(r'^ARG EXTRAS="(.*)"$', docker.read_text(), re.M)
    assert len(named) == 1
    for extra in {*named[0].split(), *content['build']['args']['EXTRAS'].split()}:
        assert (ROOT / 'requirements' / f'{extra}.txt').is_file(), extra
    assert (editor.parent / content['build']['dockerfile']).resolve() == docker.resolve()
    # What is built on this machine must not reach the image, and sources must.
    ignored = (ROOT / '.dockerignore').read_text().split()
    assert {'.venv', 'out', 'lerf_ros/msg'} <= set(ignored)
    assert not {'msg', 'srv', 'action', 'scripts', 'requirements'} & set(ignored)


def test_pins_cover_every_dependency():
    pins = (ROOT / 'requirements' / 'constraints-py311.txt').read_text()
    pinned = {line.split('==')[0] for line in pins.splitlines() if '==' in line}
    for name in ('build', 'colcon', 'core', 'ros', 'openclip', 'offline', 'view', 'physics',
                 'captures', 'mcp', 'dev'):
        for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
            wanted = re.match(r'[A-Za-z0-9_.-]+', line)
            if wanted:
                assert re.sub(r'[-_.]+', '-', wanted.group()).lower() in pinned, line


def test_the_environment_of_pixi_has_what_the_package_needs():
    tomllib = pytest.importorskip('tomllib', reason='came with Python 3.11')
    if not (ROOT / 'pixi.toml').exists():
        pytest.skip('an installed copy has no pixi.toml')
    pixi = tomllib.loads((ROOT / 'pixi.toml').read_text())
    there = {*pixi['dependencies'], *pixi['pypi-dependencies']}
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    ros = {name.text for kind in ('depend', 'exec_depend', 'buildtool_depend')
           for name in package.findall(kind) if name.text and not name.text.startswith('python3-')}
    assert {f'ros-kilted-{name.replace("_", "-")}' for name in ros} <= there
    conda = {'torch': 'pytorch', 'opencv-python-headless': 'opencv'}
    for name in ('core', 'offline'):
        lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
        wanted = {line[:match.end()] for line in lines
                  if (match := re.match(r'[A-Za-z0-9_.-]+', line))}
        assert {conda.get(each, each) for each in wanted} <= there

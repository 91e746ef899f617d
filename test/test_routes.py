# SPDX-License-Identifier: Apache-2.0
"""What the package imports is what each way to install it brings (scripts/routes.py)."""

import ast
import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / 'package.xml').exists():
    pytest.skip('not run from the source tree', allow_module_level=True)
packaging = pytest.importorskip('packaging.requirements', reason='reads requirement lines')

MODULES = [path for path in sorted((ROOT / 'lerf_ros').rglob('*.py'))
           if path.relative_to(ROOT / 'lerf_ros').parts[0] not in ('msg', 'srv', 'action')]
# Of what apt brings beside its own name, and of what the wheels do not name as pip would.
OWN = {'lerf_ros'}
ROS_OF_PACKAGE = {'tf2_ros': 'tf2_ros_py'}      # import name -> ROS package, where they differ
ROSDEP = {'torch': 'python3-torch', 'numpy': 'python3-numpy', 'cv2': 'python3-opencv',
          'scipy': 'python3-scipy', 'sklearn': 'python3-sklearn', 'yaml': 'python3-yaml',
          'tqdm': 'python3-tqdm', 'PIL': 'python3-pil'}
WITHOUT_A_KEY = {'safetensors'}


def load(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


ROUTES = load('routes').ROUTES


def canonical(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def lines_of(*files: str) -> Iterator[str]:
    """The requirement lines of requirements/FILE.txt."""
    for file in files:
        for line in (ROOT / 'requirements' / f'{file}.txt').read_text().splitlines():
            if line.strip() and not line.startswith('#'):
                yield line


@cache
def closure(*files: str) -> frozenset[str]:
    """Canonical names of all distributions that these files install, dependencies included."""
    found: set[str] = set()
    waiting = [packaging.Requirement(line) for line in lines_of(*files)]
    while waiting:
        wanted = waiting.pop()
        name = canonical(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({'extra': ''}):
            continue
        extras = [extra for extra in wanted.extras]
        if name in found and not extras:
            continue
        found.add(name)
        try:
            needs = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue
        for line in needs:
            need = packaging.Requirement(line)
            if need.marker is None or any(need.marker.evaluate({'extra': extra})
                                          for extra in ['', *extras]):
                need.marker = None
                waiting.append(need)
    return frozenset(found)


@cache
def providers() -> dict[str, list[str]]:
    """Import name -> distributions that bring it, of all that is installed."""
    return {name: [canonical(d) for d in dists]
            for name, dists in packages_distributions().items()}


def ros_packages() -> set[str]:
    """The packages that package.xml names for running."""
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {element.text for kind in ('depend', 'exec_depend') for element in root.iter(kind)}


@cache
def imports(source: str) -> list[tuple[int, str, bool]]:
    """Line, first name and whether it may be missing of every import outside TYPE_CHECKING.

    It may where `except ImportError` goes on in another way or says with pip what to install.
    """
    guarded, skipped, found = set(), set(), []
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Try) and any(is_guard(handler) for handler in node.handlers):
            guarded.update(id(inner) for part in node.body for inner in ast.walk(part))
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        for name in names if id(node) not in skipped else []:
            found.append((node.lineno, name.split('.')[0], id(node) in guarded))
    return found


def is_guard(handler: ast.ExceptHandler) -> bool:
    """Whether a handler of ImportError goes on, or raises an error that says `pip install`."""
    if handler.type is None or 'ImportError' not in ast.dump(handler.type):
        return False
    raised = [node for node in ast.walk(handler) if isinstance(node, ast.Raise)]
    return all('pip install' in ast.unparse(node) for node in raised)


def missing(source: str, files: tuple[str, ...], ros: set[str] = frozenset()) -> list[str]:
    """What a module imports without a guard that neither the files nor the ROS packages bring."""
    brought = closure(*files)
    out = []
    for line, name, may_be_missing in imports(source):
        known = name in sys.stdlib_module_names or name in OWN or may_be_missing \
            or name == '__future__' or ROS_OF_PACKAGE.get(name, name) in ros \
            or brought & set(providers().get(name, ())) or canonical(f'ros-{name}') in brought
        if not known:
            out.append(f'line {line}: {name}')
    return out


def folder_of(path: Path) -> str:
    return path.relative_to(ROOT / 'lerf_ros').parts[0]


def checked(path: Path) -> bool:
    """Whether a module is loaded after it was said in words what is missing for it.

    task/command.py does so for its folder, and what speaks MoveIt's messages for each function. The
    plugin of rqt is loaded by rqt alone.
    """
    return path.parent.name == 'moveit' or path.parts[-2:] == ('rqt', 'plugin.py') or (
        folder_of(path) == 'task' and path.name != 'command.py')


@pytest.mark.parametrize('route', ROUTES)
def test_every_route_installs_what_is_imported(route):
    kind = ROUTES[route]
    # The wheel of lerf_ros brings what other wheels lack.
    ros = ros_packages() if kind.system else {'tf2_msgs', 'vision_msgs'}
    found = {str(path.relative_to(ROOT)): missing(path.read_text(), ('core', *kind.extras), ros)
             for path in MODULES if (kind.ros or folder_of(path) != 'nodes') and not checked(path)}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_task_says_what_is_missing_before_it_loads_the_rest_of_its_folder():
    from lerf_ros.task.command import NEEDED
    lacking = {line.split(': ')[1] for path in MODULES if folder_of(path) == 'task'
               for line in missing(path.read_text(), ('core',))}
    assert lacking and lacking <= set(NEEDED)


@pytest.mark.parametrize(('source', 'found'), [
    ('def normals():\n    import open3d as o3d', ['line 2: open3d']),
    ('from transformers import AutoModel', ['line 1: transformers']),
    ('import numpy, scipy.spatial', []),
    ('try:\n    import viser\nexcept ImportError as error:\n'
     '    raise ConfigError("pip install viser") from error', []),
    ('try:\n    import viser\nexcept ImportError as error:\n    raise ConfigError("no") from error',
     ['line 2: viser']),
    ('try:\n    import tf2_ros\nexcept ImportError:\n    import os', [])])
def test_the_check_finds_what_is_missing(source, found):
    assert missing(source, ('core',)) == found


def test_modules_asked_for_by_name_are_of_the_extra_that_the_error_names():
    calls = [(path, node) for path in MODULES for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'require']
    assert calls
    for path, call in calls:
        module, extra = (argument.value if isinstance(argument, ast.Constant) else None
                         for argument in call.args[:2])
        if module and extra:
            assert closure(extra) & set(providers()[module.split('.')[0]]), (path, module, extra)


def test_readme_shows_every_route():
    readme = (ROOT / 'docs/install.md').read_text()
    for name, route in ROUTES.items():
        command = 'scripts/workspace.sh' if route.system else \
            f"pip install '.[{','.join(route.extras)}]'" if route.extras else 'pip install .'
        assert command in readme, name


# package.xml ---------------------------------------------------------------------------------

def imported_from(folder: Path) -> dict[str, str]:
    """First names of all imports of a folder, with a file that has each."""
    return {name: path.name for path in sorted(folder.rglob('*.py')) if path.parent.name != 'moveit'
            for _, name, _ in imports(path.read_text())
            if name not in sys.stdlib_module_names and name not in OWN}


def test_package_xml_names_every_ros_package_that_nodes_and_launch_files_import():
    pip = closure('core', 'ros')
    wanted = {}
    for folder in (ROOT / 'lerf_ros' / 'nodes', ROOT / 'launch'):
        for name, file in imported_from(folder).items():
            of_pip = [d for d in providers().get(name, ()) if not d.startswith('ros-')]
            if not of_pip or not pip & set(of_pip):
                wanted[ROS_OF_PACKAGE.get(name, name)] = file
    assert {'rclpy', 'launch', 'rcl_interfaces', 'rosgraph_msgs', 'vision_msgs'} <= set(wanted)
    assert not set(wanted) - ros_packages(), wanted
    # And nothing that nothing uses; rviz2, rqt_gui and ros2launch are programs, lifecycle_msgs and
    # action_msgs are what the nodes' services speak, and the panel imports Qt's binding by name.
    unused = {name for name in ros_packages() if not name.startswith('python3-')} - set(wanted)
    interfaces = set(re.findall(r'^(\w+)/', '\n'.join(
        path.read_text() for path in [*ROOT.glob('msg/*.msg'), *ROOT.glob('srv/*.srv')]), re.M))
    assert unused - interfaces == {
        'action_msgs', 'lifecycle_msgs', 'python_qt_binding', 'ros2launch',
        'rosidl_default_runtime', 'rqt_gui', 'rviz2'}


def test_package_xml_names_every_python_package_that_has_a_key():
    wanted = {name for path in MODULES for _, name, may_be_missing in imports(
        path.read_text()) if not may_be_missing
        and closure('core') & set(providers().get(name, ()))}
    # triton comes with a torch that has CUDA, and nothing needs it.
    assert wanted - {'triton'} == set(ROSDEP) | WITHOUT_A_KEY
    assert set(ROSDEP.values()) <= ros_packages()


def test_package_xml_says_who_and_where():
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    for person in root.iter('maintainer'):
        assert re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', person.get('email'))
        assert 'example' not in person.get('email')
    assert root.find('url') is not None and root.findtext('url').startswith('https://')

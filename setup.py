# SPDX-License-Identifier: Apache-2.0
"""Builds lerf_ros for pip, where ROS 2 usually comes from wheels.

colcon does not run this file: package.xml says ament_cmake. Both ways use the
same CMakeLists.txt; here its install tree is what goes into the wheel. With
LERF_ROS_NO_INTERFACES=1 CMake is not run and the wheel is pure Python.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

NAME = 'lerf_ros'
VERSION = '0.1.0'  # also in package.xml and CHANGELOG.rst
HERE = Path(__file__).resolve().parent
INTERFACES = os.environ.get('LERF_ROS_NO_INTERFACES', '0') in ('', '0')
# Message packages that no wheel has. Ours have the same fields, so a real one talks to them.
NOT_IN_WHEELS = ('tf2_msgs', 'vision_msgs')
EXTRAS = ('ros', 'openclip', 'offline', 'sim', 'eval', 'view', 'physics', 'captures', 'mcp', 'ray',
          'dev')
# What the extra `all` holds: not ROS, which must not meet a sourced one, nor simulators and tests.
ALL = ('offline', 'openclip', 'captures', 'view', 'eval')
PAPER = 'https://arxiv.org/abs/2303.09553'


def requirements(name: str) -> list[str]:
    """The dependencies that requirements/NAME.txt lists."""
    lines = (HERE / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def sourced_ros() -> list[str]:
    """The prefixes of a sourced ROS 2; none where the environment names only that of wheels."""
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    return [] if all((Path(p) / 'pyvenv.cfg').exists() for p in prefixes) else prefixes


def ros_prefixes() -> list[str]:
    """Where ROS 2 is: a sourced installation, or the prefix the wheels are in."""
    if sourced := sourced_ros():
        return sourced
    spec = find_spec('rosidl_generator_py')
    for parent in Path(spec.origin).parents if spec and spec.origin else ():
        if (parent / 'share' / 'ament_index').is_dir():
            return [str(parent)]
    sys.exit('lerf_ros: no ROS 2 to build the interfaces with. Source its setup file, or '
             'install requirements/build.txt, or set LERF_ROS_NO_INTERFACES=1.')


def site_packages(prefix: Path) -> list[Path]:
    """The Python folders of a prefix, where Debian and others keep them."""
    return [folder for lib in ('lib', 'local/lib')
            for folder in sorted((prefix / lib).glob('python3*/*-packages'))]


def is_there(package: str, prefixes: list[str]) -> bool:
    """Whether a prefix has a package from elsewhere, not from an earlier install of ours."""
    ours = HERE / 'wheels' / package / 'package.xml'
    found = (Path(prefix) / 'share' / package / 'package.xml' for prefix in prefixes)
    return any(path.exists() and path.read_bytes() != ours.read_bytes() for path in found)


def run_cmake(source: Path, name: str, prefixes: list[str]) -> Path:
    """Build and install one CMake package; returns its install tree."""
    build = HERE / 'build' / 'pip' / name
    stage = build / 'stage'
    # pip hides a sourced ROS 2 from the Python of its builds.
    python = [os.environ.get('PYTHONPATH', '')] + [
        str(folder) for prefix in prefixes if not (Path(prefix) / 'pyvenv.cfg').exists()
        for folder in site_packages(Path(prefix))]
    env = dict(os.environ, AMENT_PREFIX_PATH=os.pathsep.join(prefixes),
               PYTHONPATH=os.pathsep.join(filter(None, python)))
    for arguments in (
            ['-S', str(source), '-B', str(build), '-DCMAKE_BUILD_TYPE=Release',
             '-DBUILD_TESTING=OFF', f'-DCMAKE_INSTALL_PREFIX={stage}',
             f'-DCMAKE_PREFIX_PATH={";".join(prefixes)}',
             f'-DPython3_EXECUTABLE={sys.executable}',
             '-DLERF_ROS_PYTHON=/usr/bin/env python3',
             f'-DLERF_ROS_CPP={"ON" if sourced_ros() else "OFF"}',
             f'-DCMAKE_PROJECT_{name}_INCLUDE={HERE / "cmake" / "pypi_wheels.cmake"}'],
            ['--build', str(build), '--parallel', str(os.cpu_count() or 1)],
            ['--install', str(build)]):
        try:
            subprocess.run(['cmake', *arguments], check=True, env=env)
        except (OSError, subprocess.CalledProcessError) as error:
            # Not raised: setuptools installs editable packages in spite of errors.
            sys.exit('lerf_ros: the interfaces were not built. CMake, a C++ compiler and '
                     f"Python's headers are needed (g++ cmake python3-dev). {error}")
    return stage


def installed_files(stage: Path, skip: Path | None) -> dict[str, list[str]]:
    """Files of an install tree by their folder below the prefix, without `skip`."""
    files: dict[str, list[str]] = {}
    for top in ('lib', 'share'):
        for path in sorted((stage / top).rglob('*')):
            if path.is_dir() or skip in path.parents or '__pycache__' in path.parts \
                    or path.suffix == '.c' or '.egg-info' in str(path):
                continue
            files.setdefault(str(path.parent.relative_to(stage)), []).append(str(path))
    return files


class BuildPy(build_py):
    """Adds the generated interfaces and everything else that CMake installs."""

    def run(self):
        super().run()
        if not INTERFACES:
            return
        shutil.rmtree(HERE / 'build' / 'pip', ignore_errors=True)
        prefixes = ros_prefixes()
        missing = [name for name in NOT_IN_WHEELS if not is_there(name, prefixes)]
        stages = [run_cmake(HERE / 'wheels' / name, name, prefixes) for name in missing]
        # In front: an earlier install of ours has no headers.
        stage = run_cmake(HERE, NAME, [*map(str, stages), *prefixes])
        site = site_packages(stage)[0]
        self.take_generated(site / NAME)
        files = installed_files(stage, skip=site)
        for other in stages:
            for folder, paths in installed_files(other, skip=None).items():
                files.setdefault(folder, []).extend(paths)
        self.distribution.data_files[:] = files.items()

    def take_generated(self, package: Path):
        """Copy msg, srv, action and their extensions beside the hand-written modules."""
        target = HERE / NAME if self.editable_mode else Path(self.build_lib) / NAME
        for folder in ('msg', 'srv', 'action'):
            shutil.rmtree(target / folder, ignore_errors=True)
            shutil.copytree(package / folder, target / folder,
                            ignore=shutil.ignore_patterns('*.c', '__pycache__'))
        for extension in package.glob('*.so'):
            shutil.copy2(extension, target)


class InterfaceDistribution(Distribution):
    """A wheel for one platform when it holds the interfaces, else for all."""

    def has_ext_modules(self):
        return INTERFACES

    def has_data(self):  # asked by editable installs only; setuptools has has_data_files
        return self.has_data_files()


def configuration() -> list[tuple[str, list[str]]]:
    """The parameter files by folder, which CMake installs when it runs."""
    files: dict[str, list[str]] = {}
    for path in sorted((HERE / 'config').rglob('*.yaml')):
        relative = path.relative_to(HERE)
        files.setdefault(f'share/{NAME}/{relative.parent}', []).append(str(relative))
    return list(files.items())


setup(
    name=NAME,
    version=VERSION,
    description='Online language embedded radiance fields for ROS 2',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The lerf_ros developers',
    author_email='lerf-ros-developers@users.noreply.github.com',
    url=PAPER,
    project_urls={'Paper': PAPER},
    keywords='robotics ros2 nerf lerf open-vocabulary mapping',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 15)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    license='Apache-2.0',
    packages=find_packages(include=[NAME, f'{NAME}.*'],
                           exclude=[f'{NAME}.msg*', f'{NAME}.srv*', f'{NAME}.action*']),
    package_data={'': ['*.cpp', '*/*.cpp', 'calibrations/*.json', 'weights/*.json']},
    data_files=configuration(),
    python_requires='>=3.10',
    install_requires=requirements('core'),
    extras_require={**{extra: requirements(extra) for extra in EXTRAS},
                    'all': sorted({line for extra in ALL for line in requirements(extra)})},
    entry_points={'console_scripts': [f'{NAME} = {NAME}.cli:main']},
    cmdclass={'build_py': BuildPy},
    distclass=InterfaceDistribution,
)

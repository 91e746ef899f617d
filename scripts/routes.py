# SPDX-License-Identifier: Apache-2.0
"""Tries each way of the README to install the package: a virtual environment with exactly that.

    python scripts/routes.py [ROUTE...] [--torch VERSION] [--keep]

In each: a capture, training, a snapshot, queries and grasps (scripts/route_check.py). Environments
are removed afterwards. Prints a table; exits with 1 when a route fails. Run by `make routes`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / 'out' / 'routes'
CAPTURE = OUT / 'capture'
VIEWS = 24      # of the capture
# Left by a parent that runs on wheels or in an environment of its own.
FOREIGN = ('AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH', 'LD_LIBRARY_PATH',
           'PYTHONPATH', 'VIRTUAL_ENV', '_ROS_WHEELS_BOOTSTRAP_COMPLETE')


@dataclass(frozen=True)
class Route:
    """extras: files of requirements/ beside core.txt. ros: whether nodes run there. system: with
    the system's Python and its packages, built with colcon."""

    extras: tuple[str, ...]
    ros: bool = False
    system: bool = False


ROUTES = {'core': Route(()),
          'offline': Route(('offline',)),
          'openclip': Route(('openclip',)),
          'ros': Route(('ros', 'offline'), ros=True),
          'workspace': Route(('offline',), ros=True, system=True)}


def main() -> int:
    """Tries the routes that are named, or all; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('routes', nargs='*', metavar='ROUTE', help=', '.join(ROUTES))
    parser.add_argument('--torch', help='hold this version, where the newest is a large download')
    parser.add_argument('--keep', action='store_true', help='leave the environments')
    arguments = parser.parse_args()
    unknown = set(arguments.routes) - set(ROUTES)
    if unknown:
        parser.error(f'no route {", ".join(unknown)}: there are {", ".join(ROUTES)}')
    names = arguments.routes or list(ROUTES)
    OUT.mkdir(parents=True, exist_ok=True)
    if names != ['core']:
        write_capture()
    rows = []
    for name in names:
        print(f'=== route {name}', flush=True)
        rows.append(try_route(name, arguments.torch))
        if not arguments.keep:
            shutil.rmtree(OUT / name, ignore_errors=True)
    print(f'\n{"route":10} {"install s":>9} {"run s":>6} {"MB":>6}  result')
    for row in rows:
        print('{:10} {:9.0f} {:6.0f} {:6.0f}  {}'.format(*row))
    return int(any(row[-1] != 'ok' for row in rows))


def try_route(name: str, torch: str | None) -> tuple[str, float, float, float, str]:
    """Returns name, seconds of installation and of the run, size in MB, and 'ok' or what failed."""
    place = OUT / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    environment['PYTHONNOUSERSITE'] = '1'
    if torch:
        (place / 'held.txt').write_text(f'torch=={torch}\n')
        environment['PIP_CONSTRAINT'] = str(place / 'held.txt')
    started, installed, result = time.monotonic(), 0.0, 'ok'
    for command in commands(name, ROUTES[name], place):
        if 'route_check.py' in command:
            installed = time.monotonic() - started
        print('+', command, flush=True)
        if subprocess.run(['bash', '-c', command], cwd=place, env=environment).returncode:
            result = f'failed: {command[:100]}'
            break
    total = time.monotonic() - started
    installed = installed or total
    size = sum(path.lstat().st_size for path in (place / 'venv').rglob('*')) / 1e6
    return name, installed, total - installed, size, result


def commands(name: str, route: Route, place: Path) -> Iterator[str]:
    """Yields what a user types, then the check."""
    python = place / 'venv' / 'bin' / 'python'
    pip = f'{python} -m pip install --quiet --prefer-binary --disable-pip-version-check'
    activated = f'. {place}/venv/bin/activate'
    if route.system:
        yield f'bash {ROOT}/scripts/workspace.sh {place}/venv {" ".join(route.extras)}'
        # Instead of a ROS 2 from apt, and of apt's colcon.
        for file in ('ros', 'build', 'colcon'):
            yield f'{pip} -r {ROOT}/requirements/{file}.txt'
        activated += f' && export AMENT_PREFIX_PATH={place}/venv CMAKE_PREFIX_PATH={place}/venv'
        # tf2_msgs and vision_msgs are part of that ROS 2 and of no wheel.
        packages = ('tf2_msgs', 'vision_msgs', 'lerf_ros')
        places = ' '.join(f'{ROOT}/wheels/{package}' for package in packages[:-1])
        includes = ' '.join(f'-DCMAKE_PROJECT_{package}_INCLUDE={ROOT}/cmake/pypi_wheels.cmake'
                            for package in packages)
        yield (f'{activated} && colcon build --base-paths {ROOT} {places} --event-handlers '
               f'console_direct- --cmake-args -DBUILD_TESTING=OFF {includes}')
        activated = f'set +u && {activated} && . {place}/install/setup.bash'
    else:
        yield f'{sys.executable} -m venv {place}/venv'
        package = f'{ROOT}[{",".join(route.extras)}]' if route.extras else str(ROOT)
        yield f'{"" if route.ros else "LERF_ROS_NO_INTERFACES=1 "}{pip} {package!r}'
        if route.ros:
            activated += f' && export AMENT_PREFIX_PATH={place}/venv'
    yield f'{activated} && python {ROOT}/scripts/route_check.py {name} {CAPTURE}'


def write_capture() -> None:
    """Writes a simulated RGB-D capture in nerfstudio's layout, and where its things are."""
    import cv2
    import numpy as np

    from lerf_ros.geometry.camera import OPENGL_TO_OPENCV, PinholeCamera
    from lerf_ros.simulation.renderer import SceneRenderer
    from lerf_ros.simulation.scene import TabletopScene
    from lerf_ros.simulation.trajectory import hand_held_path

    if (CAPTURE / 'truth.json').exists():
        return
    for folder in ('images', 'depth'):
        (CAPTURE / folder).mkdir(parents=True, exist_ok=True)
    scene, frames = TabletopScene.generate(0), []
    camera = PinholeCamera(480, 360, 412.5, 412.5, 240.0, 180.0)
    renderer, path = SceneRenderer(scene), hand_held_path(0, scene, 60.0)
    for number, time_s in enumerate(np.linspace(0, 59, VIEWS)):
        view = renderer.render(camera, path(float(time_s)))
        names = f'images/{number:03}.png', f'depth/{number:03}.png'
        cv2.imwrite(str(CAPTURE / names[0]), view.image[:, :, ::-1])
        depth_mm = np.nan_to_num(view.depth_m * 1000, posinf=0).clip(0, 65535)
        cv2.imwrite(str(CAPTURE / names[1]), depth_mm.astype(np.uint16))
        pose = path(float(time_s)) @ OPENGL_TO_OPENCV
        frames.append({'file_path': names[0], 'depth_file_path': names[1],
                       'transform_matrix': pose.tolist()})
    intrinsics = {'w': camera.width, 'h': camera.height, 'fl_x': camera.fx, 'fl_y': camera.fy,
                  'cx': camera.cx, 'cy': camera.cy, 'depth_unit_scale_factor': 0.001}
    (CAPTURE / 'transforms.json').write_text(json.dumps({**intrinsics, 'frames': frames}))
    (CAPTURE / 'truth.json').write_text(json.dumps({
        thing.query: [list(thing.box_min), list(thing.box_max)] for thing in scene.objects}))


if __name__ == '__main__':
    sys.exit(main())

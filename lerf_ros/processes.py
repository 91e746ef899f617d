# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros up` and `lerf_ros demo`: start the nodes as processes, without launch files."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lerf_ros.errors import ConfigError, ForeignFolderError, MapInTheWayError
from lerf_ros.process_group import run

MAIN_NODES = ('mapper_node', 'query_node')
BOTH_NODES = 'lerf_node'
CAMERA, REPLAY = 'sim_camera_node', 'replay_node'
BAG_SPEED = 0.5     # so that two cores keep up
PLACES = 2          # tables or rooms of a world
# What scripts/make_bag.py records: the transports of images and depth. With exact depth a map needs
# no training, so that it is there as soon as the images are encoded.
# A robot that drives through rooms, and a map of them that is there when it has arrived.
DRIVEN_CAMERA = {'depth_noise': 0.0015}
DRIVEN_MAP = {'submaps.use': 'true', 'training.field': 'none'}
BAG_INPUTS = {'image_transport': 'compressed', 'depth_transport': 'compressed',
              'training.field': 'none'}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `up` and `demo` with the command line."""
    up = subparsers.add_parser('up', help='start the mapper and the query node')
    up.add_argument('--params-file', help='ROS parameters of both nodes (default: lerf.yaml)')
    up.add_argument('--map-directory', help='where the map is kept')
    up.add_argument('--namespace', help='of both nodes, as in /robot_a')
    up.add_argument('--log-level', help='debug, info, warn, error or fatal')
    up.add_argument('--one-process', action='store_true',
                    help='both nodes in one process, which takes less memory')
    up.add_argument('parameters', nargs='*', metavar='name:=value',
                    help='further parameters of both nodes; they win over the file')
    up.set_defaults(func=lerf_up)
    demo = subparsers.add_parser('demo', help='simulated camera, mapper, queries and a report')
    demo.add_argument('--seed', type=int, help='another scene, path and light (default: 0)')
    demo.add_argument('--world', choices=('corridor', 'apartment'), help='instead of one '
                      'table: a robot drives past tables in a corridor, or through rooms, and maps '
                      'them into submaps, without a field')
    demo.add_argument('--places', type=int, metavar='N',
                      help='tables of the corridor, or rooms of the apartment (default: 2)')
    demo.add_argument('--bag', metavar='FILE', help='replay this recording of a simulated table '
                      'instead, such as bags/table_31.mcap; the number is its seed')
    demo.add_argument('--out', default='out/demo', help='folder of map, pictures and results.json')
    demo.add_argument('--params-file', help='ROS parameters of all nodes (default: demo.yaml)')
    demo.add_argument('--check', action=argparse.BooleanOptionalAction, default=True,
                      help='exit with 1 when fewer than 7 of 8 are right or an absent one is found')
    demo.add_argument('--task', metavar='SENTENCE',
                      help='an errand instead, in physics and without ROS: "bring me the red mug"; '
                      'the seed chooses the table, or with --world corridor the tables')
    demo.set_defaults(func=lerf_demo)


def lerf_up(arguments: argparse.Namespace) -> int:
    """Runs mapper and query until Ctrl-C; starts one that dies again, a few times."""
    wrong = [text for text in arguments.parameters if ':=' not in text]
    if wrong:
        raise ConfigError(f'{wrong[0]!r}: expected name:=value')
    options = parameter_options(
        arguments.params_file or config_file('lerf.yaml'),
        {'map_directory': arguments.map_directory and Path(arguments.map_directory).absolute()})
    options += [word for text in arguments.parameters for word in ('-p', text)]
    if arguments.namespace:
        options += ['-r', '__ns:=/' + arguments.namespace.strip('/')]
    if arguments.log_level:
        options += ['--log-level', arguments.log_level]
    nodes = (BOTH_NODES,) if arguments.one_process else MAIN_NODES
    return run({node: node_command(node, options) for node in nodes}, respawn=True)


def lerf_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo with a fresh map in OUT/map; returns the exit code of the client.

    With a task, one errand in physics instead, which keeps its map.
    """
    if arguments.places is not None and (not arguments.world or arguments.places < 1):
        raise ConfigError('--places counts the tables or rooms of a --world, from 1: give --world '
                          'corridor or apartment')
    places = arguments.places or PLACES
    if arguments.task is not None:
        if arguments.bag:
            raise ConfigError('--bag replays a recording, --task does an errand: give one of them')
        from lerf_ros.task.command import run as run_task
        if arguments.world == 'apartment':
            raise ConfigError('--task does an errand at one table or in a corridor: leave --world '
                              'out, or give --world corridor')
        return run_task(arguments.task, arguments.seed or 0, Path(arguments.out).expanduser(),
                        places if arguments.world else 0)
    if arguments.world and arguments.bag:
        raise ConfigError('--bag replays a recording of one table, --world shows another place: '
                          'give one of them')
    bag = None if arguments.bag is None else Path(arguments.bag).expanduser().absolute()
    seed = seed_of(bag) if arguments.seed is None else arguments.seed
    isolate_ros()
    # Images that fit into the shared memory of Fast DDS arrive at once.
    os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(config_file('fastdds.xml')))
    out = Path(arguments.out).expanduser().absolute()
    prepare_demo(out)
    world = (arguments.world, places) if arguments.world else None
    return run(demo_commands(arguments.params_file or config_file('demo.yaml'), out,
                             seed, arguments.check, bag, world), main='demo_client_node',
               ends=REPLAY)


def seed_of(bag: Path | None) -> int:
    """Returns the seed of the table that a bag shows, by its name; 0 without a bag.

    Raises ConfigError for a bag that is missing or has no number at the end of its name.
    """
    if bag is None:
        return 0
    if not bag.exists():
        raise ConfigError(f'there is no bag {bag}: scripts/make_bag.py makes one')
    number = re.search(r'_(\d+)$', bag.stem)
    if number is None:
        raise ConfigError(f'{bag.name} does not say which simulated table it shows: give --seed. '
                          'Other recordings are played with replay_node (docs/robot.md)')
    return int(number[1])


def demo_commands(params_file: str | Path, out: Path, seed: int, check: bool,
                  bag: Path | None = None,
                  world: tuple[str, int] | None = None) -> dict[str, list[str]]:
    """Returns the command of each node of the demo.

    bag: replayed instead of a live camera. world: which one is driven through instead of one table,
    and the number of its tables or rooms.
    """
    shared = {'map_directory': out / 'map'}
    place = {'world': world[0], 'places': world[1]} if world else {}
    own: dict[str, dict[str, object]] = {
        CAMERA: {'seed': seed, **place, **(DRIVEN_CAMERA if world else {})},
        REPLAY: {'bag': bag, 'speed': BAG_SPEED},
        'mapper_node': {**(BAG_INPUTS if bag else {}), **(DRIVEN_MAP if world else {})},
        'demo_client_node': {'seed': seed, 'out': out, 'check': str(check).lower(), **place}}
    nodes = (CAMERA if bag is None else REPLAY, *MAIN_NODES, 'demo_client_node')
    return {node: node_command(node, parameter_options(
        params_file, {**shared, **own.get(node, {})})) for node in nodes}


def node_command(node: str, options: Sequence[str]) -> list[str]:
    """Returns the command that starts a node of this package with this Python."""
    return [sys.executable, '-m', f'lerf_ros.nodes.{node}', '--ros-args', *options]


def parameter_options(params_file: str | Path, values: Mapping[str, object]) -> list[str]:
    """Returns --params-file, and -p for each value that is not None, which overrides the file."""
    path = Path(params_file).expanduser()
    if not path.is_file():
        raise ConfigError(f'params file {path} does not exist')
    options = ['--params-file', str(path)]
    for name, value in values.items():
        if value is not None:
            # Quoted, since these values are parsed as YAML: a folder may be called 2024.
            text = "'" + str(value).replace("'", "''") + "'" if isinstance(value, Path) else value
            options += ['-p', f'{name}:={text}']
    return options


def config_file(name: str) -> Path:
    """Returns a file of config/, from the source tree or from where the package was installed."""
    from lerf_ros.config.presets import share_directory
    return share_directory() / 'config' / name


def prepare_demo(out: Path) -> None:
    """Makes the folder of a demo with an empty map in it; deletes the map of an earlier demo.

    Raises ForeignFolderError for a folder with other things in it, MapInTheWayError for a map that
    no demo made.
    """
    from lerf_ros.storage.output_folder import OutputFolder
    from lerf_ros.storage.saved_maps import stored_map

    results, directory = OutputFolder(out), stored_map(out / 'map')
    results.claim()
    if directory.claim():
        if not results.knows('map'):
            raise MapInTheWayError(f'{out / "map"} holds a map that no demo made: choose another '
                                   'folder (--out)')
        if strangers := directory.strangers():
            raise ForeignFolderError(f'{strangers[0]} was not written by lerf_ros, or was changed '
                                     'since: move it away, or choose another folder (--out)')
        directory.discard()
    (out / 'map').mkdir(exist_ok=True)
    results.note_folder('map')


def isolate_ros() -> None:
    """Keeps the demo on this machine and on a ROS domain of its own.

    A domain stays if discovery is limited to this machine already, as make and the tests do; any
    other may belong to a lab's robots.
    """
    if os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE') != 'LOCALHOST' \
            or 'ROS_DOMAIN_ID' not in os.environ:
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_DOMAIN_ID'] = str(60 + os.getpid() % 40)
    names = ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE')
    given = ' '.join(f'{name}={os.environ[name]}' for name in names)
    print(f'lerf_ros: ROS 2 on this machine only; to ask from another terminal:\n'
          f'  {given} {shlex.quote(sys.argv[0])} call "red mug"', flush=True)

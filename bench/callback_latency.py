# SPDX-License-Identifier: Apache-2.0
"""Measures how long camera images wait for the mapper node's callback, with and without training.

    python bench/callback_latency.py

A process publishes 640x480 images at 30 Hz with poses; the real mapper node, in this process with
its training process beside it, notes the age of each image when its callback begins. Training is
paused and resumed in turn, so that other load on the machine affects both. Writes
OUT/callback_latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.processes import isolate_ros

if TYPE_CHECKING:
    from sensor_msgs.msg import Image

    from lerf_ros.nodes.mapper.frame_assembler import FrameAssembler
    from lerf_ros.nodes.mapper_node import MapperNode

CAMERA = PinholeCamera(640, 480, 550.0, 550.0, 320.0, 240.0)
RATE_HZ, PHASE_S, PHASES = 30.0, 5.0, 8
START_S, FIRST_STEPS = 120.0, 3    # training must have started before anything is measured
TURN_S = 40.0         # for one revolution of the camera
LIMIT_MS = 50.0


def publish(seconds: float) -> None:
    """Publishes textured images from a circle, each with its pose."""
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from lerf_ros.nodes.common.conversions import (
        matrix_to_pose,
        ns_to_stamp,
        to_camera_info,
        to_image,
    )
    from lerf_ros.simulation.trajectory import look_at
    rclpy.init()
    node = rclpy.create_node('bench_camera')
    senders = [node.create_publisher(kind, topic, 5) for kind, topic in (
        (PoseStamped, 'pose'), (CameraInfo, 'camera/color/camera_info'),
        (Image, 'camera/color/image_raw'))]
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    start = time.monotonic()
    for number in range(int(seconds * RATE_HZ)):
        if not rclpy.ok():      # the measurement is over
            return
        time.sleep(max(0.0, start + number / RATE_HZ - time.monotonic()))
        angle = 2 * np.pi * number / RATE_HZ / TURN_S
        T = look_at(np.array([np.cos(angle), np.sin(angle), 0.6]), np.zeros(3))
        picture = np.roll(noise, number, axis=1)
        stamp = ns_to_stamp(time.time_ns())
        header = Header(stamp=stamp, frame_id='camera')
        messages = (PoseStamped(header=Header(stamp=stamp, frame_id='map'), pose=matrix_to_pose(T)),
                    to_camera_info(CAMERA, header), to_image(picture, 'rgb8', header))
        for sender, message in zip(senders, messages, strict=True):
            sender.publish(message)
    rclpy.shutdown()


def make_node(folder: str, ages: list[tuple[float, float]]) -> MapperNode:
    """Runs the mapper node; `ages` gets (monotonic seconds, age in seconds) of each image."""
    from rclpy.parameter import Parameter

    from lerf_ros.nodes import mapper_node
    from lerf_ros.nodes.common.conversions import stamp_to_ns
    from lerf_ros.nodes.mapper.camera_inputs import CameraInputs

    class NotingInputs(CameraInputs):
        def _on_image(self, assembler: FrameAssembler, msg: Image) -> None:
            age = (time.time_ns() - stamp_to_ns(msg.header.stamp)) * 1e-9
            ages.append((time.monotonic(), age))
            super()._on_image(assembler, msg)

    mapper_node.CameraInputs = NotingInputs     # type: ignore[misc]
    values = {'map_directory': folder, 'pose_source': 'pose', 'pose_topic': 'pose',
              'keyframes.min_translation': 0.25, 'keyframes.min_rotation': 15.0,
              'training.settle_steps': 0}
    return mapper_node.MapperNode(
        parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])


def run(folder: str) -> dict[str, list[float]]:
    """Returns the ages in seconds of the images in each phase: training or paused."""
    import rclpy

    from lerf_ros.nodes.common.lifecycle import started
    from lerf_ros.nodes.common.running import spin
    rclpy.init()
    noted: list[tuple[float, float]] = []
    node = started(make_node(folder, noted))
    over = threading.Event()
    ages: dict[str, list[float]] = {'paused': [], 'training': []}

    def phases() -> None:
        end = time.monotonic() + START_S
        while node.process.status().steps < FIRST_STEPS and time.monotonic() < end:
            time.sleep(0.5)
        for phase in range(PHASES):
            name = ('paused', 'training')[phase % 2]
            node.process.pause(name == 'paused')
            time.sleep(1.0)     # until the current slice of training has ended
            begin = time.monotonic()
            time.sleep(PHASE_S)
            end = time.monotonic()
            ages[name] += [age for at, age in list(noted) if begin <= at <= end]
        over.set()

    total = START_S + PHASES * (PHASE_S + 1) + 60
    camera = subprocess.Popen([sys.executable, __file__, '--publish', str(total)],
                              stderr=subprocess.DEVNULL)
    thread = threading.Thread(target=phases)
    thread.start()
    spin(node, over, over)
    thread.join()
    camera.terminate()
    camera.wait(30)
    steps = node.process.status().steps
    if steps < FIRST_STEPS:
        raise SystemExit(f'training did not begin within {START_S:.0f} s')
    print(f'{steps} steps of training meanwhile')
    node.destroy_node()
    rclpy.shutdown()
    return ages


def summary(ages: list[float]) -> dict[str, float]:
    """Returns statistics in milliseconds, and the number of images."""
    values = 1000 * np.array(ages)
    return {'images': len(values), 'p50': float(np.median(values)),
            'p99': float(np.quantile(values, 0.99)), 'max': float(values.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--publish', type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.publish)
        return
    isolate_ros()
    root = Path(__file__).resolve().parents[1]
    os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(root / 'config' / 'fastdds.xml'))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = {name: summary(ages) for name, ages in run(folder).items()}
    found['load_average_before'] = {'1 min': load}
    for name, row in found.items():
        print(name, ', '.join(f'{key} {value:.1f}' for key, value in row.items()))
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The effect of training: how much longer the oldest image waits.
    extra = max(found['training']['max'] - found['paused']['max'], 1.0)
    rows = [{'what': 'what the oldest image waits longer because of training, ms', 'ours': extra,
             'theirs': LIMIT_MS, 'ratio': LIMIT_MS / extra, 'goal': 1.0}]
    (arguments.out / 'callback_latency.json').write_text(
        json.dumps({'rows': rows, **found}, indent=1) + '\n')


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""Waits for the map of the simulated scene, asks for present and absent things, and reports."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sensor_msgs.msg import CameraInfo

from lerf_ros.errors import LerfError
from lerf_ros.evaluation.demo_results import (
    DemoResults,
    QueryOutcome,
    TruthBox,
    check_answer,
    map_colors,
)
from lerf_ros.evaluation.variants import control_answers
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.nodes.common.conversions import stamp_to_ns
from lerf_ros.nodes.common.parameters import declare
from lerf_ros.nodes.common.running import EXIT_FAILED, EXIT_OK, TaskNode, run_node
from lerf_ros.nodes.demo.client import MapProgress, QueryClient
from lerf_ros.nodes.demo.config import CAMERA_INFO_TOPIC, DemoClientConfig
from lerf_ros.query.answer import Answer
from lerf_ros.show.files import write_ply
from lerf_ros.show.from_above import save_from_above
from lerf_ros.show.pictures import PosedImage, contact_sheet, map_views, write_image
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.stage import TABLE, stage
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.output_folder import OutputFolder

REPORT_EVERY_S = 10.0
POLL_S = 0.2
# The node waits this many time budgets for a snapshot that was taken after the last image.
MAX_BUDGETS = 2


class DemoClientNode(TaskNode):
    """Listens while the map is made, then asks from its own thread, reports and ends."""

    def __init__(self, **arguments: object) -> None:
        """arguments: those of rclpy.node.Node. Raises ConfigError for a wrong parameter."""
        super().__init__('demo_client_node', **arguments)
        self._config = declare(self, DemoClientConfig())
        self._stage = stage(self._config.world, self._config.seed, self._config.places)
        self._out = Path(self._config.out).expanduser()
        self._folder = OutputFolder(self._out)
        self._folder.claim()    # before minutes are spent
        self._progress = MapProgress(self._config.quiet)
        # Followed instead of the images: it comes with them and has a thousandth of the size.
        # When it comes counts, because the stamps of a bag are old.
        qos_overrides.subscribe(
            self, CameraInfo, CAMERA_INFO_TOPIC, lambda msg: self._progress.image(
                self.get_clock().now().nanoseconds, time.monotonic()), topics.profile(10))
        qos_overrides.subscribe(
            self, FieldStatus, topics.STATUS, self._progress.report, topics.STATUS_QOS)
        self._query = QueryClient(self, self._config.call_timeout)
        self.start_task(self._run)

    def _run(self) -> None:
        if not self._wait_for_map():
            return
        present, absent, answers = self._ask_all()
        last_ns = self.get_clock().now().nanoseconds
        seconds = (last_ns - (self._progress.first_image_ns or last_ns)) * 1e-9
        boxes = self._boxes()
        results = DemoResults(present, absent, seconds, self._config.seed,
                              {**self._extras(), **self._control(present, boxes)})
        results.write(self._out / 'results.json')
        print(f'\n{results.table()}\n\n{results.summary()}\n{results.quality()}', flush=True)
        self._draw(results, answers)
        missed = self._config.check and not results.passed
        if missed:
            self.get_logger().error('; '.join(['the demo has missed its bar (7 of 8 right, no '
                                               'absent thing found)', *self._reasons(answers)]))
        self.finish(EXIT_FAILED if missed else EXIT_OK)

    def _reasons(self, answers: Sequence[Answer]) -> list[str]:
        """Returns what may have kept the map from becoming better, with numbers."""
        reasons, progress = [], self._progress
        learning = sum(bool(answer.learning) for answer in answers)
        if learning:
            reasons.append(f'{learning} of {len(answers)} answers came from a map that was still '
                           f'learning ({progress.line()})')
        load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
        reasons.append(f'load average {load:.1f} on {cores} cores'
                       + (': other programs may have held it up' if load > 2 * cores else ''))
        return reasons

    def _wait_for_map(self) -> bool:
        """Waits for the map, at most for its time; returns False when the node is stopped.

        Raises LerfError when no image comes or the mapper has failed.
        """
        config, progress = self._config, self._progress
        started, next_line = time.monotonic(), 0.0
        while not self.stopping.wait(POLL_S):
            now = time.monotonic()
            waited = now - started
            if progress.status is not None and progress.status.state == FieldStatus.FAILED:
                raise LerfError(f'the mapper has failed: {progress.status.message}')
            if progress.first_image_ns is None:
                if waited > config.start_timeout:
                    raise LerfError(f'no {CAMERA_INFO_TOPIC} within {waited:.0f} s: is the camera '
                                    'running, and the mapper, for which it waits?')
            elif progress.ready(now):
                self.get_logger().info(f'map ready: {progress.line()}')
                return True
            elif self._image_age_s() > config.time_budget and (
                    progress.snapshot_after_capture()
                    or self._image_age_s() > MAX_BUDGETS * config.time_budget):
                self.get_logger().warning(
                    f'not settled after {self._image_age_s():.0f} s, asking all the same: '
                    f'{progress.line()}')
                return True
            if waited >= next_line:
                self.get_logger().info(f'{waited:.0f} s: {progress.line()}')
                next_line = waited + REPORT_EVERY_S
        return False

    def _image_age_s(self) -> float:
        """Returns the seconds since the first image."""
        first_ns = self._progress.first_image_ns or 0
        return (self.get_clock().now().nanoseconds - first_ns) * 1e-9

    def _ask_all(self) -> tuple[tuple[QueryOutcome, ...], tuple[QueryOutcome, ...], list[Answer]]:
        """Asks for present things, then for absent ones; returns both results and the answers."""
        config = self._config
        newest_ns = stamp_to_ns(self._progress.status.newest_snapshot) \
            if self._progress.status else 0
        boxes = self._boxes()
        asked = self._stage.asked()[:config.present or None]
        absent = list(draw_absent(config.seed, config.absent, self._stage.scene))
        answers: list[Answer] = []
        outcomes: list[QueryOutcome] = []
        for text in [*asked, *absent]:
            # Once the first answer comes from the newest snapshot, all others do.
            answer, latency_s = self._query.ask(text, 0 if answers else newest_ns)
            answers.append(answer)
            outcomes.append(check_answer(answer, latency_s, boxes.get(text, ())))
        return tuple(outcomes[:len(asked)]), tuple(outcomes[len(asked):]), answers

    def _boxes(self) -> dict[str, list[TruthBox]]:
        """Returns the ground-truth boxes of each phrase for something that is there."""
        boxes: dict[str, list[TruthBox]] = {}
        for thing in self._stage.scene.objects:
            boxes.setdefault(thing.query, []).append(TruthBox(thing.box_min, thing.box_max))
        return boxes

    def _control(self, present: Sequence[QueryOutcome],
                 boxes: dict[str, list[TruthBox]]) -> dict[str, object]:
        """Returns the held-out depth error and how an untrained language field answers.

        Empty for submaps without a field, and with a warning where the map cannot be read.
        """
        if self._config.world != TABLE:
            return {}
        folder = Path(self._config.map_directory)
        try:
            snapshot = MapDirectory(folder).newest() if self._config.map_directory else None
            if snapshot is None:
                return {}
            answers = control_answers(folder, [outcome.query for outcome in present])
        except LerfError as error:
            self.get_logger().warning(f'no control experiment: {error}')
            return {}
        right = sum(check_answer(answer, 0.0, boxes[answer.text]).inside_box for answer in answers)
        return {'depth_error_m': snapshot.info['depth_error'],
                'untrained_language_right': right}

    def _extras(self) -> dict[str, object]:
        """Returns the quality of the map and the machine it was made on."""
        extras: dict[str, object] = {'machine': {
            'cores': len(os.sched_getaffinity(0)), 'processor': processor_name(),
            'python': platform.python_version(), 'load_average': os.getloadavg()}}
        status = self._progress.status
        if status is not None:
            extras.update(
                keyframes=status.keyframes_used, images_received=status.images_received,
                images_refused=status.images_refused, steps=int(status.steps),
                rays_per_second=status.rays_per_second, loss=status.loss, psnr=status.psnr)
        return extras

    def _draw(self, results: DemoResults, answers: list[Answer]) -> None:
        """Writes the contact sheet and the map as PLY, and prints where everything is."""
        written = [self._out / 'results.json']
        points, colors = map_colors(answers)
        if len(points):
            written.append(self._out / 'map.ply')
            with self._folder.file('map.ply') as path:
                write_ply(path, points, colors)
        views = self._photographs()
        if views:
            notes = ['inside its box' if outcome.inside_box else
                     '' if outcome.distance_m is None else
                     f'{outcome.distance_m * 100:.0f} cm from its box'
                     for outcome in results.present] + ['not there'] * len(results.absent)
            written.append(self._out / 'contact_sheet.jpg')
            with self._folder.file('contact_sheet.jpg') as path:
                write_image(path, contact_sheet(views, answers, results.summary(), notes))
        if self._config.world != TABLE:
            plain = replace(answers[0], points_world=points, colors=colors)
            written.append(save_from_above([plain, *answers[1:]], self._out))
        print('written: ' + ', '.join(str(path) for path in written), flush=True)

    def _photographs(self) -> list[PosedImage]:
        """Returns the keyframes of the map; none, with a warning, when they cannot be read."""
        if not self._config.map_directory:
            return []
        try:
            return map_views(Path(self._config.map_directory))
        except LerfError as error:
            self.get_logger().warning(f'no pictures: {error}')
            return []


def processor_name() -> str:
    """Returns the model of the processor, or its architecture where the system does not tell."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node; returns 0 when it asked everything, 1 when it could not or missed its bar."""
    return run_node(DemoClientNode, 'demo_client_node', args)


if __name__ == '__main__':
    raise SystemExit(main())

# SPDX-License-Identifier: Apache-2.0
"""lerf/picture: the photograph that shows the best place of an answer, for whoever subscribes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from lerf_ros.errors import LerfError
from lerf_ros.nodes.common import qos_overrides, topics
from lerf_ros.query.answer import Answer

if TYPE_CHECKING:
    from lerf_ros.show.pictures import PosedImage, ViewChooser

WARN_PERIOD_S = 60.0


class HitPicture:
    """Publishes a JPEG for each answer with a hit; does nothing while nobody subscribes.

    Its stamp is that of the answer. The first one after a snapshot reads up to 40 keyframes.
    """

    def __init__(self, node: Node, map_directory: Path) -> None:
        self._publisher = qos_overrides.publisher(node, CompressedImage, topics.PICTURE,
                                                  topics.PICTURE_QOS)
        self._directory, self._logger = map_directory, node.get_logger()
        # Of the snapshot that they were read for: its number, and how many points it has.
        self._of: tuple[int, int] | None = None
        self._views: tuple[list[PosedImage], ViewChooser] | None = None

    def publish(self, answer: Answer, stamp: Time) -> None:
        """Publishes the photograph that shows the best hit best, with its box."""
        if not self._publisher.get_subscription_count():
            self._views = None      # they take tens of megabytes
            return
        if not answer.hits:
            return
        try:
            picture = self._picture(answer)
        except LerfError as error:      # the answer is true without a picture
            self._logger.warning(f'no picture of the answer: {error}',
                                 throttle_duration_sec=WARN_PERIOD_S)
            return
        self._publisher.publish(CompressedImage(
            header=Header(stamp=stamp, frame_id=answer.frame_id), format='jpeg', data=picture))

    def _picture(self, answer: Answer) -> bytes:
        from lerf_ros.show.pictures import ViewChooser, jpeg, map_views, proof
        of = answer.snapshot_id, len(answer.points_world)
        if self._views is None or self._of != of:
            views = map_views(self._directory)
            self._views, self._of = (views, ViewChooser(views, answer.points_world)), of
        views, chooser = self._views
        best = answer.hits[0]
        return jpeg(proof(views[chooser.best(replace(answer, hits=(best,)))], best))

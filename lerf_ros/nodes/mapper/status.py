# SPDX-License-Identifier: Apache-2.0
"""The report of the mapper node on lerf/status."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lerf_ros.mapping.messages import MapperStatus
from lerf_ros.msg import FieldStatus
from lerf_ros.nodes.common.conversions import ns_to_stamp
from lerf_ros.nodes.common.node_config import MapperNodeConfig
from lerf_ros.nodes.mapper.refusals import Refusals

STATES = {'waiting': FieldStatus.WAITING, 'restoring': FieldStatus.MAPPING,
          'mapping': FieldStatus.MAPPING, 'settled': FieldStatus.SETTLED,
          'paused': FieldStatus.PAUSED, 'failed': FieldStatus.FAILED}

STILL_IMAGES = 10       # so many images without motion are reported


@dataclass
class ImageCounts:
    """Counts of images since activation, without refusals."""

    received: int = 0
    used: int = 0
    newest_stamp_ns: int = 0    # 0 before the first image
    unmoved: int = 0            # since the last keyframe, for which the camera had not moved


def status_message(process: MapperStatus | None, alive: bool, active: bool, counts: ImageCounts,
                   refusals: Refusals, settings: MapperNodeConfig, now_ns: int) -> FieldStatus:
    """Returns the report of this moment.

    process: the report of the mapping process, None while none is configured. alive: whether that
    process runs. active: whether the node is active and not paused.
    """
    msg = FieldStatus(loss=math.nan, psnr=math.nan, image_age=math.nan)
    msg.header.stamp, msg.header.frame_id = ns_to_stamp(now_ns), settings.map_frame
    msg.images_received, msg.keyframes_used = counts.received, counts.used
    msg.images_refused = refusals.total
    if counts.newest_stamp_ns:
        msg.image_age = (now_ns - counts.newest_stamp_ns) * 1e-9
    if process is None:
        msg.state, msg.message = FieldStatus.WAITING, 'not configured'
        return msg
    # Keyframes on their way to the mapping process would be lost with this one.
    msg.keyframes_used = max(counts.used - process.in_flight, 0)
    msg.keyframes_stored, msg.memory_bytes = process.stored, process.memory_bytes
    msg.steps, msg.rays_per_second = process.steps, float(process.rays_per_second)
    msg.loss, msg.psnr = float(process.loss), float(process.psnr)
    msg.newest_snapshot = ns_to_stamp(process.snapshot_stamp_ns)
    msg.state, msg.message = state_and_message(process, alive, active, counts, refusals, settings)
    return msg


def state_and_message(process: MapperStatus, alive: bool, active: bool, counts: ImageCounts,
                      refusals: Refusals, settings: MapperNodeConfig) -> tuple[int, str]:
    """Returns the state of FieldStatus, and what the mapper waits for or what went wrong."""
    if process.state == 'failed' or not alive:
        return FieldStatus.FAILED, process.message or (
            'the mapper process ended unexpectedly; its output says why. Clean up and configure '
            'the node again, or restart it')
    if process.state == 'loading':
        return FieldStatus.WAITING, process.message or (
            'loading models (the first time on a machine takes longest)')
    if not active:
        return FieldStatus.PAUSED, process.message or 'not active, or paused by lerf/pause'
    # The map has begun even when there are too few keyframes to train on.
    begun = process.stored or counts.used > process.in_flight
    state = FieldStatus.MAPPING if begun and process.state == 'waiting' else STATES[process.state]
    if not counts.received:
        waiting = f'no image yet on {settings.image_topic!r}'
        return state, '; '.join(filter(None, [process.message, waiting]))
    if not counts.used and refusals.total:
        return state, refusals.latest
    if counts.unmoved < STILL_IMAGES or process.state != 'waiting':
        return state, process.message
    return state, '; '.join(filter(None, [process.message, (
        f'the camera has not moved since its last keyframe: {counts.received} images came, '
        f'{counts.used} {"is" if counts.used == 1 else "are"} used. A map needs a camera that '
        'moves; if yours does, its poses stand still: are they those of the camera?')]))

# SPDX-License-Identifier: Apache-2.0
"""Fills the disk of the map while a robot drives, and frees it again later.

    python bench/full_disk.py [--seconds 60] [--out out/bench/full_disk.json]

A small file system in memory is mounted for the map (Linux, as root). Nodes are real processes, the
camera is simulated (live_rig.py). While the disk is full lerf/status must say so and training
go on, and every query must be answered; once there is room, it must store each keyframe
that it took meanwhile, and write a snapshot. Exits with 1 when one of these did not come.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from live_rig import Rig, wait_until

from lerf_ros.storage.map_directory import MapDirectory

SETTINGS = {'keyframes.max_count': 1000, 'map.snapshot_interval': 3.0,
            'map.checkpoint_interval': 10.0}
DISK_MB = 200
NO_SPACE = os.strerror(errno.ENOSPC)
START_S, ROOM_S = 600.0, 120.0


def fill(folder: Path) -> Path:
    """Writes a file that takes up all free space."""
    path = folder / 'filler'
    with path.open('wb', buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return path


def is_full(folder: Path) -> bool:
    """Returns whether the system refuses to write one more page."""
    try:
        (folder / 'probe').write_bytes(bytes(4096))
    except OSError as error:
        return error.errno == errno.ENOSPC
    (folder / 'probe').unlink()
    return False


def while_full(rig: Rig, seconds: float) -> dict[str, Any]:
    """Returns status messages and answers that arrive within these seconds."""
    heard: list[str] = []
    asked = failed = 0
    first, end = rig.status(), time.monotonic() + seconds
    while time.monotonic() < end:
        response, _ = rig.ask('a mug', 10.0)
        asked += 1
        failed += response is None or not response.success
        if rig.status().message not in heard:
            heard.append(rig.status().message)
        time.sleep(0.5)
    last = rig.status()
    return {'seconds': seconds, 'heard': heard, 'queries': asked, 'failed_queries': failed,
            'steps': last.steps - first.steps,
            'a snapshot was written': last.newest_snapshot != first.newest_snapshot,
            'keyframes_taken': last.keyframes_used - first.keyframes_used}


def watch(rig: Rig, disk: Path, seconds: float) -> dict[str, Any]:
    """Fills the disk, frees it, and returns what happened."""
    for name in ('mapper_node', 'query_node'):
        rig.start(name)
    if not wait_until(rig.answers, START_S):
        raise SystemExit(f'no answer within ten minutes: see {rig.out}')
    filler = fill(disk)
    full = is_full(disk)
    told = {'full': full, **while_full(rig, seconds)}
    filler.unlink()
    before = rig.status().newest_snapshot
    healed = wait_until(lambda: NO_SPACE not in rig.status().message
                        and rig.status().newest_snapshot != before, ROOM_S)
    wait_until(lambda: rig.status().keyframes_stored >= rig.status().keyframes_used, ROOM_S)
    directory, status = MapDirectory(rig.map), rig.status()
    for index in directory.keyframes.indices():
        directory.keyframes.verify(index)
    next(directory.complete()).verify()
    return {**told, 'healed': healed, 'keyframes_used': status.keyframes_used,
            'keyframes_stored': len(directory.keyframes.indices())}


def troubles(found: dict[str, Any]) -> list[str]:
    """Returns what went wrong."""
    checks = {'the disk was not full': found['full'],
              'no status said so': any(NO_SPACE in message for message in found['heard']),
              'training stopped': found['steps'] > 0,
              'a snapshot was written to a full disk': not found['a snapshot was written'],
              'a query was not answered': not found['failed_queries'],
              'no snapshot came after there was room': found['healed'],
              'keyframes were lost': found['keyframes_stored'] >= found['keyframes_used']}
    return [trouble for trouble, fine in checks.items() if not fine]


def main() -> None:
    """Runs the test and writes the file; returns 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0, help='that the disk stays full')
    parser.add_argument('--rate', type=float, default=1.0, help='images per second')
    parser.add_argument('--out', type=Path, default=Path('out/bench/full_disk.json'))
    arguments = parser.parse_args()
    if os.geteuid():
        raise SystemExit('only root may mount the small file system')
    folder = Path(tempfile.mkdtemp(prefix='lerf_full_disk_'))
    disk = folder / 'disk'
    disk.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={DISK_MB}m', 'tmpfs', disk], check=True)
    rig = Rig(folder, {**SETTINGS, 'map_directory': str(disk / 'map')}, arguments.rate)
    rig.map = disk / 'map'
    try:
        found = watch(rig, disk, arguments.seconds)
    finally:
        rig.close()
        subprocess.run(['umount', '-l', disk], check=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1))
    if troubles(found):
        raise SystemExit('\n'.join(troubles(found)))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()

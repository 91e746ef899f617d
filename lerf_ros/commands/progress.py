# SPDX-License-Identifier: Apache-2.0
"""What `train` says of time and memory: before it starts, while it runs, and from the last time."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.storage.durable import write_json

if TYPE_CHECKING:
    from lerf_ros.mapping.map_maker import MapMaker

FILE = 'training_speed.json'
BASE_GB = 1.2       # torch, an encoder of 30 million parameters, both fields and their optimisers
TICK_S = 1.0


@dataclass(frozen=True)
class Speeds:
    """Seconds of a keyframe, of a training step, and of the snapshot at the end."""

    keyframe_s: float
    step_s: float
    snapshot_s: float


# conse at the default settings on two cores of a server (docs/performance.md).
TWO_CORES = Speeds(0.25, 0.045, 20.0)


@dataclass(frozen=True)
class Forecast:
    """What a training will take. measured: whether this machine has trained like this before."""

    speeds: Speeds
    measured: bool
    images: int
    steps: int      # 0 where the time of the steps is given
    steps_s: float
    memory_gb: float
    device: str

    def line(self) -> str:
        """Returns the forecast in words."""
        s = self.speeds
        total = self.images * s.keyframe_s + self.steps_s + s.snapshot_s
        steps = f' for {self.steps} steps' if self.steps else ' of steps'
        basis = 'as the last training here took' if self.measured else (
            'a guess for two cores, as nothing like it was trained here yet; the first training '
            'also builds kernels and a vocabulary once, which takes a minute')
        parts = ', '.join([
            f'{in_minutes(s.keyframe_s * self.images)} for {self.images} images',
            f'{in_minutes(self.steps_s)}{steps}', f'{in_minutes(s.snapshot_s)} for the index'])
        return (f'about {in_minutes(total)} on {self.device}: {parts}; {self.memory_gb:.1f} GB of '
                f'memory ({basis})')


def forecast(place: Path, key: str, device: str, images: int, image_bytes: int, steps: int,
             time_s: float | None) -> Forecast:
    """Returns what a training will take, from what the last one of its kind took here.

    place: cache folder. key: names the kind. image_bytes: memory of all images in training. time_s:
    time for steps that was asked for, instead of `steps`.
    """
    known = remembered(place).get(key)
    speeds = known or TWO_CORES
    steps_s = steps * speeds.step_s if time_s is None else time_s
    return Forecast(speeds, known is not None, images, steps if time_s is None else 0, steps_s,
                    BASE_GB + image_bytes / 1e9, device)


def remembered(place: Path) -> dict[str, Speeds]:
    """Returns the speeds of earlier trainings; a file that cannot be read counts as none."""
    try:
        stored = json.loads((place / FILE).read_text())
        return {key: Speeds(**values) for key, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember(place: Path, key: str, speeds: Speeds) -> None:
    """Stores the speeds of a training for the next forecast; a full disk is no reason to fail."""
    known = {**remembered(place), key: speeds}
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / FILE, {name: asdict(of) for name, of in known.items()})


def in_minutes(seconds: float) -> str:
    """Returns a duration as a person says it: `40 s`, `3 min`, `1.5 h`."""
    if seconds < 99.5:
        return f'{max(seconds, 1):.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5970 else f'{seconds / 3600:.1f} h'


def state_of(mapper: MapMaker) -> str:
    """Returns PSNR of the pixels that are trained on, and memory, for a progress bar."""
    psnr = '' if math.isnan(mapper.color_error) else (
        f'PSNR {-10 * math.log10(max(mapper.color_error, 1e-10)):.1f} dB, ')
    return f'{psnr}{peak_memory_gb():.1f} GB'


def peak_memory_gb() -> float:
    """Returns the most memory that this process has held, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextlib.contextmanager
def working(what: str, expected_s: float, shown: bool) -> Iterator[None]:
    """Shows, while the block runs, what is done, for how long by now, and how long it takes."""
    from tqdm import tqdm

    done, start = threading.Event(), time.monotonic()
    with tqdm(total=max(round(expected_s), 1), desc=what, unit='s', disable=not shown,
              bar_format='{desc}: {elapsed} of about {total_fmt} s') as bar:
        def tick() -> None:
            while not done.wait(TICK_S):
                bar.n = min(round(time.monotonic() - start), bar.total)
                bar.refresh()

        thread = threading.Thread(target=tick, name='progress', daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

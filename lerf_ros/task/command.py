# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros demo --task "bring me the red mug"`: maps a simulated table and does the errand there.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.errors import ConfigError

if TYPE_CHECKING:
    from lerf_ros.map_query import MapQuery
    from lerf_ros.task.errand import Try

STEPS = 1000            # of training; a few minutes on two cores
SETTINGS = {'training.language_rays': 512, 'training.settle_steps': 0, 'map.training_state': False}
NEEDED = ('mujoco', 'open3d', 'coacd', 'trimesh')     # coacd must be loaded after open3d


def run(task: str, seed: int, out: Path) -> int:
    """Does one errand in the evaluation layout of a seed; returns 1 where it was not done.

    Maps the layout first where OUT/task_map_SEED holds none. Writes OUT/task.json. Raises
    ConfigError where the physics is not installed.
    """
    require_physics()
    from lerf_ros.simulation.evaluation_layout import evaluation_layout
    from lerf_ros.storage.output_folder import OutputFolder
    from lerf_ros.task.errand import SimulatedHome, phrase_of, results

    scene, files = evaluation_layout(seed), OutputFolder(out)
    target = meant([thing.query for thing in scene.objects], phrase_of(task))
    files.claim()
    # Noted before they are made, so that a run that is killed leaves no unknown folder.
    for name in (f'task_map_{seed}', 'task_hulls'):
        if not files.knows(name):
            files.note_folder(name)
    query = opened(seed, out / f'task_map_{seed}')
    home = SimulatedHome(scene, query, out / 'task_hulls')
    done = home.errand(task, target, np.random.default_rng(seed))
    print(in_words(done))
    fallen = [scene.objects[k].query for k in home.table.fallen]
    with files.file('task.json') as path:
        path.write_text(json.dumps(results([done], str(query.info['encoder']['name']), fallen),
                                   indent=1, allow_nan=False) + '\n')
    print(out / 'task.json')
    return 0 if done.right else 1


def meant(names: Sequence[str], phrase: str) -> int | None:
    """Returns which of the objects of these names a phrase means, to judge the errand by.

    None where it means none. Raises ConfigError where it may mean several.
    """
    said = [k for k, name in enumerate(names) if name in phrase] or [
        k for k, name in enumerate(names) if phrase in name]
    longest = [k for k in said if len(names[k]) == max(len(names[j]) for j in said)]
    if len(longest) > 1:
        raise ConfigError(f'{phrase!r} may mean {" or ".join(names[k] for k in longest)}: say '
                          'which, so that the errand can be judged')
    return longest[0] if longest else None


def require_physics() -> None:
    """Raises ConfigError where a package of the simulation is missing."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"demo --task needs {name}: pip install '.[sim,physics]' in the "
                              'folder of lerf_ros') from error


def opened(seed: int, place: Path) -> MapQuery:
    """Opens the map of an evaluation layout, and makes it first where there is no whole one."""
    from lerf_ros.map_query import MapQuery
    from lerf_ros.storage.map_directory import MapDirectory

    directory = MapDirectory(place, True)
    if directory.newest() is None:
        if directory.exists():      # of a run that was killed
            directory.discard()
        print(f'mapping the simulated table of seed {seed}, a few minutes', flush=True)
        from lerf_ros.config import LerfConfig
        from lerf_ros.encoders.image_text import load_encoder
        from lerf_ros.evaluation.scenes import simulated_scene
        from lerf_ros.mapper import Mapper

        config = LerfConfig().override(SETTINGS)
        mapper = Mapper(config, directory, load_encoder(config.features), 'map', True)
        for frame in simulated_scene(seed).frames:
            mapper.add_frame(frame)
        while mapper.steps < STEPS:
            mapper.train_for(10.0, STEPS)
        mapper.snapshot()
    return MapQuery.open(place)


def in_words(done: Try) -> str:
    """Returns in a line how an errand ended."""
    there = 'is on the table' if done.there else 'no object of the layout has this name'
    verdict = 'right' if done.right else 'wrong'
    reason = f' ({done.reason})' if done.reason else ''
    return f'{done.task!r}: {done.outcome.replace("_", " ")}{reason}; {there}: {verdict}'

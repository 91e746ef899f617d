# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros demo --task "bring me the red mug"`: maps a simulated place, does the errand there.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerf_ros.errors import ConfigError

if TYPE_CHECKING:
    from lerf_ros.asked_map import AskedMap
    from lerf_ros.frames.frame import Frame
    from lerf_ros.map_query import MapQuery
    from lerf_ros.task.errand import Try

STEPS = 1000            # of training; a few minutes on two cores
SETTINGS = {'training.language_rays': 512, 'training.settle_steps': 0, 'map.training_state': False}
# A corridor is mapped into submaps, without training.
IN_HALL = {'submaps.use': True, 'training.field': 'none'}
EVERY = 0.3             # metres driven from one keyframe to the next
NEEDED = ('mujoco', 'open3d', 'coacd', 'trimesh')     # coacd must be loaded after open3d


def run(task: str, seed: int, out: Path, tables: int = 0) -> int:
    """Does one errand, on the table of a seed or in a corridor; returns 1 where it was not done.

    tables: of the corridor; 0 for the one table of the evaluation layout. Maps it first where there
    is no map of it in OUT. Writes OUT/task.json. Raises ConfigError where the physics is not
    installed.
    """
    require_physics()
    from lerf_ros.simulation.evaluation_layout import evaluation_layout
    from lerf_ros.simulation.stage import stage
    from lerf_ros.storage.output_folder import OutputFolder
    from lerf_ros.task.errand import SimulatedHome, phrase_of, results
    from lerf_ros.task.ground import ROOM, hall

    scene = stage('corridor', seed, tables).scene if tables else evaluation_layout(seed)
    files, name = OutputFolder(out), f'task_hall_{seed}_{tables}' if tables else f'task_map_{seed}'
    target = meant([thing.query for thing in scene.objects], phrase_of(task))
    files.claim()
    # Noted before they are made, so that a run that is killed leaves no unknown folder.
    for folder in (name, 'task_hulls'):
        if not files.knows(folder):
            files.note_folder(folder)
    query = opened_hall(seed, tables, out / name) if tables else opened(seed, out / name)
    home = SimulatedHome(scene, query, out / 'task_hulls', hall(tables) if tables else ROOM)
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


def opened_hall(seed: int, tables: int, place: Path) -> AskedMap:
    """Opens the map of a corridor, and makes it first where there is no whole one."""
    from lerf_ros.storage.submaps import SubmapFolder
    from lerf_ros.submap_query import SubmapQuery

    folder, mark = SubmapFolder(place, True), place / 'transforms.json'
    if not mark.exists():               # it is written last
        if folder.claim():              # of a run that was killed
            folder.discard()
        print(f'mapping the corridor of seed {seed}, {tables} tables, a few minutes', flush=True)
        from lerf_ros.config import LerfConfig
        from lerf_ros.encoders.image_text import load_encoder
        from lerf_ros.submap_mapper import SubmapMapper

        config = LerfConfig().override({**SETTINGS, **IN_HALL})
        mapper = SubmapMapper(config, place, load_encoder(config.features), 'map', True)
        for frame in driven_frames(seed, tables):
            mapper.add_frame(frame)
        mapper.snapshot()
    query = SubmapQuery(place)
    query.refresh()
    return query


def driven_frames(seed: int, tables: int) -> Iterator[Frame]:
    """Renders what a robot sees that drives along both sides of the tables, in this order."""
    from lerf_ros.frames.frame import Frame
    from lerf_ros.simulation.corridor import SPEED
    from lerf_ros.simulation.renderer import SceneRenderer
    from lerf_ros.simulation.sensor import IMAGE_NOISE, StereoDepth, noisy_image, sensor_camera
    from lerf_ros.simulation.stage import stage

    hall, camera = stage('corridor', seed, tables), sensor_camera()
    renderer, rng = SceneRenderer(hall.scene), np.random.default_rng([seed, 30])
    for t_s in np.arange(0.0, hall.duration_s, EVERY / SPEED):
        view, T = renderer.render(camera, hall.path(t_s)), hall.path(t_s)
        yield Frame(int(t_s * 1e9), noisy_image(view.image, IMAGE_NOISE, rng), camera, T,
                    StereoDepth().measure(view.depth_m, rng))


def in_words(done: Try) -> str:
    """Returns in a line how an errand ended."""
    there = 'is there' if done.there else 'no object of the layout has this name'
    verdict = 'right' if done.right else 'wrong'
    reason = f' ({done.reason})' if done.reason else ''
    return f'{done.task!r}: {done.outcome.replace("_", " ")}{reason}; {there}: {verdict}'

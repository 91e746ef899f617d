# SPDX-License-Identifier: Apache-2.0
"""Errands in physics: "bring me the ..." for every object of maps that are there, and absent ones.

    python bench/task.py --maps out/bench/maps/conse/104 --scenes evaluation:104 --out out/demo

MAPS and SCENES go together: `evaluation:SEED` for the layouts of the evaluation, `demo:SEED` for
those of the demo, `corridor:SEED:TABLES` for what `demo --task --world corridor` maps. Each object
is asked for once, in turning words, and as many things of other kinds that are not there, up to
ABSENT in each scene. Writes OUT/task.json after each scene.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.objects import CATALOGUE
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.simulation.stage import stage
from lerf_ros.submap_query import SubmapQuery
from lerf_ros.task.command import in_words
from lerf_ros.task.errand import SimulatedHome, Try, results
from lerf_ros.task.ground import ROOM, Ground, hall

SENTENCES = ('bring me the {}', 'please fetch the {}', 'pick up the {}', 'could you get me a {}?',
             'take the {}')


def scene_of(text: str) -> tuple[TabletopScene, Ground]:
    """Draws the scene that `KIND:SEED` names, and what a base meets there."""
    kind, seed, *tables = text.split(':')
    if kind == 'corridor':
        return stage(kind, int(seed), int(tables[0])).scene, hall(int(tables[0]))
    return (evaluation_layout(int(seed)) if kind == 'evaluation' else
            TabletopScene.generate(int(seed))), ROOM


def opened(path: Path) -> SubmapQuery:
    """Opens a map of either kind."""
    query = SubmapQuery(path)
    query.refresh()
    return query


def absent_names(scene: TabletopScene, count: int, rng: np.random.Generator) -> list[str]:
    """Draws names of the catalogue of whose group nothing is on the table."""
    groups = {thing.group for thing in scene.objects}
    others = [kind.query for kind in CATALOGUE if kind.group not in groups]
    return [others[k] for k in rng.permutation(len(others))[:count]]


def run_scene(scene: TabletopScene, ground: Ground, path: Path, hulls: Path, absent: int
              ) -> tuple[list[Try], list[str]]:
    """Does all errands of a scene; returns them, and what does not rest where it was mapped."""
    home, rng = SimulatedHome(scene, opened(path), hulls, ground), np.random.default_rng(scene.seed)
    asked: list[tuple[str, int | None]] = [
        (thing.query, k) for k, thing in enumerate(scene.objects) if k not in home.table.fallen]
    asked += [(name, None) for name in absent_names(scene, absent, rng)]
    tries = []
    for number, (name, target) in enumerate(asked):
        done = home.errand(SENTENCES[number % len(SENTENCES)].format(name), target, rng)
        print(' ', in_words(done), flush=True)
        tries.append(done)
    return tries, [f'{scene.seed}: {scene.objects[k].query}' for k in home.table.fallen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, nargs='+', required=True)
    parser.add_argument('--scenes', nargs='+', required=True, metavar='KIND:SEED')
    parser.add_argument('--absent', type=int, default=4, help='things not there, in each scene')
    parser.add_argument('--hulls', type=Path, default=Path('out/bench/maps/hulls'))
    parser.add_argument('--out', type=Path, default=Path('out/demo'))
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    tries: list[Try] = []
    fallen: list[str] = []
    encoder = str(opened(a.maps[0]).info['encoder']['name'])
    for path, scene in zip(a.maps, a.scenes, strict=True):
        start = time.monotonic()
        done, unfit = run_scene(*scene_of(scene), path, a.hulls, a.absent)
        tries, fallen = tries + done, fallen + unfit
        (a.out / 'task.json').write_text(json.dumps(results(tries, encoder, fallen), indent=1))
        print(f'{scene}: {time.monotonic() - start:.0f} s', flush=True)
    print({k: v for k, v in results(tries, encoder, fallen).items() if k != 'errands'})


if __name__ == '__main__':
    main()

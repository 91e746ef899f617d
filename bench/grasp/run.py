# SPDX-License-Identifier: Apache-2.0
"""Grasps in physics: asks maps of simulated layouts for each object by name, and lifts it.

    python bench/grasp/run.py --encoder oracle --seeds 104 105 106 --maps out/bench/maps

Maps what is missing (simulated_maps.py), puts each layout into MuJoCo, closes a free-flying gripper
at the best grasp that the query returns, lifts by 10 cm and holds for 2 s. Success: the object that
was asked for, and only it, is up all that time. An object counts as an attempt when the same
planner on points of the true meshes lifts it with one of its best TRUE_TRIES grasps, or when the
map's grasp does. Writes grasp.json and a picture of each layout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

from pictures import save_strip  # noqa: E402
from results import NO_GRASP, SUCCESS, Attempt, summary, table  # noqa: E402
from simulated_maps import OUT, map_layout, open_query  # noqa: E402
from truth import TABLE, Cloud, true_cloud  # noqa: E402

from lerf_ros.config import GraspConfig  # noqa: E402
from lerf_ros.grasping.planner import plan_grasps  # noqa: E402
from lerf_ros.map_query import MapQuery  # noqa: E402
from lerf_ros.query.answer import Answer, Grasp  # noqa: E402
from lerf_ros.query.request import QueryRequest  # noqa: E402
from lerf_ros.simulation.evaluation_layout import evaluation_layout  # noqa: E402
from lerf_ros.simulation.scene import TabletopScene  # noqa: E402
from lerf_ros.task.bodies import body_of  # noqa: E402
from lerf_ros.task.table import Table  # noqa: E402

TRUE_TRIES = 8


class Layout:
    """One layout in physics, and its map."""

    def __init__(self, seed: int, query: MapQuery, cache: Path, config: GraspConfig) -> None:
        self.scene: TabletopScene = evaluation_layout(seed)
        self.query, self.config = query, config
        self.table = Table([body_of(thing, cache) for thing in self.scene.objects], config)
        self.cloud: Cloud = true_cloud(self.scene, self.table.poses())
        self.tried: list[tuple[Grasp | None, str]] = []

    @property
    def fallen(self) -> list[str]:
        """Returns the objects that do not rest at their place in the layout.

        The map shows them at another place, so they are not asked for.
        """
        return [f'{self.scene.seed}: {self.scene.objects[k].query}' for k in self.table.fallen]

    def attempt(self, k: int) -> Attempt:
        """Asks for object k by name, and tries the best grasp."""
        thing = self.scene.objects[k]
        answer: Answer = self.query.ask(QueryRequest(thing.query))
        grasp = answer.grasps[0] if answer.grasps else None
        outcome, touched = NO_GRASP, False
        if grasp is not None:
            carried = self.table.grasp(grasp, k)
            outcome, touched = carried.kind, carried.touched
        liftable = outcome == SUCCESS or self.can_be_lifted(k)
        self.tried.append((grasp, outcome))
        place = np.full(3, np.nan) if grasp is None else grasp.T_world_grasp[:3, 3]
        return Attempt(self.scene.seed, thing.query, outcome, self.reason(answer), touched,
                       liftable, self.name_at(place),
                       float(np.linalg.norm(place - thing.center)),
                       grasp.opening_width if grasp else 0.0, answer.timing.grasp)

    @staticmethod
    def reason(answer: Answer) -> str:
        """Returns why there is no grasp; empty where there is one."""
        if answer.grasps:
            return ''
        return answer.no_target_reason or answer.presence.name.lower()

    def can_be_lifted(self, k: int) -> bool:
        """Returns whether the same planner lifts object k when it knows the true meshes."""
        members = np.flatnonzero(self.cloud.owner == k)
        relevancy = (self.cloud.owner == k).astype(float)
        config = replace(self.config, max_candidates=TRUE_TRIES)
        plan = plan_grasps(self.cloud.points, self.cloud.normals, members, relevancy, config)
        return any(self.table.grasp(grasp, k).kind == SUCCESS for grasp in plan.grasps)

    def name_at(self, place: np.ndarray) -> str:
        """Returns what is nearest to a place (3,); empty for NaN."""
        if not np.isfinite(place).all():
            return ''
        owner = self.cloud.owner[np.linalg.norm(self.cloud.points - place, axis=1).argmin()]
        return 'table' if owner == TABLE else self.scene.objects[owner].query


def run_layout(seed: int, encoder: str, maps: Path, out: Path,
               config: GraspConfig) -> tuple[list[Attempt], list[str]]:
    """Tries all objects of one layout, and prints the outcome of each."""
    start = time.monotonic()
    print(map_layout(seed, encoder, maps, {}), flush=True)
    query = open_query(maps / encoder / str(seed), encoder, config)
    layout = Layout(seed, query, maps / 'hulls', config)
    attempts = []
    for k in sorted(set(range(len(layout.scene.objects))) - set(layout.table.fallen)):
        a = layout.attempt(k)
        attempts.append(a)
        print(f'  {a.query:20} {a.outcome:12} {a.reason or a.aimed_at:20}'
              f'{"" if a.liftable else " not liftable"}{" touched" if a.touched else ""}',
              flush=True)
    save_strip(maps / encoder / str(seed), attempts, [g for g, _ in layout.tried], config,
               out / f'grasp_{encoder}_{seed}.jpg')
    print(f'  {time.monotonic() - start:.0f} s', flush=True)
    return attempts, layout.fallen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--encoder', default='oracle', choices=('oracle', 'conse', 'openclip'))
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--maps', type=Path, default=OUT)
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    parser.add_argument('--name', default='grasp', help='of the JSON file in OUT')
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    attempts, fallen, config = [], [], GraspConfig()
    for seed in a.seeds:
        rows, unfit = run_layout(seed, a.encoder, a.maps, a.out, config)
        attempts += rows
        fallen += unfit
        result = summary(attempts, a.encoder, fallen, config)
        (a.out / f'{a.name}.json').write_text(json.dumps(result, indent=1))
    print(table(result))


if __name__ == '__main__':
    main()

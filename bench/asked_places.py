# SPDX-License-Identifier: Apache-2.0
"""Measures how exact places are: asks maps of simulated layouts for each object by name.

    python bench/asked_places.py --maps out/bench/maps --encoder oracle --seeds 104 105 106

Centre: from the middle of the best hit's box to the middle of the object's, both upright boxes of
the smallest ground area, the object's from its mesh. Box IoU: of these two boxes, from POINTS
drawn in each. Twins: of the two objects of a layout that differ in colour alone, asked for by
what they have in common; separated when each has a hit of its own with its middle in its box.
OUT/places_ENCODER.json holds every object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from simulated_maps import open_query

from lerf_ros.evaluation.localization import inside_box
from lerf_ros.map_query import MapQuery
from lerf_ros.query.boxes import OrientedBox, upright_box
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.scene import SceneObject, TabletopScene

POINTS = 20000
HITS = 10


def box_of(thing: SceneObject) -> OrientedBox:
    """Returns the upright box around the mesh of an object."""
    corners = np.concatenate([part.world_vertices() for part in thing.parts])
    return upright_box(corners, np.zeros((0, 4)), 0.0, 0.0)


def oriented_iou(a: OrientedBox, b: OrientedBox, rng: np.random.Generator) -> float:
    """Estimates the intersection over union of two boxes from random points in each."""
    def shared(one: OrientedBox, other: OrientedBox) -> float:
        drawn = rng.uniform(-0.5, 0.5, (POINTS, 3)) * one.size
        return float(other.contains(drawn @ one.rotation.T + one.center).mean() * one.size.prod())
    both = (shared(a, b) + shared(b, a)) / 2
    return both / float(a.size.prod() + b.size.prod() - both)


def ask_objects(query: MapQuery, tabletop: TabletopScene) -> list[dict]:
    """Returns a row for each object: found, right (in its box grown by 3 cm), centre error, IoU."""
    rng, rows = np.random.default_rng(0), []
    for thing in tabletop.objects:
        hits = query.ask(QueryRequest(thing.query, max_hits=HITS, plan_grasps=False)).hits
        row = {'object': thing.query, 'hits': len(hits), 'right': False}
        if hits:
            best, truth = hits[0], box_of(thing)
            row['right'] = inside_box(best.position, thing.box_min, thing.box_max)
            row['centre_m'] = float(np.linalg.norm(best.position - truth.center))
            found = OrientedBox(best.position, best.rotation, best.size)
            row['box_iou'] = oriented_iou(found, truth, rng)
        rows.append(row)
    return rows


def twins_of(tabletop: TabletopScene) -> dict[str, list[SceneObject]]:
    """Returns objects whose names differ only in the first word, by the rest of the name."""
    shared: dict[str, list[SceneObject]] = {}
    for thing in tabletop.objects:
        if ' ' in thing.query:
            shared.setdefault(thing.query.split(' ', 1)[1], []).append(thing)
    return {noun: things for noun, things in shared.items() if len(things) == 2}


def separated(query: MapQuery, noun: str, things: list[SceneObject]) -> bool:
    """Returns whether each object has a hit of its own when asked for by the noun."""
    hits = query.ask(QueryRequest(noun, max_hits=HITS, plan_grasps=False)).hits
    own = [{i for i, hit in enumerate(hits) if inside_box(hit.position, t.box_min, t.box_max)}
           for t in things]
    return all(own) and len(set.union(*own)) >= len(things)


def summary(rows: list[dict], twins: list[bool]) -> dict:
    """Returns counts and medians; errors are those of objects that were found correctly."""
    right = [row for row in rows if row['right']]
    return {'objects': len(rows), 'right': len(right),
            'centre_m_median': float(np.median([r['centre_m'] for r in right])),
            'centre_m_p90': float(np.quantile([r['centre_m'] for r in right], 0.9)),
            'box_iou_median': float(np.median([r['box_iou'] for r in right])),
            'box_iou_p10': float(np.quantile([r['box_iou'] for r in right], 0.1)),
            'twins': len(twins), 'twins_separated': sum(twins)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, default=Path('out/bench/maps'))
    parser.add_argument('--encoder', default='oracle')
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    rows, twins = [], []
    for seed in a.seeds:
        tabletop = evaluation_layout(seed)
        query = open_query(a.maps / a.encoder / str(seed), a.encoder)
        rows += [{'seed': seed, **row} for row in ask_objects(query, tabletop)]
        twins += [separated(query, noun, things) for noun, things in twins_of(tabletop).items()]
    found = summary(rows, twins)
    print(json.dumps(found, indent=1))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / f'places_{a.encoder}.json').write_text(json.dumps({**found, 'rows': rows}, indent=1))


if __name__ == '__main__':
    run_quietly(main)

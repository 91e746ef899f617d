# SPDX-License-Identifier: Apache-2.0
"""Asks maps of layouts for what is there by other names, and for what is not.

    python bench/simulated_maps.py --encoder conse --seeds 100 101 102 103
    python bench/near_words.py --maps out/bench/maps/conse --seeds 100 101 102 103

Asked are the names of all things, synonyms, kinds and descriptions of them (KNOWN_AS), and words
for things that are not there, near and far in meaning (lerf_ros/evaluation/scoring.py). Told is how
many of each are found, how many of these lie in the box of a thing that is meant, and every near
word that is found. Writes OUT/near_words.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from simulated_maps import OUT, open_query

from lerf_ros.config import LerfConfig
from lerf_ros.evaluation.command import EVERYDAY_NAMES
from lerf_ros.evaluation.localization import inside_box
from lerf_ros.evaluation.scoring import absent_words
from lerf_ros.map_query import MapQuery
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.scene import SceneObject, label_names

# By the last words of a thing's name: what else people call it.
KNOWN_AS: Mapping[str, tuple[str, ...]] = {
    'mug': ('cup', 'coffee cup', 'beaker', 'drinking vessel'),
    'frying pan': ('skillet', 'pan', 'cookware', 'cooking pan'),
    'bucket': ('pail', 'container'), 'piggy bank': ('money box', 'savings bank', 'pig'),
    'wine bottle': ('bottle', 'bottle of wine', 'glass bottle'),
    'umbrella': ('parasol', 'brolly'),
    'traffic light': ('stoplight', 'traffic signal', 'signal light'),
    'acoustic guitar': ('guitar', 'musical instrument', 'string instrument'),
    'drum': ('percussion instrument', 'snare drum', 'musical instrument'),
    'dumbbell': ('weight', 'barbell', 'gym weight'),
    'teddy bear': ('stuffed toy', 'plush toy', 'toy bear', 'teddy'),
    'laptop': ('notebook computer', 'computer', 'portable computer'),
    'computer mouse': ('mouse', 'pointing device'),
    'table lamp': ('lamp', 'desk lamp', 'light'), 'hammer': ('tool', 'mallet'),
    'screwdriver': ('tool', 'hand tool'), 'banana': ('fruit', 'plantain'),
    'pineapple': ('fruit', 'ananas'),
    'bell pepper': ('capsicum', 'pepper', 'vegetable', 'sweet pepper'),
    'pumpkin': ('squash', 'vegetable', 'jack-o-lantern'),
    'toilet paper': ('toilet roll', 'bathroom tissue', 'paper roll'),
    'hourglass': ('sand timer', 'egg timer', 'sandglass'),
    'remote control': ('tv remote', 'remote', 'remote controller'),
    'tennis ball': ('ball', 'sports ball'), 'basketball': ('ball', 'sports ball'),
    'soccer ball': ('football', 'ball', 'sports ball'), 'wall clock': ('clock', 'timepiece'),
    'coffeepot': ('coffee pot', 'coffee maker', 'jug', 'pot'),
    'teapot': ('tea pot', 'pot', 'kettle'),
    'toaster': ('kitchen appliance', 'appliance', 'bread toaster'),
    'keyboard': ('computer keyboard', 'input device', 'typing keyboard'),
    'candle': ('taper', 'wax candle'), 'bagel': ('bread roll', 'pastry', 'doughnut'),
    'pizza': ('italian food', 'food', 'pie'), 'corn': ('maize', 'ear of corn', 'vegetable')}
KINDS = ('name', 'other name', 'near word', 'far word')


def phrases(seed: int, query: MapQuery) -> Iterator[tuple[str, str, Sequence[SceneObject]]]:
    """Yields kind, phrase and the things that are meant by it."""
    things = evaluation_layout(seed).objects
    for text in dict.fromkeys(thing.query for thing in things):
        yield KINDS[0], text, [thing for thing in things if thing.query == text]
    called: dict[str, list[SceneObject]] = {}
    for thing in things:
        for name in (n for key, names in KNOWN_AS.items() if thing.query.endswith(key)
                     for n in names):
            called.setdefault(name, []).append(thing)
    yield from ((KINDS[1], name, meant) for name, meant in called.items())
    absent = absent_words([*label_names(evaluation_layout(seed)), *(t.query for t in things)],
                          EVERYDAY_NAMES, query.text_query.encoder.encode_texts)
    for kind, words in zip(KINDS[2:], (absent.near, absent.far), strict=True):
        yield from ((kind, word, ()) for word in words if word not in called)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, default=OUT / 'conse', help='folder of maps by seed')
    parser.add_argument('--seeds', type=int, nargs='+', required=True)
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    rows = []
    for seed in a.seeds:
        query = open_query(a.maps / str(seed), a.maps.name)
        query.change({'query.look_weight': LerfConfig().query.look_weight})
        for kind, text, meant in phrases(seed, query):
            hits = query.ask(QueryRequest(text, plan_grasps=False)).hits
            right = bool(hits) and any(inside_box(hits[0].position, t.box_min, t.box_max)
                                       for t in meant)
            rows.append({'seed': seed, 'kind': kind, 'phrase': text, 'found': bool(hits),
                         'right': right, 'probability': hits[0].probability if hits else None})
    for kind in KINDS:
        some = [row for row in rows if row['kind'] == kind]
        print(f'{kind:12} asked {len(some):5} found {sum(row["found"] for row in some):5} '
              f'right {sum(row["right"] for row in some):5}')
    print('near words found:', ', '.join(
        f'{row["phrase"]} ({row["seed"]}, {row["probability"]:.2f})' for row in rows
        if row['kind'] == KINDS[2] and row['found']) or 'none')
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / 'near_words.json').write_text(json.dumps(rows, indent=1))


if __name__ == '__main__':
    run_quietly(main)

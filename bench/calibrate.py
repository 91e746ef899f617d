# SPDX-License-Identifier: Apache-2.0
"""Fits the probabilities of an encoder on some simulated layouts and reports them on others.

    python bench/simulated_maps.py --encoder conse --seeds 100 101 102 103 --out out/bench/maps
    python bench/calibrate.py --maps out/bench/maps/conse --fit 100 101 --report 102 103 --write

Asked of every map (simulated_maps.py): all of its objects, words for things that are not in any of
the layouts, and words near in meaning to something that is there. --write puts the fit into
lerf_ros/query/calibrations, where queries find it; --field asks the language field alone. The
threshold in force is that of the fit from then on.
OUT/calibration_ENCODER.json and reliability_ENCODER.png say how good it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from reliability import plot_reliability
from simulated_maps import open_query

from lerf_ros.config import LerfConfig
from lerf_ros.evaluation.calibration import (
    ANY,
    MARGIN_M,
    PLACES,
    Samples,
    best_threshold,
    brier,
    fit_logistic,
    fit_presence,
    joined,
    map_config,
    samples,
    share_of,
    stored,
)
from lerf_ros.evaluation.command import EVERYDAY_NAMES
from lerf_ros.evaluation.localization import inside_box
from lerf_ros.evaluation.scoring import absent_words
from lerf_ros.lerf import find
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import NEUTRAL
from lerf_ros.query.presence import FOLDER, features_of, settings_of
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.quiet_threads import run_quietly
from lerf_ros.settings import flat_fields
from lerf_ros.simulation.evaluation_layout import evaluation_layout
from lerf_ros.simulation.objects import draw_absent
from lerf_ros.simulation.scene import label_names
from lerf_ros.storage.output_folder import OutputFolder

ABSENT = 50          # words in each layout


def asked(query: MapQuery, seed: int) -> tuple[Samples, Samples]:
    """Returns samples of places and of presences from the map of one layout."""
    scene = evaluation_layout(seed)
    names = [*label_names(scene), *(o.query for o in scene.objects)]
    near = absent_words(names, EVERYDAY_NAMES, query.text_query.encoder.encode_texts).near
    far = [word for word in draw_absent(seed, ABSENT, scene) if word not in near]
    phrases = [*dict.fromkeys(o.query for o in scene.objects), *far, *near]
    places, presences, shares, config = [], [], [], query.text_query.config
    present = len(phrases) - len(far) - len(near)
    for text in phrases:
        boxes = [(o.box_min, o.box_max) for o in scene.objects if o.query == text]
        question = encode_phrases(QueryRequest(text, whole_phrase=True),
                                  query.text_query.encoder, config.negatives)
        found = find(query.text_query, question, None, ANY, PLACES)
        places += [(features_of(hit), hit.relevancy, any(
            inside_box(hit.position, *box, margin=MARGIN_M) for box in boxes))
            for hit in found.hits]
        shares += [share_of(bool(boxes), text in near, present, len(far), len(near))
                   ] * len(found.hits)
        found = find(query.text_query, question, None, config.threshold, PLACES)
        best = found.phrases[0].candidate
        presences.append((features_of(best), best.relevancy if best else NEUTRAL, bool(boxes)))
    return (replace(samples(places), share=np.array(shares)),
            replace(samples(presences), near=np.array([t in near for t in phrases])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--maps', type=Path, required=True, help='folder of maps by seed')
    parser.add_argument('--fit', type=int, nargs='+', required=True)
    parser.add_argument('--report', type=int, nargs='+', required=True)
    parser.add_argument('--write', action='store_true')
    parser.add_argument('--field', action='store_true', help='without second looks')
    parser.add_argument('--out', type=Path, default=Path('out/bench'))
    a = parser.parse_args()
    asked_of, encoder = {}, a.maps.name
    for seed in (*a.fit, *a.report):
        query = open_query(a.maps / str(seed), encoder)
        query.change({'query.look_weight': 0.0 if a.field else LerfConfig().query.look_weight})
        asked_of[seed] = asked(query, seed)
    looks = query.text_query.looks_again
    content = {'encoder': query.info['encoder'], 'settings': settings_of(
        {name: value for name, _, value in flat_fields(map_config(query))})}
    encoder += '_looks' * looks
    panels, held_out = {}, {}
    for k, name in enumerate(('hit', 'presence')):
        fitted = joined([asked_of[seed][k] for seed in a.fit])
        reported = joined([asked_of[seed][k] for seed in a.report])
        model = (fit_presence if name == 'presence' else fit_logistic)(fitted)
        content[name] = stored(model)
        panels[name] = (model, reported)
        held_out[name] = {'brier': brier(model, reported), 'brier_fitted': brier(model, fitted),
                          'samples': len(reported.right), 'right': int(reported.right.sum()),
                          'near': int(reported.is_near.sum())}
    level = best_threshold(fitted)      # of presence
    content['threshold'] = level
    kinds = {'present': reported.right, 'near': reported.is_near,
             'far': ~reported.right & ~reported.is_near}
    held_out['reached'] = {name: float((reported.relevancy[rows] >= level).mean())
                           for name, rows in kinds.items()}
    content['layouts'] = {'fitted': a.fit, 'reported': a.report}
    content['reported'] = held_out
    text = json.dumps(content, indent=1) + '\n'
    with OutputFolder(a.out).file(f'calibration_{encoder}.json') as path:
        path.write_text(text)
    if a.write:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f'{encoder}.json').write_text(text)
    print(json.dumps(held_out, indent=1), plot_reliability(encoder, panels, a.out))


if __name__ == '__main__':
    run_quietly(main)

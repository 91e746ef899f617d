# SPDX-License-Identifier: Apache-2.0
"""Dense open_clip features beside the paper's crop pyramid: what they cost and where they point.

    python bench/dense_features.py --cost
    python bench/dense_features.py --localize local-dir:FOLDER --mode conv

Costs are those of ViT-B-16 with random weights, which are those of any weights, in operations
(multiply and add count as two) and in seconds. Localization needs a checkpoint that knows things:
a photograph of each simulated layout, LERF's own measure (the peak of the relevancy lies inside
the object's box) for each object that it shows. Rows go to out/bench/features.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lerf_ros.config import FeatureConfig, QueryConfig
from lerf_ros.evaluation.bootstrap import paired_difference
from lerf_ros.evaluation.localization import peak_inside
from lerf_ros.evaluation.scenes import rendered_views
from lerf_ros.features.clip_pyramid import encode_level, tile_grid
from lerf_ros.features.conse_vocabulary import TEMPLATE
from lerf_ros.features.embedding_map import EmbeddingMap
from lerf_ros.features.encoders import ImageTextEncoder, load_encoder
from lerf_ros.features.extractor import resize_factors
from lerf_ros.features.openclip_dense import VIT_PART, make_tower
from lerf_ros.query.relevancy import relevancy
from lerf_ros.simulation.evaluation_layout import evaluation_layout

PAPER_SIZE = 994, 738    # the photographs of the LERF paper
GOAL = 20.0
TIMED_CROPS = 32         # of the pyramid's: one batch, the others cost the same
SEEN_PX = 300            # area from which an object counts as shown by a view
SAMPLE_STEP = 4          # every fourth pixel of a view is asked
FRAMES = 48              # of a layout's path


def levels_of(width: int, height: int, config: FeatureConfig, receptive_px: float) -> list[float]:
    """The resize factors at which cells speak of the paper's crops, as the product chooses them."""
    return resize_factors([part * height for part in config.fractions], receptive_px,
                          max(width, height), config.max_side)


def pyramid_crops(width: int, height: int, config: FeatureConfig) -> int:
    """How many crops the paper's pyramid has."""
    grids = [tile_grid(width, height, part, config.overlap, config.overlap_small)
             for part in config.fractions]
    return sum(grid.rows * grid.cols for grid in grids)


def cost_rows(config: FeatureConfig, size: tuple[int, int]) -> list[dict]:
    """Operations and seconds of one image for both kinds of dense features and for crops."""
    import open_clip
    torch.backends.mha.set_fastpath_enabled(False)   # its operations would not be counted
    visual = open_clip.create_model('ViT-B-16').visual.eval()
    side = visual.image_size[0]
    count = pyramid_crops(*size, config)
    batch = torch.randn(TIMED_CROPS, 3, side, side)
    crops_cost = measured(lambda: visual(batch), count / TIMED_CROPS)
    rows = []
    for mode in ('maskclip', 'naclip'):
        tower = make_tower(visual, mode)
        factors = levels_of(*size, config, VIT_PART * side)
        images = [torch.randn(1, 3, *(round(s * f / tower.stride) * tower.stride
                                      for s in (size[1], size[0]))) for f in factors]
        dense_cost = measured(lambda tower=tower, images=images: [tower(im) for im in images], 1)
        for unit, ours, theirs in zip(('Gflop', 's'), dense_cost, crops_cost, strict=True):
            rows.append({'what': f'features of a {size[0]}x{size[1]} keyframe, ViT-B-16 {mode} at '
                                 f'{len(factors)} sizes against {count} crops, {unit}',
                         'ours': ours, 'theirs': theirs, 'ratio': theirs / ours, 'goal': GOAL})
    return rows


@torch.inference_mode()
def measured(run: Callable[[], object], times: float) -> tuple[float, float]:
    """Operations (1e9) and seconds of one run, multiplied by `times`."""
    with FlopCounterMode(display=False) as counter:
        run()
    start = time.monotonic()
    run()
    return counter.get_total_flops() / 1e9 * times, (time.monotonic() - start) * times


def localize_rows(model: str, mode: str, seeds: Sequence[int], config: FeatureConfig) -> list[dict]:
    """Peaks inside the box with crops and with dense features of one checkpoint."""
    settings = {'encoder': 'openclip', 'openclip_model': model, 'dense_model': ''}
    dense = load_encoder(FeatureConfig(**settings, openclip_dense=mode))
    hits: dict[str, list[bool]] = {'crops': [], 'dense': []}
    seconds, scenes = {'crops': 0.0, 'dense': 0.0}, []
    for seed in seeds:
        image, boxes, queries = best_view(seed)
        for kind in hits:
            start = time.monotonic()
            levels = view_levels(dense, kind, image, config)
            seconds[kind] += time.monotonic() - start
            found = [peak_inside(view_relevancy(dense, levels, query, image.shape), box)
                     for box, query in zip(boxes, queries, strict=True)]
            hits[kind] += found
        scenes += [seed] * len(queries)
        print(f'layout {seed}: {len(queries)} objects, crops {sum(hits["crops"])}, dense '
              f'{sum(hits["dense"])} so far', flush=True)
    difference = paired_difference(np.array(hits['dense']), np.array(hits['crops']), groups=scenes)
    share = {kind: float(np.mean(found)) for kind, found in hits.items()}
    return [{'what': f'localization in {len(seeds)} views, {len(scenes)} objects, {mode}; '
                     f'difference {100 * difference.difference:.1f} points '
                     f'[{100 * difference.low:.1f}, {100 * difference.high:.1f}]',
             'ours': share['dense'], 'theirs': share['crops'],
             'ratio': share['dense'] / max(share['crops'], 1e-9),
             'goal': 1 - 0.01 / max(share['crops'], 1e-9)},
            {'what': f'features of a 640x480 view, {mode} against crops of the same encoder, s',
             'ours': seconds['dense'] / len(seeds), 'theirs': seconds['crops'] / len(seeds),
             'ratio': seconds['crops'] / seconds['dense'], 'goal': GOAL}]


def best_view(seed: int) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    """The view of a layout that shows most objects: image, their boxes (1, 4) and phrases."""
    tabletop = evaluation_layout(seed)
    things, best = tabletop.objects, None
    for _, view in list(rendered_views(tabletop, seed, FRAMES // 6, (640, 480))):
        areas = np.bincount(view.labels.ravel(), minlength=len(things))[:len(things)]
        shown = np.flatnonzero(areas >= SEEN_PX)
        if best is None or len(shown) > len(best[1]):
            best = view, shown
    assert best is not None
    view, shown = best
    queries = [things[i].query for i in shown]
    boxes = []
    for query in queries:   # what shares its phrase is meant as well
        meant = [i for i in shown if things[i].query == query]
        boxes.append(np.array([box_of(view.labels == i) for i in meant], float))
    return view.image, boxes, queries


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is True, pixels."""
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def view_levels(encoder: ImageTextEncoder, kind: str, image: np.ndarray,
                config: FeatureConfig) -> list[EmbeddingMap]:
    """The embedding maps of a view at the paper's widths."""
    height, width = image.shape[:2]
    if kind == 'dense':
        factors = levels_of(width, height, config, encoder.receptive_px)   # type: ignore
        return [encoder.dense(image, factor) for factor in factors]        # type: ignore
    grids = [tile_grid(width, height, part, config.overlap, config.overlap_small)
             for part in config.fractions]
    return [encode_level(encoder, image, grid, config.batch) for grid in grids]


def view_relevancy(encoder: ImageTextEncoder, levels: Sequence[EmbeddingMap], query: str,
                   shape: tuple[int, ...]) -> np.ndarray:
    """Relevancy (H, W) of a phrase: the best of all levels at every fourth pixel, enlarged."""
    y, x = (np.arange(0, side, SAMPLE_STEP) for side in shape[:2])
    pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2) + SAMPLE_STEP / 2
    codes = np.stack([level.sample(pixels) for level in levels], 1)
    codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
    asked = QueryConfig()
    rows = encoder.encode_texts([TEMPLATE.format(t) for t in (query, *asked.negatives)])
    values, _ = relevancy(codes.astype(np.float32), rows[0], rows[1:], asked.temperature)
    grid = values.reshape(len(y), len(x))
    return np.repeat(np.repeat(grid, SAMPLE_STEP, 0), SAMPLE_STEP, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cost', action='store_true', help='operations and seconds of ViT-B-16')
    parser.add_argument('--localize', metavar='MODEL', help='an open_clip model, local-dir:FOLDER')
    parser.add_argument('--mode', default='conv', choices=('maskclip', 'naclip', 'conv'))
    parser.add_argument('--seeds', type=int, nargs='+', default=list(range(200, 208)))
    parser.add_argument('--out', type=Path, default=Path('out/bench/features.json'))
    arguments = parser.parse_args()
    config = FeatureConfig()
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    rows = cost_rows(config, PAPER_SIZE) + cost_rows(config, (640, 480)) if arguments.cost else []
    if arguments.localize:
        rows += localize_rows(arguments.localize, arguments.mode, arguments.seeds, config)
    kept = [row for row in known if row['what'] not in {new['what'] for new in rows}]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([*kept, *rows], indent=1))
    for row in rows:
        print(f'{row["what"]}: {row["ours"]:.3g} against {row["theirs"]:.3g}, ratio '
              f'{row["ratio"]:.3g} (goal {row["goal"]:.3g})')


if __name__ == '__main__':
    main()

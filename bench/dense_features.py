# SPDX-License-Identifier: Apache-2.0
"""Compares the cost of dense open_clip features with the paper's crop pyramid, for one tower.

    python bench/dense_features.py --seconds --max-side 1120

The weights are random, which does not affect the cost: operations (multiply and add
count as two), counted without computing anything, and with --seconds time, which needs an idle
machine. Rows go to out/bench/features.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from lerf_ros.config import FeatureConfig, load_preset, preset_path
from lerf_ros.encoders.one_pass import CONV_FRACTION, VIT_FRACTION
from lerf_ros.encoders.openclip_patches import make_tower
from lerf_ros.encoders.pyramid import resize_factors, tile_grid

PAPER_SIZE = 994, 738    # the photographs of the LERF paper
GOAL = 20.0
CONV_MODEL = 'tf_efficientnet_lite2'
TIMED_CROPS = 32         # one batch of the pyramid; all batches cost the same


def levels_of(width: int, height: int, config: FeatureConfig, receptive_px: float) -> list[float]:
    """Returns the resize factors that the product would choose for the paper's crops."""
    return resize_factors([part * height for part in config.fractions], receptive_px,
                          max(width, height), config.max_side)


def pyramid_crops(width: int, height: int, config: FeatureConfig) -> int:
    """Returns the number of crops in the paper's pyramid."""
    grids = [tile_grid(width, height, part, config.overlap, config.overlap_small)
             for part in config.fractions]
    return sum(grid.rows * grid.cols for grid in grids)


def cost_rows(config: FeatureConfig, size: tuple[int, int], seconds: bool) -> list[dict]:
    """Returns operations, and on request seconds, of one image as dense features and as crops."""
    torch.backends.mha.set_fastpath_enabled(False)   # so that its operations are counted
    rows = []
    for name, mode in (('ViT-B-16', 'maskclip'), ('ViT-B-16', 'naclip'), (CONV_MODEL, 'conv')):
        for unit, device in (('Gflop', 'meta'), ('s', 'cpu'))[:1 + seconds]:
            ours, theirs, sizes, count = costs(name, mode, config, size, device)
            rows.append({'what': f'features of a {size[0]}x{size[1]} keyframe, {name} {mode} at '
                                 f'{sizes} sizes against {count} crops, {unit}',
                         'ours': ours, 'theirs': theirs, 'ratio': theirs / ours, 'goal': GOAL})
    return rows


def costs(name: str, mode: str, config: FeatureConfig, size: tuple[int, int],
          device: str) -> tuple[float, float, int, int]:
    """Compares dense features with the crops of the pyramid.

    device: meta counts operations (1e9) without computing anything, cpu takes the time.
    """
    visual = image_tower(name).to(device)
    tower, count = make_tower(visual, mode), pyramid_crops(*size, config)
    part = CONV_FRACTION if mode == 'conv' else VIT_FRACTION
    factors = levels_of(*size, config, part * tower.side)
    images = [torch.zeros(1, 3, *(round(side * factor / tower.stride) * tower.stride
                                  for side in (size[1], size[0])), device=device)
              for factor in factors]
    batch = torch.zeros(TIMED_CROPS, 3, tower.side, tower.side, device=device)
    ours = measured(lambda: [tower(image) for image in images], device)
    theirs = measured(lambda: visual(batch), device) * count / TIMED_CROPS
    return ours, theirs, len(factors), count


def image_tower(name: str) -> torch.nn.Module:
    """Returns an image tower with random weights."""
    import open_clip
    if name == CONV_MODEL:
        return open_clip.timm_model.TimmModel(name, 384, 260, 'avg', 'mlp', True).eval()
    return open_clip.create_model(name).visual.eval()


@torch.inference_mode()
def measured(run: Callable[[], object], device: str) -> float:
    """Returns operations (1e9) of a run on `meta`; on other devices the seconds of a second run."""
    with FlopCounterMode(display=False) as counter:
        run()
    if device == 'meta':
        return counter.get_total_flops() / 1e9
    start = time.monotonic()
    run()
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', action='store_true', help='take times as well')
    parser.add_argument('--max-side', type=int,
                        help='features.max_side, pixels (default: that of the preset online)')
    parser.add_argument('--out', type=Path, default=Path('out/bench/features.json'))
    arguments = parser.parse_args()
    online = load_preset(preset_path('online')).features
    config = FeatureConfig(max_side=arguments.max_side or online.max_side)
    rows = [row for size in (PAPER_SIZE, (640, 480))
            for row in cost_rows(config, size, arguments.seconds)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1))
    for row in rows:
        print(f'{row["what"]}: {row["ours"]:.3g} against {row["theirs"]:.3g}, ratio '
              f'{row["ratio"]:.3g} (goal {row["goal"]:.3g})')


if __name__ == '__main__':
    main()

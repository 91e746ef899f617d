# SPDX-License-Identifier: Apache-2.0
"""Plots of an evaluation: precision over recall of existence, and quality over training steps.

matplotlib is imported when the first plot is drawn. It never opens a window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from lerf_ros.errors import LerfError
from lerf_ros.evaluation.records import Convergence, PhraseScore
from lerf_ros.evaluation.tables import existence_phrases, mean_of
from lerf_ros.storage.output_folder import OutputFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow, which is
# too pale for lines. Dashes and markers distinguish lines without colour.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
# There are different numbers of colours, dashes and markers, so that no two lines are alike when
# one of these begins anew.
DASHES = ('-', '--', '-.', (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
MARKERS = 'osD^vPX*'
DPI = 130
ALL_METHODS = 'all methods'
# Attribute of Convergence: label of its plot, and factor.
MEASURES = {'hits': ('3D hits (% of objects)', 100), 'iou_3d': ('mean 3D IoU', 1),
            'psnr': ('PSNR of held-out images (dB)', 1)}


class LineStyle(TypedDict):
    """Keyword arguments of a line in matplotlib."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]
    linewidth: float


def new_figure(title: str, panels: int) -> tuple[Figure, list[Axes]]:
    """Creates a figure with panels side by side, which is never shown on a screen.

    Raises LerfError that says how to install matplotlib. Call it before long work that ends with
    a plot.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise LerfError(
            f"plots need matplotlib ({error}): pip install matplotlib, or pip install '.[eval]' "
            'in the folder of lerf_ros') from error
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)   # inches around a panel
    figure = Figure(figsize=(4.8 * panels, 5.0), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def plot_precision_recall(phrases: Sequence[PhraseScore], folder: Path) -> list[Path]:
    """Writes precision_recall_ENCODER.png for each encoder: one line per method, over all scenes.

    The left panel has absent words that are far in meaning from everything present, the right
    panel near ones. Returns the files.
    """
    written = []
    for encoder in dict.fromkeys(p.encoder for p in phrases):
        figure, axes = new_figure(f'Existence, encoder {encoder}', 2)
        own = [p for p in phrases if p.encoder == encoder]
        for axis, near in zip(axes, (False, True)):
            draw_existence(axis, own, near)
        written.append(save(figure, folder, 'precision_recall', encoder))
    return written


def draw_existence(axis: Axes, phrases: Sequence[PhraseScore], near: bool) -> None:
    """Draws a panel: precision over recall of each method, and the precision of chance."""
    chance = set()
    for i, method in enumerate(dict.fromkeys(p.method for p in phrases)):
        chosen = existence_phrases([p for p in phrases if p.method == method], near)
        present = np.array([p.present for p in chosen], bool)
        if present.all() or not present.any():
            continue
        scores = np.array([p.score for p in chosen])
        # From the highest threshold on. scikit-learn ends with recall 0 at precision 1.
        precision, recall = (c[::-1] for c in precision_recall_curve(present, scores)[:2])
        precision[0] = precision[1]    # each precision holds back to the recall before it
        axis.step(100 * recall, 100 * precision, where='pre', **style(i),
                  label=f'{method} (AP {average_precision_score(present, scores):.2f})')
        chance.add((int(present.sum()), int((~present).sum())))
    for there, absent in sorted(chance):
        chance_ap = there / (there + absent)
        axis.axhline(100 * chance_ap, color='0.5', linestyle=':', linewidth=1,
                     label=f'chance, {there} present : {absent} absent ({chance_ap:.2f})')
    axis.set(title=f'absent words {"near" if near else "far from"} what is present',
             xlabel='recall (% of present phrases)', ylabel='precision (% of found phrases)',
             xlim=(-2, 102), ylim=(-2, 102))
    finish(axis, empty='no such words were asked')


def plot_convergence(convergence: Sequence[Convergence], folder: Path) -> list[Path]:
    """Writes convergence_ENCODER.png for each encoder: hits, IoU and PSNR over training steps."""
    written = []
    for encoder in dict.fromkeys(c.encoder for c in convergence):
        own = [c for c in convergence if c.encoder == encoder]
        scenes = len({c.scene for c in own})
        title = f'Convergence, encoder {encoder}, mean of {scenes} scenes'
        figure, axes = new_figure(title.removesuffix(' of 1 scenes') if scenes == 1 else title, 3)
        for axis, measure in zip(axes, MEASURES):
            draw_convergence(axis, own, measure)
        written.append(save(figure, folder, 'convergence', encoder))
    return written


def draw_convergence(axis: Axes, convergence: Sequence[Convergence], measure: str) -> None:
    """Draws a panel: a measure over the training steps, one line per method."""
    label, factor = MEASURES[measure]
    curves = {method: curve(convergence, method, measure)
              for method in dict.fromkeys(c.method for c in convergence)}
    curves = {method: points for method, points in curves.items() if points}
    if len(curves) > 1 and len(set(map(tuple, curves.values()))) == 1:
        # Language variants share one radiance field: their lines would hide each other.
        curves = {ALL_METHODS: next(iter(curves.values()))}
    for i, (method, points) in enumerate(curves.items()):
        steps, values = np.array(points).T
        line = style(i)
        if method == ALL_METHODS:
            line['color'] = 'black'
        axis.plot(steps, factor * values, marker=MARKERS[i % len(MARKERS)], markersize=5,
                  label=method, **line)
    ticks = sorted({c.steps for c in convergence})
    if ticks[0] > 0:
        axis.set_xscale('log')
    axis.set_xticks(ticks, [f'{step:,}' for step in ticks], rotation=45, ha='right')
    axis.minorticks_off()
    axis.set(xlabel='training steps', ylabel=label)
    if measure != 'psnr':
        axis.set_ylim(-0.02 * factor, 1.02 * factor)
    finish(axis, empty='not measured', below=0.33)     # the labels of steps are slanted


def curve(convergence: Sequence[Convergence], method: str,
          measure: str) -> list[tuple[int, float]]:
    """Returns steps and the mean over scenes of one method, sorted by steps."""
    own = [c for c in convergence if c.method == method]
    means = [(steps, mean_of([getattr(c, measure) for c in own if c.steps == steps]))
             for steps in sorted({c.steps for c in own})]
    return [(steps, mean) for steps, mean in means if not math.isnan(mean)]


def style(i: int) -> LineStyle:
    """Returns the style of the line of the i-th method."""
    return {'color': COLORS[i % len(COLORS)], 'linestyle': DASHES[i % len(DASHES)],
            'linewidth': 1.6}


def finish(axis: Axes, empty: str, below: float = 0.2) -> None:
    """Adds a grid and a legend below the axes; the text `empty` where nothing was drawn.

    below: fraction of the height of the axes from them to the legend.
    """
    axis.grid(color='0.9')
    axis.set_axisbelow(True)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc='upper center', bbox_to_anchor=(0.5, -below), frameon=False, fontsize=9)
    else:
        axis.text(0.5, 0.5, empty, ha='center', transform=axis.transAxes)


def save(figure: Figure, folder: Path, kind: str, encoder: str) -> Path:
    """Writes KIND_ENCODER.png; returns its path."""
    path = folder / f'{kind}_{re.sub(r"[^a-z0-9]+", "_", encoder.lower())}.png'
    with OutputFolder(folder).file(path.name) as place:
        figure.savefig(place, bbox_inches='tight')      # legends of many methods are long
    return path

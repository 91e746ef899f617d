# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation: results.json, table.md and the plots.

results.json holds `rows` and `comparisons` (the tables) beside the records that they were made of
(`objects`, `phrases`, `convergence`, `info`), which EvalResults.from_json reads back.
"""

from __future__ import annotations

import json
from pathlib import Path

from lerf_ros.evaluation.eval_markdown import markdown
from lerf_ros.evaluation.eval_rows import EvalResults, plain
from lerf_ros.evaluation.eval_table import Row, comparisons, row_json, table_rows
from lerf_ros.evaluation.plots import plot_convergence, plot_precision_recall
from lerf_ros.storage.output_folder import OutputFolder

__all__ = ['Row', 'read', 'save', 'table_rows', 'write']


def save(results: EvalResults, folder: str | Path) -> None:
    """Writes the records alone to results.json: quick, so that nothing is lost on the way."""
    with OutputFolder(folder).file('results.json') as path:
        path.write_text(json.dumps(results.to_json(), indent=2, allow_nan=False) + '\n')


def write(results: EvalResults, folder: str | Path) -> list[Path]:
    """Writes results.json, table.md and a plot of each kind per encoder; returns the files.

    The folder is made. Without matplotlib a LerfError says how to install it, after JSON and
    tables were written.
    """
    folder, out = Path(folder), OutputFolder(folder)
    rows, compared = table_rows(results), comparisons(results)
    content = {'rows': [row_json(row) for row in rows], 'comparisons': plain(compared),
               **results.to_json()}
    with out.file('results.json') as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
    with out.file('table.md') as path:
        path.write_text(markdown(results, rows, compared), encoding='utf-8')
    return [folder / 'results.json', folder / 'table.md',
            *plot_precision_recall(results.phrases, folder),
            *plot_convergence(results.convergence, folder)]


def read(path: str | Path) -> EvalResults:
    """The records of a results.json; raises DatasetError when they do not fit."""
    return EvalResults.from_json(json.loads(Path(path).read_text(encoding='utf-8')))

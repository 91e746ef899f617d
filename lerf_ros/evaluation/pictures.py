# SPDX-License-Identifier: Apache-2.0
"""Pictures of answers on the photographs that a map keeps."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lerf_ros.evaluation.report import View, ViewChooser, contact_sheet, overlay, write_image
from lerf_ros.keyframes.captures.load import load_folder
from lerf_ros.query.answer import Answer
from lerf_ros.storage.output_folder import OutputFolder

MAX_VIEWS = 40   # photographs among which the best view of a hit is chosen


def map_views(map_directory: Path) -> list[View]:
    """Photographs of the map, evenly chosen where there are many; DatasetError without any."""
    frames = load_folder(map_directory).frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_VIEWS)).astype(int))
    return [View(f.image, f.camera, f.T_world_camera) for f in (frames[int(i)] for i in chosen)]


def save_overlay(map_directory: Path, answer: Answer, folder: Path) -> Path:
    """Writes the photograph that sees the best hit best, with the relevancy over it."""
    views = map_views(map_directory)
    view = views[ViewChooser(views, answer.points_world).best(answer)]
    name = f'{re.sub(r"[^a-z0-9]+", "_", answer.text.lower())}.png'
    with OutputFolder(folder).file(name) as path:
        write_image(path, np.concatenate([view.image, overlay(view, answer)], 1))
    return folder / name


def save_sheet(map_directory: Path, answers: list[Answer], title: str, path: Path) -> Path:
    """Writes a contact sheet of several answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_sheet(map_views(map_directory), answers, title))
    return path

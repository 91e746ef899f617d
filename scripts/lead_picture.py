# SPDX-License-Identifier: Apache-2.0
"""Makes the picture that README leads with: a photograph, and in it heat and box of a phrase.

    lerf_ros train FOLDER --map out/maps/banana
    python scripts/lead_picture.py out/maps/banana banana docs/lead.jpg

Nothing is retouched: heat and box are what the map answers. README says whose
photographs they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lerf_ros import MapQuery
from lerf_ros.show.pictures import (
    ViewChooser,
    map_views,
    overlay,
    put_text,
    white,
    write_image,
)

PANEL_HEIGHT, GAP, HEAD_HEIGHT = 480, 8, 64      # pixels


def main() -> None:
    """Asks the map and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('map')
    parser.add_argument('phrase')
    parser.add_argument('picture')
    arguments = parser.parse_args()
    answer = MapQuery.open(arguments.map).answer(arguments.phrase)
    if not answer.found:
        raise SystemExit(f'{arguments.phrase!r} was not found: {answer.not_found_reason}')
    views = map_views(Path(arguments.map))
    view = views[ViewChooser(views, answer.points_world).best(answer)]
    panels = (view.image, overlay(view, answer))
    write_image(arguments.picture, sheet(panels, arguments.phrase, len(views)))


def sheet(panels: Sequence[np.ndarray], phrase: str, photographs: int) -> np.ndarray:
    """Returns the panels side by side below what each is, on white."""
    titles = f'1. {photographs} photographs, mapped', f'2. ask: "{phrase}"'
    columns = []
    for panel, title in zip(panels, titles, strict=True):
        width = round(PANEL_HEIGHT * panel.shape[1] / panel.shape[0])
        small = cv2.resize(panel, (width, PANEL_HEIGHT), interpolation=cv2.INTER_AREA)
        head = white(HEAD_HEIGHT, width)
        put_text(head, title, (4, 44), 1.25)
        columns += [np.concatenate([head, small]), white(HEAD_HEIGHT + PANEL_HEIGHT, GAP)]
    return np.concatenate(columns[:-1], 1)


if __name__ == '__main__':
    main()

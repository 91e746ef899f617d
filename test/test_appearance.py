# SPDX-License-Identifier: Apache-2.0
"""Keyframes of different exposure: each has a vector that takes it up, a picture gets the mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import ColorEncoder, orbit, photograph

from lerf_ros.mapper import Mapper
from lerf_ros.simulation.sensor import with_gain
from lerf_ros.storage.map_directory import MapDirectory

VIEWS, STEPS = 12, 150
# A camera that is a stop too dark or half a stop too bright, by turns.
GAINS = (0.5, 1.4, 1.0)


def exposed(index, T_world_camera):
    frame = photograph(T_world_camera)
    return replace(frame, image=with_gain(frame.image, GAINS[index % len(GAINS)]))


def trained(folder, appearance):
    config = SMALL.override({'field.appearance': appearance, 'keyframes.holdout_every': 0,
                             'training.newest_fraction': 0.0, 'training.language_rays': 8,
                             'training.rays': 192})
    mapper = Mapper(config, MapDirectory(folder, True), ColorEncoder(), 'map', True)
    for index, T in enumerate(orbit(VIEWS)):
        mapper.add_frame(exposed(index, T))
    for _ in range(STEPS):
        mapper.guard.step()
    return mapper


@pytest.fixture(scope='module')
def mappers(tmp_path_factory):
    """Trained on the same exposures, without appearance and with it."""
    return {length: trained(tmp_path_factory.mktemp(f'map{length}'), length) for length in (0, 8)}


@torch.no_grad()
def picture(mapper, row, keyframe=None):
    """Rendered and photographed colours (R, 3) of the keyframe in `row`, as `keyframe` looks."""
    batch = mapper.trainer.radiance.store.grid_of(row, 1000)
    look = None if keyframe is None else torch.full((len(batch),), keyframe)
    return mapper.trainer.radiance.field(batch.rays, keyframe=look).color, batch.colors


def view_errors(mapper):
    """Of all training views, each in its own look: mean square of colours, of mean colours."""
    differences = [a - b for a, b in (picture(mapper, row, row) for row in range(VIEWS))]
    return (float(np.mean([d.square().mean() for d in differences])),
            float(np.mean([d.mean(0).square().mean() for d in differences])))


def test_exposure_is_taken_up_by_the_keyframes_vectors(mappers):
    # Without vectors no field can be right: one place has three brightnesses. Grey goes with the
    # root of the gain, 0.71, 1.18 and 1: a deviation of 0.19 in a world of about 0.45, so 0.0075
    # of mean square (less where a field follows the direction of view).
    colors, brightness = view_errors(mappers[8])
    colors_without, brightness_without = view_errors(mappers[0])
    assert 0.002 < brightness_without < 0.0075
    assert brightness < 0.25 * brightness_without
    assert colors < colors_without - 0.5 * brightness_without


def test_a_look_makes_a_picture_darker_and_brighter(mappers):
    """One view in the looks of the first three keyframes, whose gains are GAINS."""
    dark, bright, middle = (float(picture(mappers[8], 0, look)[0].mean()) for look in range(3))
    assert dark < 0.85 * middle and middle < 0.95 * bright


def test_a_picture_without_a_keyframe_has_the_mean_look(mappers):
    field = mappers[8].trainer.radiance.field
    rendered, _ = picture(mappers[8], 0)
    with torch.no_grad():
        kept = field.appearance.table.clone()
        field.appearance.table[:VIEWS] = kept[:VIEWS].mean(0)
        same, _ = picture(mappers[8], 0, keyframe=5)
        field.appearance.table.copy_(kept)
    torch.testing.assert_close(same, rendered)
    dark, bright = (float(picture(mappers[8], 0, look)[0].mean()) for look in (0, 1))
    assert dark < float(rendered.mean()) < bright


def test_the_places_do_not_depend_on_exposure(mappers):
    """What brightness does is colour's matter: distances are as good as without vectors."""
    store = mappers[8].trainer.radiance.store
    batch = store.gather(*grid(store))
    with torch.no_grad():
        found = mappers[8].trainer.radiance.field(batch.rays).distance
    assert float((found - batch.rays.depth).abs().median()) < 0.02     # scene radii


def grid(store):
    one = store.grid_of(0, 1000)
    return one.keyframe, (one.pixels - 0.5).long()

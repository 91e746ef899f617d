# SPDX-License-Identifier: Apache-2.0
"""Parts of things, on two mugs with handles and a spoon whose handle is none of theirs."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_map import plain_index

from lerf_ros.config import QueryConfig
from lerf_ros.geometry.region import Region
from lerf_ros.lerf import find
from lerf_ros.query.parts import part_phrase
from lerf_ros.query.question import encode_phrases
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery

AXES = ('mug', 'mug handle', 'spoon', 'object')
NEGATIVES = ('object',)
# x of each mug's middle; its handle sticks out to the side of larger x.
MUGS = (0.0, 1.0)
SCALES = np.array([0.04, 0.3], np.float32)


class Words:
    """A mug's handle is mostly a mug handle and somewhat a mug."""

    def encode_texts(self, texts):
        return np.eye(len(AXES), dtype=np.float32)[[AXES.index(text) for text in texts]]


def block(low, high, step=0.01):
    axes = [np.arange(a, b + 1e-9, step) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3)


def code(near, far):
    """Unit codes (2, 4) at the small and at the large scale."""
    rows = np.array([near, far], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scene():
    """The index, and of each point what it is on: 0 mug, 1 handle, 2 spoon handle."""
    body, handle, spoon = code((1, 0, 0, 0), (1, 0, 0, 0)), code((0.5, 1, 0, 0), (1, 0.1, 0, 0)), \
        code((0, 0.9, 1, 0), (0, 0, 1, 0))
    parts = []
    for x in MUGS:
        parts.append((block((x - 0.05, -0.05, 0), (x + 0.05, 0.05, 0.1)), body, 0))
        parts.append((block((x + 0.06, -0.01, 0.02), (x + 0.08, 0.01, 0.08)), handle, 1))
    parts.append((block((0.4, 0.5, 0), (0.5, 0.52, 0.02)), spoon, 2))
    points = np.concatenate([p for p, _, _ in parts])
    codes = np.concatenate([np.broadcast_to(c, (len(p), 2, 4)) for p, c, _ in parts])
    kind = np.concatenate([np.full(len(p), k) for p, _, k in parts])
    mugs = np.repeat([1, 1, 2, 2, 3], [len(p) for p, _, _ in parts])
    index = plain_index(points, np.ascontiguousarray(codes.swapaxes(0, 1)), mugs, SCALES)
    return index, kind


@pytest.fixture(scope='module')
def query():
    index, kind = scene()
    return TextQuery(index, Words(), QueryConfig(negatives=NEGATIVES), radius=1.0), kind


def ask(query, request):
    question = encode_phrases(request, query.encoder, query.config.negatives)
    return find(query, question, request.region, 0.68, 5)


def test_the_handle_of_each_mug_is_found_and_no_other_handle(query):
    found = ask(query[0], QueryRequest('mug', part='handle'))
    assert [hit.label for hit in found.hits] == ['mug: handle'] * 2
    assert sorted(float(hit.position[0]) for hit in found.hits) == pytest.approx(
        [x + 0.07 for x in MUGS], abs=2e-3)
    assert all(hit.points == 3 * 3 * 7 for hit in found.hits)


def test_a_handle_in_another_segment_than_its_mug_belongs_to_the_mug(query):
    index, kind = query[0].index, query[1]
    own = np.where(kind == 1, index.segments + 3, index.segments)
    apart = TextQuery(replace(index, segments=own), Words(), query[0].config, radius=1.0)
    question = encode_phrases(QueryRequest('mug', part='handle'), apart.encoder, NEGATIVES)
    found = find(apart, question, None, 0.68, 2)
    assert sorted(float(hit.position[0]) for hit in found.hits) == pytest.approx(
        [x + 0.07 for x in MUGS], abs=2e-3)
    assert all(hit.points == 3 * 3 * 7 for hit in found.hits)


def test_the_box_of_a_part_does_not_reach_down_to_the_floor(query):
    for hit in ask(query[0], QueryRequest('mug', part='handle')).hits:
        assert hit.position[2] == pytest.approx(0.05, abs=1e-3)     # from 0.02 to 0.08
        assert hit.size[2] == pytest.approx(0.06, abs=1e-3)


def test_relevancy_is_of_the_part_inside_of_the_thing_and_nothing_outside(query):
    relevancy, kind = ask(query[0], QueryRequest('mug', part='handle')).relevancy, query[1]
    assert relevancy[kind == 1].min() == 1.0
    assert relevancy[kind == 0].max() == 0.0
    assert relevancy[kind == 2].max() == 0.0     # 'mug handle' alone would find the spoon too


def test_a_part_is_told_at_the_scale_of_a_part(query):
    hit = ask(query[0], QueryRequest('mug', part='handle')).hits[0]
    assert hit.scale == SCALES[0]                # the large one is wider than half of the mug


def test_a_hit_is_as_relevant_as_its_thing(query):
    thing = ask(query[0], QueryRequest('mug')).hits[0]
    assert ask(query[0], QueryRequest('mug', part='handle')).hits[0].relevancy == thing.relevancy


def test_what_is_not_there_has_no_parts(query):
    found = ask(query[0], QueryRequest('mug', part='handle', rather_than=('mug',)))
    assert found.hits == () and not found.relevancy.any()


def test_a_region_bounds_things_and_their_parts(query):
    T = np.eye(4)
    T[:3, 3] = (1.0, 0, 0.05)
    found = ask(query[0], QueryRequest('mug', part='handle',
                                       region=Region(T, np.array([0.4, 0.4, 0.4]))))
    assert len(found.hits) == 1 and found.hits[0].position[0] == pytest.approx(1.07, abs=2e-3)
    assert found.relevancy[query[0].index.points_world[:, 0] < 0.5].max() == 0


def test_a_part_is_named_as_one_says_it():
    assert part_phrase('mug', 'handle') == 'mug handle'
    assert part_phrase('', 'handle') == 'handle'

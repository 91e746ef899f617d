# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros eval --variants scales=N,...`: LERF with fewer levels of the pyramid."""

import argparse

import numpy as np
import pytest

from lerf_ros.cli import parser
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import EmbeddingMap, KeyframeFeatures, no_features
from lerf_ros.errors import ConfigError
from lerf_ros.evaluation.command import make_plan
from lerf_ros.evaluation.variants import VARIANTS, parse_variants, variant_of


def features(*widths):
    ids = np.zeros((1, 1, 1), np.int32)
    return KeyframeFeatures(tuple(
        EmbeddingMap(width, (0.0, 0.0), (1.0, 1.0), ids, ids.astype(np.float16),
                     np.ones((1, 2), np.float32)) for width in widths), no_features())


@pytest.mark.parametrize('count, kept', [
    (1, [30]), (2, [20, 80]), (3, [20, 50, 80]), (4, [20, 30, 50, 80]), (9, [20, 30, 50, 80])])
def test_levels_are_kept_from_the_narrowest_to_the_widest(count, kept):
    found = variant_of(f'scales={count}').choose(features(20.0, 30.0, 50.0, 80.0), 480)
    assert [level.width_px for level in found.levels] == kept


def test_one_scale_is_a_field_without_scale():
    config = LerfConfig().override(dict(variant_of('scales=1').settings))
    assert config.language.scale_rule == 'none' and config.index.scales == 1
    assert variant_of('scales=2').settings == () and variant_of('lerf') is VARIANTS['lerf']


def test_the_command_line_adds_them_to_the_methods():
    given = parser().parse_args(['eval', '--methods', 'lerf', '--variants', 'scales=1,2,4'])
    assert isinstance(given, argparse.Namespace)
    assert make_plan(given, LerfConfig()).methods == ('lerf', 'scales=1', 'scales=2', 'scales=4')


def test_what_differs_by_second_looks_alone_needs_them():
    without = LerfConfig().override({'index.look_views': 0})
    all_methods = make_plan(parser().parse_args(['eval']), LerfConfig()).methods
    some = make_plan(parser().parse_args(['eval']), without).methods
    assert set(all_methods) - set(some) == {'no second look'}
    # What robots have without a field is always compared with.
    assert {'lerf', 'fusion', 'fusion_second_look', 'tsdf'} <= set(some)
    given = parser().parse_args(['eval', '--methods', 'no second look'])
    assert make_plan(given, LerfConfig()).methods == ('no second look',)
    with pytest.raises(ConfigError, match='index.look_views=0'):
        make_plan(given, without)


@pytest.mark.parametrize('text', ['scales', 'scales=', 'scales=0', 'scales=1,x', 'widths=1'])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match='such as scales=1,2,4'):
        parse_variants(text)

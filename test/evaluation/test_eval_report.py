# SPDX-License-Identifier: Apache-2.0
"""Tables, comparisons, plots and pictures of an evaluation, from results made up by hand."""

import json
import math
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from lerf_ros.errors import DatasetError, LerfError
from lerf_ros.evaluation import command as eval_report
from lerf_ros.evaluation.overlays import Overlay, overlay_sheet, painted
from lerf_ros.evaluation.plots import MARKERS, curve, new_figure, style
from lerf_ros.evaluation.records import Convergence, EvalResults, ObjectResult, PhraseScore
from lerf_ros.evaluation.tables import (
    comparisons,
    markdown,
    mean_interval,
    ranking_precision,
    table_rows,
)
from lerf_ros.show.colors import turbo


def asked(hits, method='lerf', scene='table', sizes=None, **more):
    """One object per letter: 'x' is a hit, '.' a miss; sizes in pixels."""
    sizes = sizes or [50.0] * len(hits)
    made = ObjectResult(scene, 'conse', method, '', 0.0, False, 0.5, 0.7)
    return [replace(made, query=f'thing {i}', hit=hit == 'x', size_px=size, **more)
            for i, (hit, size) in enumerate(zip(hits, sizes))]


def heard(scores, kind, method='lerf', scene='table'):
    """Phrases of one kind: 'present', 'far' or 'near'."""
    return [PhraseScore(scene, 'conse', method, f'{kind} {i}', kind == 'present', kind == 'near',
                        score) for i, score in enumerate(scores)]


def row(results, scene='all', method='lerf'):
    return next(r for r in table_rows(results) if (r.scene, r.method) == (scene, method))


# Rows ----------------------------------------------------------------------------------------

def test_three_of_four_hits_and_their_parts_by_size():
    # Large: 36 px and more, so three objects of which two are hit; the small one is hit.
    results = EvalResults(asked('xx.x', sizes=[80.0, 36.0, 50.0, 35.9], iou_3d=0.25))
    made = row(results)
    assert (made.objects, made.objects_large, made.objects_small) == (4, 3, 1)
    assert made.hits.mean == 0.75 and made.hits_small.mean == 1
    assert made.hits_large.mean == pytest.approx(2 / 3)
    assert made.hits == mean_interval([1, 1, 0, 1])
    assert (made.iou_3d.mean, made.iou_3d.low, made.iou_3d.high) == (0.25, 0.25, 0.25)
    assert math.isnan(made.localized.mean) and math.isnan(made.existence_ap_far.mean)


def test_what_was_not_measured_does_not_count():
    results = EvalResults([*asked('xx', localized=True), *asked('..', localized=False),
                           *asked('....'), replace(asked('.')[0], hit=None, iou_3d=None)])
    made = row(results)
    assert made.localized.mean == 0.5                  # 2 of the 4 with a box
    assert made.hits.mean == 0.25 and made.objects == 9  # 2 of the 8 with an answer in 3D


def test_scenes_have_rows_of_their_own_and_are_drawn_whole_in_the_pool():
    results = EvalResults([*asked('xxxx', scene='a'), *asked('....', scene='b')])
    assert [(r.scene, r.scenes, r.objects) for r in table_rows(results)] == [
        ('all', 2, 8), ('a', 1, 4), ('b', 1, 4)]
    pooled = row(results)
    # Two of two scenes are drawn: the share is 0, 1/2 or 1, each extreme in a quarter of cases.
    assert (pooled.hits.mean, pooled.hits.low, pooled.hits.high) == (0.5, 0, 1)
    assert row(results, 'a').hits.low == 1 and row(results, 'b').hits.high == 0


def test_existence_of_a_ranking_worked_out_by_hand():
    # Ranked: present, far, present, near. Far words: 1/2 * 1 + 1/2 * 2/3; near words: all before.
    results = EvalResults((), [*heard([0.9, 0.7], 'present'), *heard([0.8], 'far'),
                               *heard([0.6], 'near')])
    made = row(results)
    assert (made.present, made.absent_far, made.absent_near) == (2, 1, 1)
    assert made.existence_ap_far.mean == pytest.approx(1 / 2 + 1 / 3)
    assert made.existence_ap_near.mean == 1
    assert made.objects == 0 and math.isnan(made.hits.mean)


def test_the_fast_precision_is_the_one_of_the_curve():
    random = np.random.default_rng(1)
    scores, present = random.random(40).round(1), random.random(40) > 0.6   # many equal scores
    fast = ranking_precision(scores, present)
    for _ in range(50):
        index = random.integers(40, size=40)
        assert fast(index) == pytest.approx(average_precision_score(present[index], scores[index]))
    assert math.isnan(fast(np.flatnonzero(present))) and math.isnan(fast(np.flatnonzero(~present)))


# Comparisons ---------------------------------------------------------------------------------

def test_the_difference_is_over_objects_that_both_were_asked_for():
    # Of five common objects lerf hits 4, fusion 2: thing 0 and 3 by lerf only, none by fusion only.
    results = EvalResults([*asked('xxxx.x'), *asked('.xx..', 'fusion'),
                           *asked('xxxxx', 'fusion', scene='elsewhere')])
    made, = comparisons(results)
    assert (made.method, made.other, made.objects, made.scenes) == ('lerf', 'fusion', 5, 1)
    assert made.difference.difference == pytest.approx(2 / 5)
    assert (made.only_ours, made.only_other) == (2, 0)
    assert made.difference.low >= 0 and made.difference.p_not_below == 1


def test_each_encoder_is_compared_for_itself():
    others = [replace(o, encoder='oracle') for o in asked('xx', 'fusion')]
    assert comparisons(EvalResults([*asked('xx'), *others])) == []


def test_a_phrase_asked_twice_in_a_scene_is_two_pairs():
    ours, theirs = (asked(hits, method)[:1] + asked(hits[1:], method)[:1]
                    for hits, method in (('x.', 'lerf'), ('xx', 'fusion')))
    made, = comparisons(EvalResults(ours + theirs))
    assert made.objects == 2 and made.difference.difference == -0.5 and made.only_other == 1


# Files ---------------------------------------------------------------------------------------

def everything():
    """Two scenes, two methods, all kinds of records."""
    objects, phrases, stages = [], [], []
    for scene in ('shelf', 'table'):
        for method, hits in (('lerf', 'xx.x'), ('fusion', 'x..x')):
            objects += asked(hits, method, scene, [20.0, 40, 60, 80], localized=True)
            phrases += [*heard([0.9, 0.8, 0.6], 'present', method, scene),
                        *heard([0.7, 0.4, 0.3], 'far', method, scene),
                        *heard([0.85, 0.5], 'near', method, scene)]
            stages += [Convergence(scene, 'conse', method, steps, 20 + steps / 1000,
                                   hit if method == 'lerf' else hit / 2, hit / 2, steps / 50)
                       for steps, hit in ((1000, 0.25), (2000, 0.5), (6000, 0.75))]
    return EvalResults(tuple(objects), tuple(phrases), tuple(stages), {'seeds': [0, 1]})


def test_json_is_read_back_and_rounded():
    results = everything()
    assert EvalResults.from_json(json.loads(json.dumps(results.to_json()))) == results
    odd = EvalResults(
        [replace(asked('x')[0], hit=np.True_, relevancy=np.float32(1 / 3), size_px=math.nan)],
        info={'rate': np.float64(2 / 3), 'shape': np.array([1, 2]), 'loss': math.inf})
    content = odd.to_json()
    assert content['objects'][0]['relevancy'] == 0.333333 and content['objects'][0]['hit'] is True
    assert content['info'] == {'rate': 0.666667, 'shape': [1, 2], 'loss': None}
    again = EvalResults.from_json(content).objects[0]
    assert math.isnan(again.size_px) and again.localized is None


@pytest.mark.parametrize('content, message', [
    ({'objects': []}, 'a list of phrases'),
    ({'objects': [{'scene': 'a'}], 'phrases': [], 'convergence': []}, r'objects\[0\].*missing'),
    ({'objects': [], 'phrases': [3], 'convergence': []}, r'phrases\[0\]')])
def test_json_that_does_not_fit_is_named(content, message):
    with pytest.raises(DatasetError, match=message):
        EvalResults.from_json(content)


def test_no_two_methods_look_alike_in_a_plot():
    methods = range(len(eval_report.METHODS) + len(eval_report.RIVALS))
    lines = {(style(i)['color'], str(style(i)['linestyle'])) for i in methods}
    dots = {(style(i)['color'], MARKERS[i % len(MARKERS)]) for i in methods}
    assert len(lines) == len(dots) == len(methods)


def test_the_files_of_an_evaluation(tmp_path):
    pytest.importorskip('matplotlib', reason='plots need matplotlib, of the extra eval')
    results = everything()
    files = eval_report.write(results, tmp_path / 'eval')
    assert [path.name for path in files] == [
        'results.json', 'table.md', 'precision_recall_conse.png', 'convergence_conse.png']
    content = json.loads(files[0].read_text())
    assert {'rows', 'comparisons', 'objects', 'phrases', 'convergence', 'info'} == set(content)
    first = content['rows'][0]
    # Of the six present phrases two are at .9, two at .8, then two far ones at .7, then two at .6.
    expected = {'scene': 'all', 'encoder': 'conse', 'method': 'lerf', 'objects': 8, 'hits': 0.75,
                'iou_3d': 0.5, 'existence_ap_far': round(1 / 3 + 1 / 3 + 1 / 3 * 6 / 8, 6)}
    assert {name: first[name] for name in expected} == expected
    assert first['hits_interval'] == [0.75, 0.75]      # both scenes have 3 of 4
    assert first['lerf_ovs_iou'] is None and first['lerf_ovs_iou_interval'] is None
    assert content['comparisons'][0]['difference']['difference'] == 0.25
    assert EvalResults.from_json(content) == results
    for path in files[2:]:
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 400 and picture.std() > 5
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_the_markdown_page():
    page = markdown(everything())
    heads = [line for line in page.splitlines() if line.startswith('#')]
    assert heads == ['# Evaluation', '## All scenes (2)', '## Paired comparisons',
                     '## Scene shelf', '## Scene table', '## Convergence']
    lines = page.splitlines()
    head, ours = (next(line for line in lines if line.startswith(start))
                  for start in ('| encoder', '| conse   | lerf'))
    cells = dict(zip(*([cell.strip() for cell in line.strip('|').split('|')]
                       for line in (head, ours))))
    assert cells['hits'] == '75 % [75, 75]' and cells['hits, < 36 px'] == '100 % [100, 100] (2)'
    assert cells['existence AP, far words'] == '0.92 [0.92, 0.92] (6 : 6)'
    assert 'LERF-OVS IoU' not in cells                 # nothing was measured there
    assert '| +25 [+25, +25] ' in page                 # percent points between 3 and 2 of 4
    assert '| 6,000 | 120 s    | 75 % | 0.38   | 26.0 dB       |' in page


def test_without_results_there_are_no_tables_and_plots(tmp_path):
    files = eval_report.write(EvalResults(), tmp_path)
    assert [path.name for path in files] == ['results.json', 'table.md']


# Plots and pictures --------------------------------------------------------------------------

def test_convergence_is_the_mean_of_the_measured_scenes():
    made = Convergence('a', 'conse', 'lerf', 1000, math.nan, 0.5, 0.2, 1)
    stages = [made, replace(made, scene='b', hits=1.0, iou_3d=math.nan),
              replace(made, steps=500, hits=0.1)]
    assert curve(stages, 'lerf', 'hits') == [(500, 0.1), (1000, 0.75)]
    assert curve(stages, 'lerf', 'iou_3d') == [(500, 0.2), (1000, 0.2)]
    assert curve(stages, 'lerf', 'psnr') == []


def test_a_missing_matplotlib_is_named_after_the_numbers_are_safe(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(LerfError, match=r"pip install '\.\[eval\]'"):
        new_figure('', 1)
    with pytest.raises(LerfError):
        eval_report.write(EvalResults((), heard([0.5], 'present')), tmp_path)
    assert (tmp_path / 'results.json').exists() and (tmp_path / 'table.md').exists()


def test_relevancy_is_painted_by_the_papers_rule():
    photo = np.full((1, 4, 3), 100, np.uint8)
    made = painted(photo, np.array([[0.49, 0.5, 0.9, np.nan]]))
    assert (made[0, [0, 3]] == 100).all()
    ends = turbo(np.array([0.0, 1.0]))                  # 0.5 and the maximum
    assert made[0, 1:3].tolist() == np.round(0.75 * ends + 0.25 * 100).tolist()
    assert (painted(photo, np.full((1, 4), 0.5)) == photo).all()


def test_the_sheet_holds_pairs_with_the_box_on_both(tmp_path):
    photo = np.full((240, 400, 3), 100, np.uint8)
    relevancy = np.full((240, 400), 0.2)
    cells = [Overlay('mug', photo, relevancy, (300, 50, 100, 20), True),
             Overlay('a title that is far too long ' * 9, photo, relevancy, None, False),
             Overlay('tiger', photo[:120], relevancy[:120], None, False)]
    path = overlay_sheet(cells, tmp_path / 'new' / 'sheet.png')
    sheet = cv2.imread(str(path))[..., ::-1]
    # Two pairs of 2 x 400 + 6 with gaps of 6; rows of a gap, 240 and 120 pixels, and a caption.
    assert sheet.shape == (6 + 240 + 30 + 6 + 120 + 30, 2 * 806 + 3 * 6, 3)
    for left in (6, 6 + 400 + 6):                       # photograph and overlay
        assert (sheet[6 + 20, left + 100:left + 301] == 255).all()
        assert (sheet[6 + 20:6 + 51, left + 300] == 255).all()
        assert (sheet[6 + 30:6 + 40, left + 110:left + 290] == 100).all()
    assert (sheet[6:246, 6 + 806 + 6:6 + 806 + 6 + 400] == 100).all()   # no box, nothing relevant
    captions = sheet[246:276, :].astype(int)
    green, red = captions[..., 1] - captions[..., 0], captions[..., 0] - captions[..., 1]
    assert green[:, :812].max() > 50 and red[:, :812].max() < 20
    assert red[:, 818:].max() > 50 and (captions[:, 1624:] == 255).all()   # cut within its tile


def test_a_sheet_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(ValueError, match='at least one'):
        overlay_sheet([], tmp_path / 'sheet.png')
    cell = Overlay('mug', np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5)), None, True)
    with pytest.raises(ValueError, match='photograph has'):
        overlay_sheet([cell], tmp_path / 'sheet.png')

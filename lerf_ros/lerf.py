# SPDX-License-Identifier: Apache-2.0
"""READ FIRST. The method on one page: LERF (Kerr et al., ICCV 2023, arXiv 2303.09553).

A radiance field learns what a place looks like. A language field learns what things mean, at every
physical width; it is rendered with the weights of the radiance field and never changes them. A
phrase is not looked up in the fields but in an index of the surface points where their rays end.

    posed image -> `embed` -> `training_step`, thousands of them -> `index` -> `find` -> places

This is the code that runs: mapper.py calls the first three while the robot drives, map_query.py the
last one; training/learners.py holds each step of the training. R rays, k samples of each, N surface
points, S scales, P phrases, M canonical phrases, D dimensions, compressed to r. Sections are the
paper's. Imports are inside of the functions: a mapper answers nothing, a query trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from lerf_ros.config import LerfConfig
    from lerf_ros.encoders.embedding_map import KeyframeFeatures
    from lerf_ros.encoders.extractor import FeatureExtractor
    from lerf_ros.field.language_field import LanguageField
    from lerf_ros.field.radiance_field import RadianceField
    from lerf_ros.field.ray_sampling import SamplingPlan
    from lerf_ros.frames.frame import Frame
    from lerf_ros.geometry.region import Region
    from lerf_ros.geometry.scene_frame import SceneFrame
    from lerf_ros.index.second_look import LookAgain
    from lerf_ros.index.surface import PosedCamera
    from lerf_ros.index.survey import Survey, ViewCache
    from lerf_ros.query.phrases.reading import Viewpoint
    from lerf_ros.query.presence import Calibration
    from lerf_ros.query.question import Question
    from lerf_ros.query.search import SearchResult
    from lerf_ros.query.text_query import TextQuery
    from lerf_ros.training.learners import LanguageLearner, LanguageTargetBatch, RadianceLearner
    from lerf_ros.training.ray_batches import PixelBatch


@dataclass(frozen=True)
class StepReport:
    """The loss of one step, its colour error (mean square), and how many rays it took."""

    loss: float
    color_error: float
    rays: int


def embed(frame: Frame, scene: SceneFrame, extractor: FeatureExtractor,
          widths: Sequence[float]) -> KeyframeFeatures:
    """Computes the embeddings of an image at several physical widths (section 3.2).

    widths: scene radii. The widths in pixels follow from how far away things are.
    """
    from lerf_ros.training.scene_measurement import viewing_depth

    widths_world = [width * scene.radius for width in widths]
    return extractor.extract(frame, widths_world, viewing_depth(frame, scene))


def training_step(radiance: RadianceLearner, language: LanguageLearner,
                  run: Callable[..., Tensor] | None = None) -> StepReport:
    """Draws rays, and moves both fields down their losses (sections 3.1 to 3.3).

    run: calls `move_fields` with its arguments in a faster way (training/captured_step.py).
    """
    batch, plan = radiance.draw()                               # random pixels of keyframes
    targets = language.draw(batch, radiance.rays)               # what they mean, random scales
    inputs = radiance, language, batch, plan, targets
    losses = run(move_fields, *inputs) if run else move_fields(*inputs)
    radiance_loss, language_loss, color_error = losses.tolist()
    language.advance(radiance.steps)
    radiance.advance()
    return StepReport(radiance_loss + language_loss, color_error, len(batch))


def move_fields(radiance: RadianceLearner, language: LanguageLearner, batch: PixelBatch,
                plan: SamplingPlan, targets: LanguageTargetBatch) -> Tensor:
    """Renders rays and takes a step down both losses; returns these and the colour error (3,).

    On a GPU this only gives orders: no shape and no branch depends on what they compute.
    """
    import torch

    batch = radiance.posed(batch)                               # corrected poses, where learned
    rendered = radiance.render(batch, plan)                     # colours (R, 3), weights
    loss, color_error = radiance.loss(rendered, batch)
    radiance_loss = radiance.descend(loss)

    # Gradients stop here: what things mean never changes what the place looks like.
    samples = language.samples(batch.detach(), rendered, len(targets))
    language_loss = language.descend(language.loss(samples, targets))
    return torch.stack([radiance_loss, language_loss, color_error.detach()])


def index(radiance: RadianceField, language: LanguageField, cameras: Sequence[PosedCamera],
          scene: SceneFrame, trained: tuple[float, float], config: LerfConfig,
          contradicted: Callable[[np.ndarray], np.ndarray] | None = None,
          cache: ViewCache | None = None, look: LookAgain | None = None) -> Survey:
    """Renders the keyframes' views and indexes the surfaces in them with their language.

    trained: the scales that the language was trained at, scene radii. contradicted: which of
    points (N, 3), world, are known to have gone, (N,) bool. cache: of the snapshot before; views
    that show the same as then are not rendered anew. look: at the things that were found, in the
    keyframes that show them best; None for no second looks. Raises ValueError without a keyframe.
    """
    import torch

    from lerf_ros.index.coverage import measure_coverage
    from lerf_ros.index.language_index import build_index
    from lerf_ros.index.scales import index_scales
    from lerf_ros.index.surface import confirmed_surface, newest_keyframes, view_grids
    from lerf_ros.index.survey import Survey, ViewCache, weak_areas

    c, cache = config.index, cache or ViewCache()
    views = view_grids(cameras, c.rays, next(radiance.parameters()).device)
    surfaces, depths = cache.render_views(radiance, views, c, config.language.samples)
    surface = confirmed_surface(views, surfaces, depths, c)     # seen at one place by several
    if contradicted is not None:
        surface = surface.without(contradicted(scene.to_world(surface.points.cpu().numpy())))
    scales = index_scales(c, scene.radius, trained)
    indexed = build_index(surface, language, scene, scales, c)  # embeddings, segments, normals
    indexed = replace(indexed, newest=newest_keyframes(
        surface.points.cpu().numpy(), cameras, views, depths, c))
    if look is not None:
        indexed = replace(indexed, looks=look(indexed, scene, cameras, views, depths))
    return Survey(
        indexed,
        measure_coverage(views, depths, scene, c.coverage_cells, c.min_keyframes,
                         cache.counts(c.coverage_cells)),      # what was seen of the space
        scene.to_world(weak_areas(views, torch.cat([s.points for s in surfaces]), depths, c)))


def find(query: TextQuery, question: Question, region: Region | None, threshold: float,
         most: int, calibration: Calibration | None = None,
         viewer: Viewpoint | None = None) -> SearchResult:
    """Finds the places that look more like a phrase than like canonical phrases (section 3.4).

    The relevancy of a point is the least softmax of the phrase against one canonical phrase, at the
    scale where it fits best, and 0 outside of the region. Second looks at a thing move the
    relevancy of all of its points for the search. Each phrase has at most `most` places, best
    first, as if it was asked alone; calibration gives them probabilities. Of a phrase with colours
    and relations its noun is looked for, and what the map shows decides on the rest.
    viewer: from where things are left of others; None where nobody knows.
    """
    from lerf_ros.query.parts import find_parts
    from lerf_ros.query.phrases.selection import search_readings
    from lerf_ros.query.search import Limits, SearchResult, inside_region

    inside = None if region is None else inside_region(query.index, region)
    found = search_readings(query, question, inside, Limits(threshold, most, calibration), viewer)
    if question.parts is None:
        return found
    # A part is looked for inside of its thing alone.
    basis = query.index.basis                                   # (D, r)
    relevancy, parts = find_parts(
        query, found.phrases, question.positives @ basis, question.parts @ basis,
        question.negatives @ basis, question.part, inside)
    return SearchResult(relevancy, found.labels, parts)

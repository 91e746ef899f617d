# SPDX-License-Identifier: Apache-2.0
"""READ FIRST of the evaluation: one scene, one radiance field, each encoder and each method."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lerf_ros.config import IndexConfig, LerfConfig
from lerf_ros.errors import DatasetError, EncoderUnavailableError
from lerf_ros.evaluation.frozen_radiance import FrozenRadiance, RayView, train_radiance
from lerf_ros.evaluation.overlays import Overlay, overlay_sheet
from lerf_ros.evaluation.owl_vit import OWL_VIT, Detector, OwlVitDetector, run_detector
from lerf_ros.evaluation.records import Convergence, EvalResults, ObjectResult, PhraseScore
from lerf_ros.evaluation.scene_encoders import SceneEncoder
from lerf_ros.evaluation.scenes import EvalScene, ViewTruth, label_points, views_to_evaluate
from lerf_ros.evaluation.scoring import (
    EvaluatedIndex,
    absent_words,
    score_objects,
    score_phrases,
)
from lerf_ros.evaluation.tables import mean_of
from lerf_ros.evaluation.tsdf import fuse_tsdf
from lerf_ros.evaluation.variants import TrainedLanguage, Variant, train_variant, variant_of
from lerf_ros.index.language_index import LanguageIndex, render_embeddings
from lerf_ros.index.second_look import SecondLooker
from lerf_ros.mapping.fusion import fuse, measured_views
from lerf_ros.query.relevancy import relevancy

LOOKS = IndexConfig().look_views     # of fusion_second_look, where the settings ask for none
FUSION, FUSION_LOOKS, TSDF = 'fusion', 'fusion_second_look', 'tsdf'
# The stand-in for LSeg has the field's embeddings alone.
FIELD_ALONE = ('no second look', 'pixel-aligned')
RADIANCE = 'radiance field'   # shared by all methods of a scene
Stage = tuple[EvaluatedIndex, list[ObjectResult], Convergence]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalPlan:
    """What to run: the methods, and for how many steps the two fields are trained.

    convergence: numbers of language steps at which LERF is evaluated as well. views: how many views
    are rendered and evaluated where no views are labelled. absent: candidates for absent phrases.
    detector: creates the rival `owl-vit`.
    """

    methods: Sequence[str]
    radiance_steps: int
    language_steps: int
    convergence: Sequence[int]
    views: int
    absent: Sequence[str]
    device: torch.device
    detector: Callable[[], Detector] = OwlVitDetector


def run_scene(scene: EvalScene, encoders: Mapping[str, SceneEncoder], plan: EvalPlan,
              config: LerfConfig, pictures: Path | None = None) -> EvalResults:
    """Evaluates one scene: trains the radiance field once, then each method on it.

    pictures: folder for a sheet of overlays for each encoder and method that renders views.
    """
    config = config.override({
        'keyframes.max_count': max(len(scene.frames), config.keyframes.max_count)})
    views = views_to_evaluate(scene, plan.views, config.keyframes.holdout_every)
    frozen = train_radiance(scene.frames, config, plan.radiance_steps, views, plan.device)
    log.info('%s: %d frames, radiance %.0f s, held-out PSNR %.2f dB, depth error %.4f',
             scene.name, len(scene.frames), frozen.seconds, frozen.quality.psnr,
             frozen.quality.depth_error)
    records = Records([], [], [], [])
    encoded = [method for method in plan.methods if method != OWL_VIT]
    for name, encoder in encoders.items() if encoded else ():
        records.convergence.extend(
            Convergence(scene.name, name, RADIANCE, step, quality.psnr, math.nan, math.nan,
                        math.nan) for step, quality in frozen.curve)
        evaluator = MethodEvaluator(scene, name, encoder, frozen, encoder.settings(config), plan)
        for method in encoded:
            with records.attempt(f'{scene.name}, {name}, {method}'):
                run_method(evaluator, method, records, pictures)
    if OWL_VIT in plan.methods:
        with records.attempt(f'{scene.name}, {OWL_VIT}'):
            records.objects.extend(run_detector(scene, frozen, plan.detector()))
    return EvalResults(tuple(records.objects), tuple(records.phrases), tuple(records.convergence),
                       {'left out': records.left_out})


@dataclass(frozen=True)
class Records:
    """What was measured so far. left_out: what could not be measured, and why."""

    objects: list[ObjectResult]
    phrases: list[PhraseScore]
    convergence: list[Convergence]
    left_out: list[str]

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Turns an error of the scene or the machine into a warning and an entry in `left_out`."""
        try:
            yield
        except (DatasetError, EncoderUnavailableError) as error:
            log.warning('%s is left out: %s', what, error)
            self.left_out.append(f'{what}: {error}')


def run_method(evaluator: MethodEvaluator, method: str, records: Records,
               pictures: Path | None) -> None:
    """Evaluates one method of one encoder."""
    start = time.monotonic()
    stages = list(evaluator.stages(method))
    evaluated, rows, _ = stages[-1]
    records.convergence.extend(stage[2] for stage in stages)
    records.objects.extend(rows)
    records.phrases.extend(evaluator.phrases(evaluated))
    if pictures is not None and evaluator.overlays:
        name = f'overlays_{evaluated.scene}_{evaluated.encoder}_{method}.png'.replace(' ', '_')
        overlay_sheet(evaluator.overlays, pictures / name)
    log.info('%s, %s, %s: %d of %d hit, IoU %.2f, %d localized, %.0f s', evaluated.scene,
             evaluated.encoder, method, sum(bool(r.hit) for r in rows), len(rows),
             mean(r.iou_3d for r in rows), sum(bool(r.localized) for r in rows),
             time.monotonic() - start)


def mean(values: Iterable[float | None]) -> float:
    """Returns the mean of what was measured; NaN where nothing was."""
    return mean_of([math.nan if value is None else value for value in values])


class MethodEvaluator:
    """Evaluates the methods of one encoder on one scene."""

    def __init__(self, scene: EvalScene, name: str, encoder: SceneEncoder, frozen: FrozenRadiance,
                 config: LerfConfig, plan: EvalPlan) -> None:
        self.scene, self.name, self.encoder, self.frozen = scene, name, encoder, frozen
        self.config, self.plan = config, plan
        self.truths = [view.view.truth((view.camera.width, view.camera.height))
                       for view in frozen.views]
        self.features = encoder.features(scene, frozen.scene, config)
        self.looker = encoder.looker(scene, config)
        self.overlays: list[Overlay] = []
        self._trained: dict[Variant, TrainedLanguage] = {}
        # What the room consists of is present as well.
        present = [*scene.label_names, *(o.query for o in scene.objects)]
        self.absent = absent_words(present, plan.absent, encoder.texts.encode_texts)

    def stages(self, method: str) -> Iterator[Stage]:
        """Yields the results after each number of steps; the last one is the final result."""
        yield from self._fusion(method) if method in (FUSION, FUSION_LOOKS, TSDF) else \
            self._field(method)

    def _field(self, method: str) -> Iterator[Stage]:
        heights = [frame.camera.height for frame in self.scene.frames]
        stops = (*self.plan.convergence, self.plan.language_steps) if method == 'lerf' \
            else (self.plan.language_steps,)
        start, variant = time.monotonic(), variant_of(method)
        # A variant that was trained already, under another name, is only asked.
        again = [self._trained[variant]] if variant in self._trained and len(stops) == 1 else None
        for trained in again or train_variant(variant, self.frozen, self.features, heights,
                                              self.config, stops, self.plan.device):
            self._trained[variant] = trained
            evaluated = self._evaluated(method, trained.index if method in FIELD_ALONE else
                                        self._with_looks(trained.index))
            maps = [(truth, self._maps(view, trained))
                    for truth, view in zip(self.truths, self.frozen.views, strict=True)]
            rows = score_objects(evaluated, self.scene.objects, maps)
            self.overlays = overlay_cells(self.scene, rows, [
                (view.photo(), *shown)
                for view, shown in zip(self.frozen.views, maps, strict=True)])
            yield evaluated, rows, self._convergence(method, trained.steps, rows, start)

    def _with_looks(self, index: LanguageIndex) -> LanguageIndex:
        """Returns the index with second looks, where the settings ask for them."""
        return self.frozen.with_looks(index, self.looker) if self.config.index.look_views else index

    def _fusion(self, method: str) -> Iterator[Stage]:
        self.overlays = []   # nothing is rendered
        start = time.monotonic()
        used = [i for i, row in enumerate(self.frozen.trained)
                if row >= 0 and self.scene.frames[i].depth_m is not None]
        if not used:
            raise DatasetError('features are fused onto measured points, and no frame has depth')
        frames, scene = [self.scene.frames[i] for i in used], self.frozen.scene
        index = (fuse_tsdf if method == TSDF else fuse)(
            frames, [self.features[i] for i in used], scene, self.config)
        if method == FUSION_LOOKS:
            views = measured_views(frames, used, scene, self.config.index)
            index = replace(index, looks=self._fusion_looker().look(index, scene, *views))
        evaluated = self._evaluated(method, index)
        rows = score_objects(evaluated, self.scene.objects)
        yield evaluated, rows, self._convergence(method, 0, rows, start)

    def _fusion_looker(self) -> SecondLooker:
        """Returns second looks, also where the settings ask for none of the field's map."""
        count = self.config.index.look_views or LOOKS
        return self.encoder.looker(self.scene, self.config.override({'index.look_views': count}))

    def _evaluated(self, method: str, index: LanguageIndex) -> EvaluatedIndex:
        labels = label_points(index.points_world, self.scene)
        return EvaluatedIndex(self.scene.name, self.name, method, index,
                              np.where(labels < len(self.scene.objects), labels, -1),
                              self.encoder.texts, self.frozen.scene.radius, self.config.query)

    def _maps(self, view: RayView, trained: TrainedLanguage) -> dict[str, np.ndarray]:
        """Returns the relevancy (H, W) of the phrase of each object in a rendered view."""
        rays, camera = view.rays, view.camera
        with torch.no_grad():
            embeddings = torch.cat([
                render_embeddings(rays[part], trained.field, trained.scales).half()
                for part in torch.arange(len(rays)).split(4096)])
        out = {}
        for text in {thing.query for thing in self.scene.objects}:
            rows = self.encoder.texts.encode_texts([text, *self.config.query.negatives])
            cosines = torch.cat([part.float() @ torch.from_numpy(rows.astype(np.float32)).T
                                 for part in embeddings.split(4096)])       # (H W, S, 1 + M)
            values = relevancy(cosines[..., 0], cosines[..., 1:], self.config.query.temperature)
            out[text] = values.amax(1).numpy().reshape(camera.height, camera.width)
        return out

    def _convergence(self, method: str, steps: int, rows: Sequence[ObjectResult],
                     start: float) -> Convergence:
        return Convergence(self.scene.name, self.name, method, steps, math.nan,
                           mean(r.hit for r in rows), mean(r.iou_3d for r in rows),
                           time.monotonic() - start)

    def phrases(self, evaluated: EvaluatedIndex) -> list[PhraseScore]:
        """Returns the existence scores of present and absent phrases."""
        return score_phrases(evaluated, [o.query for o in self.scene.objects], self.absent)


def overlay_cells(scene: EvalScene, rows: Sequence[ObjectResult],
                  views: Sequence[tuple[np.ndarray, ViewTruth, Mapping[str, np.ndarray]]]
                  ) -> list[Overlay]:
    """Returns a picture of each object's phrase in the first view that shows the object.

    views: photograph, ground truth and relevancy (H, W) of each phrase, all of one size.
    """
    cells = []
    for i, (thing, row) in enumerate(zip(scene.objects, rows, strict=True)):
        shown = [view for view in views if i in view[1].boxes_px]
        for photo, truth, maps in shown[:1]:
            right = row.localized if row.hit is None else row.hit
            cells.append(Overlay(thing.query, photo, maps[thing.query], truth.boxes_px[i][0],
                                 bool(right)))
    return cells

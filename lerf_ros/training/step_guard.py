# SPDX-License-Identifier: Apache-2.0
"""Steps that go wrong: less memory than thought, and losses that are not numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from lerf_ros.errors import TrainingFailedError
from lerf_ros.training.checkpoint import field_arrays, load_training, training_arrays
from lerf_ros.training.trainer import StepReport, Trainer

T = TypeVar('T')

FEWEST_RAYS = 16
# One bad batch moves nothing; so many in a row mean that the fields themselves are spoiled.
BAD_STEPS = 3
# Rollbacks without a good state in between after which it is no use to go on.
ROLLBACKS = 5

log = logging.getLogger(__name__)


class StepGuard:
    """Takes the steps of a trainer; halves them without memory, rolls back what is spoiled."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.message = ''   # what was done last, for people
        self._good: tuple[dict[str, np.ndarray], dict[str, np.ndarray], int] | None = None
        self._bad_steps = self._rollbacks = 0

    def step(self) -> StepReport | None:
        """One step; None when it failed and something was done about it.

        Raises TrainingFailedError when nothing more can be done.
        """
        if self._good is None:
            self.remember()
        report = self.within_memory(self.trainer.step)
        if report is None or math.isfinite(report.loss):
            self._bad_steps = 0 if report else self._bad_steps
            return report
        self._bad_steps += 1
        if self._bad_steps >= BAD_STEPS:
            self._roll_back()
        return None

    def within_memory(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; None when the memory did not do, and steps are smaller now."""
        try:
            return work()
        except torch.OutOfMemoryError as error:
            self._halve(str(error).partition('\n')[0])
        return None

    def _halve(self, reason: str) -> None:
        rays = self.trainer.rays
        if rays <= FEWEST_RAYS:
            raise TrainingFailedError(
                f'a step of {rays} rays does not fit into the memory of {self.trainer.device} '
                f'({reason}): end other programs there, or choose a smaller field')
        self.trainer.limit_rays(max(rays // 2, FEWEST_RAYS))
        if self.trainer.device.type == 'cuda':
            torch.cuda.empty_cache()
        self.message = (f'out of memory: a step takes {self.trainer.rays} rays from now on '
                        f'(training.rays is {self.trainer.config.training.rays})')
        log.warning('%s: %s', self.message, reason)

    def healthy(self) -> bool:
        """Whether all weights of both fields are numbers."""
        modules = (self.trainer.radiance, self.trainer.language)
        return not self._bad_steps and all(
            bool(torch.isfinite(p).all()) for m in modules if m is not None
            for p in m.parameters())

    def remember(self) -> bool:
        """Takes the present state as the one to roll back to; False, and back, if it is spoiled.

        Raises TrainingFailedError.
        """
        trainer = self.trainer
        if trainer.mean_language is None:
            return False
        if not self.healthy():
            self._roll_back()
            return False
        # On a CPU the arrays are views of the weights themselves.
        fields, training = ({name: np.array(value) for name, value in arrays.items()} for arrays in
                            (field_arrays(trainer.radiance, trainer.mean_language),
                             training_arrays(trainer)))
        self._good, self._rollbacks = (fields, training, trainer.steps), 0
        return True

    def _roll_back(self) -> None:
        trainer, self._bad_steps = self.trainer, 0
        self._rollbacks += 1
        if self._good is None or self._rollbacks > ROLLBACKS:
            raise TrainingFailedError(
                f'the loss is not a number at step {trainer.steps}, again after {ROLLBACKS} '
                'rollbacks: lower training.learning_rate, or look for images, depth or poses '
                'with impossible values')
        fields, training, step = self._good
        spoiled = trainer.steps
        load_training(trainer, fields, training, range(len(training['annealing'])))
        # The same random numbers would lead to the same place again.
        for learner in (trainer.radiance_learner, trainer.language_learner):
            learner.generator.manual_seed(trainer.config.training.seed + spoiled + self._rollbacks)
        self.message = (f'the loss was not a number at step {spoiled}: training went back to '
                        f'step {step}')
        log.warning(self.message)

# SPDX-License-Identifier: Apache-2.0
"""Guards training against steps that fail: too little memory, and losses that are not numbers."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch

from lerf_ros.errors import TrainingFailedError
from lerf_ros.lerf import StepReport, training_step
from lerf_ros.training.captured_step import CapturedStep
from lerf_ros.training.checkpoint import field_arrays, load_training, training_arrays
from lerf_ros.training.devices import is_out_of_memory
from lerf_ros.training.learners import Trainer

FEWEST_RAYS = 16
# One bad batch moves nothing; so many in a row mean that the fields themselves are spoiled.
BAD_STEPS = 3
# Rollbacks without a good state in between, after which training gives up.
ROLLBACKS = 5

log = logging.getLogger(__name__)


class StepGuard:
    """Takes the steps of a trainer; halves them when memory runs out, rolls back spoiled fields."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.captured = CapturedStep(trainer.device, trainer.config.training.cuda_graphs)
        self.message = ''   # says what was done last
        self._good: tuple[dict[str, np.ndarray], dict[str, np.ndarray], int] | None = None
        self._bad_steps = self._rollbacks = 0

    def step(self) -> StepReport | None:
        """Takes one step; returns None when it failed and something was done about it.

        Raises TrainingFailedError when nothing more can be done.
        """
        if self._good is None:
            self.remember()
        report = self._step_within_memory()
        if report is None or math.isfinite(report.loss):
            self._bad_steps = 0 if report else self._bad_steps
            return report
        self._bad_steps += 1
        if self._bad_steps >= BAD_STEPS:
            self._roll_back()
        return None

    def _step_within_memory(self) -> StepReport | None:
        """Takes a step; returns None when memory ran out, and makes later steps smaller."""
        try:
            return training_step(self.trainer.radiance, self.trainer.language, self.captured)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._halve(str(error).partition('\n')[0])
        return None

    def free_memory(self) -> None:
        """Gives back what steps keep for the next one."""
        self.captured.clear()
        if self.trainer.device.type == 'cuda':
            torch.cuda.empty_cache()

    def _halve(self, reason: str) -> None:
        rays = self.trainer.radiance.rays
        if rays <= FEWEST_RAYS:
            raise TrainingFailedError(
                f'a step of {rays} rays does not fit into the memory of {self.trainer.device} '
                f'({reason}): end other programs there, or choose a smaller field')
        self.trainer.radiance.rays = rays = max(rays // 2, FEWEST_RAYS)
        self.free_memory()
        self.message = (f'out of memory: a step takes {rays} rays from now on '
                        f'(training.rays is {self.trainer.config.training.rays})')
        log.warning('%s: %s', self.message, reason)

    def healthy(self) -> bool:
        """Returns whether all weights of both fields are numbers."""
        modules = (self.trainer.radiance.field, self.trainer.language.field)
        return not self._bad_steps and all(
            bool(torch.isfinite(p).all()) for m in modules if m is not None
            for p in m.parameters())

    def remember(self) -> bool:
        """Copies the present state to roll back to; a spoiled one is rolled back instead.

        Returns whether it was healthy. Raises TrainingFailedError.
        """
        trainer = self.trainer
        mean_language = trainer.language.mean_field
        if mean_language is None:
            return False
        if not self.healthy():
            self._roll_back()
            return False
        # On a CPU the arrays are views of the weights themselves.
        fields, training = ({name: np.array(value) for name, value in arrays.items()} for arrays in
                            (field_arrays(trainer.radiance.field, mean_language),
                             training_arrays(trainer)))
        self._good, self._rollbacks = (fields, training, trainer.radiance.steps), 0
        return True

    def _roll_back(self) -> None:
        trainer, self._bad_steps = self.trainer, 0
        self._rollbacks += 1
        self.captured.clear()
        if self._good is None or self._rollbacks > ROLLBACKS:
            raise TrainingFailedError(
                f'the loss is not a number at step {trainer.radiance.steps}, again after '
                f'{ROLLBACKS} rollbacks: lower training.learning_rate, or look for images, depth '
                'or poses with impossible values')
        fields, training, step = self._good
        spoiled = trainer.radiance.steps
        load_training(trainer, fields, training, range(len(training['annealing'])))
        # The same random numbers would lead to the same place again.
        for learner in (trainer.radiance, trainer.language):
            learner.generator.manual_seed(trainer.config.training.seed + spoiled + self._rollbacks)
        self.message = (f'the loss was not a number at step {spoiled}: training went back to '
                        f'step {step}')
        log.warning(self.message)

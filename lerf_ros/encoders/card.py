# SPDX-License-Identifier: Apache-2.0
"""What a user should know of a model before it is used, and the relevancy at which it finds.

Encoders differ in how far apart they place a phrase that fits from one that does not, so one
threshold cannot serve all of them. The rule: a phrase counts as found where the model itself, by
the factor that its cosines had in training, gives it odds of 19 to 1 against the strongest negative
(CHANCE). Models trained with a sigmoid have a bias as well; it is the same for both phrases and
cancels. A margin that was measured, as that of `conse`, replaces the rule, and a calibration
(`lerf_ros calibrate`) replaces both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CHANCE = 0.05       # that the strongest negative fits better, by the model's own reckoning
CLIP_SCALE = 100.0  # the factor of most CLIP models, which are clipped at it
# The cosine at which relevancy is 0.68 at LERF's factor of 10: chosen for `conse` on five simulated
# layouts, and taken for an encoder that states no margin.
MEASURED_MARGIN = math.log(0.68 / 0.32) / 10
UNTRAINED = 20.0    # initial factors are 10 and 14.3: a model that still has one does not know it


@dataclass(frozen=True)
class ModelCard:
    """A model as it is shown when it is chosen.

    licence: of its weights. parameters: of both towers; 0 if unknown. limits: what the licence
    does not allow, in words; empty where commercial use is allowed or the licence is not known.
    """

    model: str
    licence: str
    parameters: int
    limits: str = ''

    def line(self, encoder: str) -> str:
        """Returns one line for the log."""
        size = f'{self.parameters / 1e6:.0f} million parameters, ' if self.parameters else ''
        limits = f': {self.limits}' if self.limits else ''
        return f'encoder {encoder}: {self.model}, {size}licence {self.licence}{limits}'


def margin_of_scale(scale: float) -> float:
    """Returns the cosine by which a phrase must beat the strongest negative.

    scale: the factor of the cosines in training; below UNTRAINED it counts as unknown.
    """
    return math.log((1 - CHANCE) / CHANCE) / (scale if scale > UNTRAINED else CLIP_SCALE)


def relevancy_threshold(encoder: object, temperature: float) -> float:
    """Returns the relevancy from which a phrase counts as found with an encoder.

    It is the relevancy of the encoder's margin (attribute `margin`, a difference of cosines) at the
    temperature that queries use.
    """
    margin = float(getattr(encoder, 'margin', MEASURED_MARGIN))
    return 1 / (1 + math.exp(-temperature * margin))

# SPDX-License-Identifier: Apache-2.0
"""The raw results of an evaluation: one record per object, phrase and stage of training.

They are stored without pooling, so that every table, interval and plot can be made again from
results.json. `encoder` and `method` are names as they appear in the tables ('conse', 'lerf').
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from lerf_ros.errors import DatasetError

# The method that all others are compared with.
OURS = 'lerf'
# An object is large when it measures at least so many pixels where it is seen best.
LARGE_PX = 36.0
DECIMALS = 6

T = TypeVar('T')


@dataclass(frozen=True)
class ObjectResult:
    """Result for one object that was asked for. None stands for what was not measured.

    size_px: side of the object in pixels in the five keyframes that show it largest. hit: whether
    the best hit is inside its 3D box grown by 3 cm. iou_3d: of the returned points with those of
    the object, 0..1. relevancy: of the best hit. localized: whether the peak of the rendered
    relevancy is inside the 2D box, by LERF's rule. lerf_ovs_localized, lerf_ovs_iou: the same by
    the rules of LERF-OVS, and the IoU of its mask.
    """

    scene: str
    encoder: str
    method: str
    query: str
    size_px: float
    hit: bool | None
    iou_3d: float | None
    relevancy: float
    localized: bool | None = None
    lerf_ovs_localized: bool | None = None
    lerf_ovs_iou: float | None = None


@dataclass(frozen=True)
class PhraseScore:
    """The existence score of a phrase: the relevancy of its best place.

    near: whether an absent phrase has a sentence cosine above 0.6 to a present one.
    """

    scene: str
    encoder: str
    method: str
    text: str
    present: bool
    near: bool
    score: float


@dataclass(frozen=True)
class Convergence:
    """Quality after a number of training steps; NaN stands for what was not measured.

    psnr: of held-out images, dB. hits, iou_3d: means over the objects of the scene, 0..1.
    seconds: of training so far.
    """

    scene: str
    encoder: str
    method: str
    steps: int
    psnr: float
    hits: float
    iou_3d: float
    seconds: float


@dataclass(frozen=True)
class EvalResults:
    """All records of an evaluation. info: anything else worth keeping, such as the machine."""

    objects: Sequence[ObjectResult] = ()
    phrases: Sequence[PhraseScore] = ()
    convergence: Sequence[Convergence] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON data: floats of six decimals, null for what is not finite or unknown."""
        return {'objects': plain(self.objects), 'phrases': plain(self.phrases),
                'convergence': plain(self.convergence), 'info': plain(self.info)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvalResults:
        """Reads what to_json() returned, or a results.json, whose tables are ignored.

        Raises DatasetError that names a record whose fields do not fit.
        """
        return cls(records(content, 'objects', ObjectResult),
                   records(content, 'phrases', PhraseScore),
                   records(content, 'convergence', Convergence),
                   dict(content.get('info', {})))


def records(content: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...]:
    """Reads the list at `key` as records of one kind; null becomes NaN in a field of floats."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise DatasetError(f'evaluation results need a list of {key}')
    numbers = {f.name for f in dataclasses.fields(kind)  # type: ignore[arg-type]
               if f.type == 'float'}
    made = []
    for i, entry in enumerate(entries):
        try:
            made.append(kind(**{name: math.nan if value is None and name in numbers else value
                                for name, value in entry.items()}))
        except (AttributeError, TypeError) as error:
            raise DatasetError(f'evaluation results, {key}[{i}]: {error}') from error
    return tuple(made)


def plain(value: Any) -> Any:
    """Converts to JSON data: records to objects, floats rounded, NaN and infinity to null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, DECIMALS) if math.isfinite(value) else None
    return value

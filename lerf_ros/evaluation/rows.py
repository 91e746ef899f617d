# SPDX-License-Identifier: Apache-2.0
"""What an evaluation measured, one record per asked object, phrase and stage of training.

Records are kept apart and unpooled, so that every table, interval and plot can be made again from
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

# The method that the others are compared with.
OURS = 'lerf'
# An object is large when its side is at least so many pixels where it is seen best.
LARGE_PX = 36.0
DECIMALS = 6

T = TypeVar('T')


@dataclass(frozen=True)
class ObjectResult:
    """One object that was asked for. None stands for what was not measured.

    size_px: the object's side in pixels in the five keyframes that show it largest.
    hit: the best hit lies inside its 3D box grown by 3 cm. iou_3d: of the returned points with
    the object, 0..1. relevancy: of the best hit. localized: LERF's rendered peak is inside the 2D
    box. lerf_ovs_localized, lerf_ovs_iou: the same by LERF-OVS' rules, and the IoU of its mask.
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
    """The existence score of a phrase: its highest relevancy over the map.

    near: an absent phrase whose sentence cosine to a present one is above 0.6.
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
    """The quality after so many training steps; NaN stands for what was not measured.

    psnr: of held-out images, dB. hits, iou_3d: means over the scene's objects, 0..1.
    seconds: of training until then.
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
    """Everything that was measured; info: what else is worth keeping (settings, machine)."""

    objects: Sequence[ObjectResult] = ()
    phrases: Sequence[PhraseScore] = ()
    convergence: Sequence[Convergence] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: floats of six decimals, null for what is not finite or not measured."""
        return {'objects': plain(self.objects), 'phrases': plain(self.phrases),
                'convergence': plain(self.convergence), 'info': plain(self.info)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvalResults:
        """The records of to_json(), or of a results.json, whose tables are left aside.

        Raises DatasetError that names the record whose fields do not fit.
        """
        return cls(records(content, 'objects', ObjectResult),
                   records(content, 'phrases', PhraseScore),
                   records(content, 'convergence', Convergence),
                   dict(content.get('info', {})))


def records(content: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...]:
    """The list at `key` as records of one kind; null in a field that needs a number is NaN."""
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
    """The same as JSON knows it: records as objects, rounded floats, null for NaN and infinity."""
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

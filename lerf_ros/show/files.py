# SPDX-License-Identifier: Apache-2.0
"""Writes an answer for other programs: the cloud as PLY, everything else as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lerf_ros.query.answer import Answer, Grasp, Hit, PhraseAnswer
from lerf_ros.show.colors import answer_colors
from lerf_ros.storage.output_folder import OutputFolder

PLY_TYPES = {'f': ('float', '<f4'), 'i': ('int', '<i4'), 'u': ('int', '<i4')}


def write_ply(path: str | Path, points: np.ndarray, colors: np.ndarray,
              scalars: Mapping[str, np.ndarray] | None = None) -> None:
    """Writes points (N, 3) in world units with colours (N, 3) uint8 RGB.

    scalars: further properties by name, (N,) each, floats or integers. Coordinates are doubles,
    because floats would be off by decimetres in a map frame such as UTM.
    """
    scalars = {name: np.asarray(values) for name, values in (scalars or {}).items()}
    types = {name: PLY_TYPES[values.dtype.kind] for name, values in scalars.items()}
    vertices = np.zeros(len(points), [('xyz', '<f8', 3), ('rgb', 'u1', 3),
                                      *((name, kind) for name, (_, kind) in types.items())])
    vertices['xyz'], vertices['rgb'] = points, colors
    for name, values in scalars.items():
        vertices[name] = values
    names = [f'property double {axis}' for axis in 'xyz']
    names += [f'property uchar {channel}' for channel in ('red', 'green', 'blue')]
    names += [f'property {word} {name}' for name, (word, _) in types.items()]
    header = ['ply', 'format binary_little_endian 1.0', f'element vertex {len(points)}', *names,
              'end_header']
    Path(path).write_bytes('\n'.join([*header, '']).encode() + vertices.tobytes())


UNITS = {
    'positions, sizes, scale': 'metres where metric is true, else the units of the poses',
    'rotations': 'columns are the axes in the frame frame_id',
    'poses': '4x4, from the named frame to frame_id, metres',
    'relevancy, probability, observed, threshold, scores': '0 to 1; null when not known',
    'snapshot_stamp_ns': 'nanoseconds', 'timing': 'seconds', 'opening_width': 'metres',
    'points, keyframes': 'counts', 'hit': 'number of the hit from 1, 0 for none',
    'confirmed_by': 'keyframes by index, boxes (x0, y0, x1, y1) in pixels'}


def export_answer(answer: Answer, folder: Path) -> tuple[Path, Path]:
    """Writes NAME.ply and NAME.json, named after the phrase, into the folder; returns both."""
    name, out = file_name(answer.text), OutputFolder(folder)
    cloud, fields = folder / f'{name}.ply', folder / f'{name}.json'
    labels = answer.labels if len(answer.labels) else np.zeros(len(answer.relevancy), np.int32)
    hits = answer.hit_numbers if len(answer.hit_numbers) else np.zeros(len(labels), np.int32)
    with out.file(cloud.name) as path:
        write_ply(path, answer.points_world, answer_colors(answer),
                  {'relevancy': answer.relevancy, 'label': labels, 'hit': hits})
    with out.file(fields.name) as path:
        path.write_text(json.dumps(answer_fields(answer, cloud.name), indent=1, allow_nan=False,
                                   ensure_ascii=False) + '\n', encoding='utf-8')
    return cloud, fields


def file_name(text: str) -> str:
    """Returns a file name for a phrase in any language."""
    return re.sub(r'\W+', '_', text.lower()).strip('_')[:80] or 'answer'


def answer_fields(answer: Answer, cloud: str) -> dict[str, object]:
    """Returns an answer without its points as JSON data; what is unknown is None.

    cloud: name of the file with the points.
    """
    target = answer.T_world_target
    return {
        'text': answer.text, 'texts': list(answer.texts), 'found': answer.presence.name,
        'probability': known(answer.probability), 'observed': known(answer.observed),
        'threshold': known(answer.threshold), 'hits': [hit_fields(h) for h in answer.hits],
        'phrases': [phrase_fields(p) for p in answer.phrases],
        'grasps': [grasp_fields(g) for g in answer.grasps],
        'target_pose': None if target is None else target.tolist(),
        'no_target_reason': answer.no_target_reason, 'frame_id': answer.frame_id,
        'metric': answer.metric, 'snapshot_id': answer.snapshot_id,
        'snapshot_stamp_ns': answer.snapshot_stamp_ns,
        'timing': {'encode': answer.timing.encode, 'search': answer.timing.search,
                   'grasp': answer.timing.grasp},
        'cloud': {'file': cloud, 'points': len(answer.points_world),
                  'properties': ['x', 'y', 'z', 'red', 'green', 'blue', 'relevancy', 'label',
                                 'hit']},
        'units': UNITS}


def phrase_fields(phrase: PhraseAnswer) -> dict[str, object]:
    """Returns what is said of one phrase as JSON data; its hits are those with its label."""
    return {'text': phrase.text, 'found': phrase.presence.name, 'places': len(phrase.hits),
            'probability': known(phrase.probability), 'not_found_reason': phrase.not_found_reason,
            'understood': phrase.understood, 'not_understood': phrase.not_understood}


def hit_fields(hit: Hit) -> dict[str, object]:
    """Returns a hit as JSON data."""
    return {'label': hit.label, 'position': np.asarray(hit.position).tolist(),
            'rotation': np.asarray(hit.rotation).tolist(), 'size': np.asarray(hit.size).tolist(),
            'relevancy': float(hit.relevancy), 'probability': known(hit.probability),
            'scale': float(hit.scale), 'points': int(hit.points), 'keyframes': int(hit.keyframes),
            'confirmed_by': [{'keyframe': view.keyframe, 'box': list(view.box),
                              'relevancy': view.relevancy} for view in hit.confirmed_by]}


def grasp_fields(grasp: Grasp) -> dict[str, object]:
    """Returns a grasp as JSON data."""
    return {'pose': grasp.T_world_grasp.tolist(), 'pregrasp_pose': grasp.T_world_pregrasp.tolist(),
            'gripper_pose': grasp.T_world_gripper.tolist(),
            'opening_width': float(grasp.opening_width), 'score': float(grasp.score),
            'semantic_score': float(grasp.semantic_score),
            'geometric_score': float(grasp.geometric_score)}


def known(value: float) -> float | None:
    """Returns the number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)

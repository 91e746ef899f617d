# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros eval` with the oracle as an additional encoder.

    python bench/evaluate.py --encoders conse oracle

The oracle (oracle_encoder.py) reads the label masks of simulated layouts. What it does not find is
the fault of the field, the index or the query, not of an encoder.
"""

from __future__ import annotations

import sys

from oracle_encoder import OracleEncoder, OracleExtractor, crop_encoder, no_label

from lerf_ros import cli
from lerf_ros.config import LerfConfig
from lerf_ros.encoders.embedding_map import KeyframeFeatures
from lerf_ros.encoders.sentence import SentenceEncoder
from lerf_ros.evaluation import scene_encoders
from lerf_ros.evaluation.scenes import EvalScene
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.index.second_look import SecondLooker

# The oracle sees small crops as sharply as large ones, so its crops are narrower than those of an
# encoder, and an object fills them.
SETTINGS = {'features.widths': (0.04, 0.07, 0.12, 0.2, 0.35)}


class SceneOracle:
    """The oracle as an encoder of the evaluation."""

    def __init__(self) -> None:
        self.texts = OracleEncoder(SentenceEncoder())

    def settings(self, config: LerfConfig) -> LerfConfig:
        """Returns the settings with narrower crops."""
        return config.override(SETTINGS)

    def features(self, scene: EvalScene, frame: SceneFrame,
                 config: LerfConfig) -> list[KeyframeFeatures]:
        """Returns features from the masks of all frames."""
        if scene.labels is None:
            raise ValueError(f'{scene.name}: the oracle needs label masks')
        labels = {f.stamp_ns: mask for f, mask in zip(scene.frames, scene.labels, strict=True)}
        extractor = OracleExtractor(self.texts, labels, scene.label_names)
        return scene_encoders.extract_all(extractor, scene, frame, config)

    def looker(self, scene: EvalScene, config: LerfConfig) -> SecondLooker:
        """Returns second looks at the masks of all frames."""
        if scene.labels is None:
            raise ValueError(f'{scene.name}: the oracle needs label masks')
        labels = scene.labels
        return SecondLooker(crop_encoder(self.texts, scene.label_names),
                            lambda index: (labels[index], None), config.index, no_label)


# At module level, because the processes of --jobs import this module without running it.
scene_encoders.ENCODERS['oracle'] = lambda config: SceneOracle()

if __name__ == '__main__':
    sys.exit(cli.main(['eval', *sys.argv[1:]]))

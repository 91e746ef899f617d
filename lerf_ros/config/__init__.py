# SPDX-License-Identifier: Apache-2.0
"""Every setting of lerf_ros with its default, unit, range and meaning, which are defined only here.

Lengths in world units are metres when the map is metric. Lengths inside the field are in units of
the scene radius (geometry/scene_frame.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lerf_ros.config.answer import IndexConfig, MapConfig, QueryConfig
from lerf_ros.config.capture import CheckConfig, FeatureConfig, KeyframeConfig, SceneConfig
from lerf_ros.config.grasping import GraspConfig
from lerf_ros.config.method import FieldConfig, LanguageConfig, PoseConfig, TrainingConfig
from lerf_ros.config.presets import preset_path, read_preset, share_directory
from lerf_ros.config.submaps import SubmapConfig
from lerf_ros.errors import ConfigError
from lerf_ros.settings import override

__all__ = ['CheckConfig', 'FeatureConfig', 'FieldConfig', 'GraspConfig', 'IndexConfig',
           'KeyframeConfig', 'LanguageConfig', 'LerfConfig', 'MapConfig', 'PoseConfig',
           'QueryConfig', 'SceneConfig', 'SubmapConfig', 'TrainingConfig', 'load_preset',
           'preset_path', 'share_directory']


@dataclass(frozen=True)
class LerfConfig:
    """All settings, immutable; raises ConfigError for inconsistent ones."""

    keyframes: KeyframeConfig = KeyframeConfig()
    check: CheckConfig = CheckConfig()
    scene: SceneConfig = SceneConfig()
    features: FeatureConfig = FeatureConfig()
    field: FieldConfig = FieldConfig()
    language: LanguageConfig = LanguageConfig()
    poses: PoseConfig = PoseConfig()
    training: TrainingConfig = TrainingConfig()
    index: IndexConfig = IndexConfig()
    query: QueryConfig = QueryConfig()
    grasp: GraspConfig = GraspConfig()
    map: MapConfig = MapConfig()
    submaps: SubmapConfig = SubmapConfig()

    def __post_init__(self) -> None:
        f, g = self.field, self.language
        if len(f.proposal_samples) != len(f.proposal_resolutions):
            raise ConfigError(
                f'field.proposal_samples has {len(f.proposal_samples)} entries and '
                f'field.proposal_resolutions {len(f.proposal_resolutions)}: one for each proposal')
        if not len(g.levels) == len(g.base_resolutions) == len(g.max_resolutions) > 0:
            raise ConfigError(
                f'language.levels has {len(g.levels)} entries, base_resolutions '
                f'{len(g.base_resolutions)}, max_resolutions {len(g.max_resolutions)}: one for '
                'each grid, at least one')
        if len(self.scene.center) not in (0, 3):
            raise ConfigError(f'scene.center has {len(self.scene.center)} numbers: give x, y, z')
        if g.scale_rule == 'reference' and self.features.pyramid != 'fractions':
            raise ConfigError('language.scale_rule reference needs features.pyramid fractions: '
                              'its scale is measured in crops of the image')
        if self.training.field == 'none' and self.poses.refine:
            raise ConfigError('poses.refine needs a field that is trained: training.field lerf')
        if self.index.search_low >= self.index.search_high:
            raise ConfigError('index.search_low must be below index.search_high')

    def override(self, overrides: Mapping[str, object]) -> LerfConfig:
        """Returns a copy with nested or dotted overrides; raises ConfigError for invalid ones."""
        return override(self, overrides)


def load_preset(path: str | Path, base: LerfConfig | None = None) -> LerfConfig:
    """Returns `base`, by default the defaults, overridden with a YAML file of nested settings.

    Raises ConfigError for a file that cannot be read and for a setting that does not exist.
    """
    return (base or LerfConfig()).override(read_preset(path))

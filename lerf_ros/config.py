# SPDX-License-Identifier: Apache-2.0
"""Every setting of lerf_ros: its default, unit, range and meaning, written here and only here.

Lengths called `_m` are world units, which are metres when the map is metric. Lengths inside the
field are in units of the scene radius (field/scene_frame.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lerf_ros.errors import ConfigError
from lerf_ros.settings import Checked, override, setting


@dataclass(frozen=True)
class KeyframeConfig(Checked):
    """Which camera images are kept."""

    min_translation: float = setting(
        0.08, 'a new keyframe when the camera moved this far', unit='world units', low=0.0,
        high=1000.0)
    min_rotation: float = setting(
        8.0, 'or when it turned by this angle', unit='degrees', low=0.0, high=180.0)
    sharpness_ratio: float = setting(
        0.5, 'refuse an image whose sharpness is below this part of the recent median',
        low=0.0, high=1.0)
    max_count: int = setting(
        400, 'keyframes kept; after that new images are refused', low=4, high=100000)
    holdout_every: int = setting(
        8, 'every n-th keyframe measures quality and is never trained on; 0 keeps none apart',
        low=0, high=1000)


@dataclass(frozen=True)
class SceneConfig(Checked):
    """The frozen frame in which the field lives."""

    radius: float = setting(
        0.0, 'radius of the region mapped at full resolution; 0 measures it', unit='world units',
        low=0.0, high=10000.0)
    center: tuple[float, ...] = setting(
        (), 'its centre (x, y, z) in the map frame; empty measures it', unit='world units')
    keyframes: int = setting(
        4, 'keyframes to wait for before the frame is measured and frozen', low=1, high=100)


@dataclass(frozen=True)
class FeatureConfig(Checked):
    """Image and text encoder."""

    encoder: str = setting('conse', 'conse (offline) or openclip')
    openclip_model: str = setting(
        'ViT-B-16', 'open_clip model name, hf-hub:... or local-dir:...')
    openclip_pretrained: str = setting(
        'laion2b_s34b_b88k', 'open_clip weights tag or file; empty for hf-hub: and local-dir:')
    dense_model: str = setting(
        'vit_small_patch8_224.dino', 'timm model of the dense features beside openclip; empty '
        'for none')
    widths: tuple[float, ...] = setting(
        (0.15, 0.22, 0.33, 0.5), 'physical widths that the embeddings speak of', unit='scene radii',
        low=1e-3, high=10.0)
    max_side: int = setting(
        1280, 'largest side of a resized image in dense mode', unit='pixels', low=64, high=8192)
    batch: int = setting(32, 'crops encoded at once', low=1, high=4096)


@dataclass(frozen=True)
class FieldConfig(Checked):
    """Sizes of the radiance and the language field."""

    levels: int = setting(12, 'levels of the radiance hash grid', low=1, high=32)
    base_resolution: int = setting(16, 'its coarsest level', unit='cells', low=2, high=512)
    max_resolution: int = setting(1024, 'its finest level', unit='cells', low=4, high=65536)
    log2_table: int = setting(17, 'log2 of entries per level', low=8, high=26)
    features: int = setting(2, 'features per entry', low=1, high=8)
    hidden: int = setting(64, 'width of the density and colour networks', low=8, high=512)
    geometry_features: int = setting(15, 'features handed to the colour network', low=1, high=128)
    proposal_resolutions: tuple[int, ...] = setting(
        (128,), 'finest level of each proposal grid', unit='cells', low=16, high=4096)
    proposal_samples: tuple[int, ...] = setting(
        (64,), 'samples a ray at each proposal', low=8, high=1024)
    samples: int = setting(24, 'final samples a ray', low=4, high=512)
    near: float = setting(0.05, 'nearest sample', unit='scene radii', low=1e-4, high=1.0)
    far: float = setting(20.0, 'farthest sample', unit='scene radii', low=1.0, high=1000.0)
    language_levels: int = setting(8, 'levels of the language hash grid', low=1, high=48)
    language_max_resolution: int = setting(
        256, 'its finest level', unit='cells', low=4, high=65536)
    language_log2_table: int = setting(16, 'log2 of entries per level', low=8, high=26)
    language_features: int = setting(4, 'features per entry', low=1, high=8)
    language_hidden: int = setting(128, 'width of the language network', low=8, high=1024)
    language_layers: int = setting(2, 'hidden layers of the language network', low=1, high=8)
    language_samples: int = setting(
        6, 'samples a ray with the largest weights that carry language', low=1, high=512)


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Optimisation."""

    device: str = setting('auto', 'auto, cpu, cuda or cuda:n')
    seed: int = setting(0, 'of the initial weights and of the rays drawn', low=0, high=2**31)
    rays: int = setting(512, 'rays a step', low=16, high=1 << 20)
    language_rays: int = setting(
        192, 'rays of those that also train the language field', low=8, high=1 << 20)
    learning_rate: float = setting(1e-2, 'of the grids and networks', low=1e-6, high=1.0)
    final_learning_rate: float = setting(
        2e-3, 'floor, so that what comes last is learned as well', low=1e-7, high=1.0)
    decay_steps: int = setting(3000, 'steps from the first rate to the floor', low=1, high=10**7)
    newest_fraction: float = setting(
        0.5, 'part of each batch from the newest keyframes', low=0.0, high=1.0)
    newest_steps: int = setting(
        300, 'steps after the newest keyframe over which that part fades to nothing', low=1,
        high=10**7)
    newest_count: int = setting(8, 'how many keyframes count as newest', low=1, high=10000)
    depth_weight: float = setting(0.5, 'of the depth losses', low=0.0, high=100.0)
    distortion_weight: float = setting(0.002, 'of the distortion loss', low=0.0, high=10.0)
    interlevel_weight: float = setting(1.0, 'of the proposal loss', low=0.0, high=10.0)
    language_weight: float = setting(1.0, 'of the embedding loss', low=0.0, high=100.0)
    dense_weight: float = setting(0.3, 'of the dense feature loss', low=0.0, high=100.0)
    settle_steps: int = setting(
        1000, 'steps after the newest keyframe until training rests; 0 never rests', low=0,
        high=10**9)
    threads: int = setting(0, 'CPU threads of the training process; 0 takes all', low=0, high=512)


@dataclass(frozen=True)
class IndexConfig(Checked):
    """The language index that answers queries."""

    rays: int = setting(100000, 'rays rendered to look for surface points', low=100, high=10**8)
    max_points: int = setting(50000, 'points kept', low=100, high=10**7)
    voxel: float = setting(
        0.006, 'one point at most in a cube of this edge', unit='scene radii', low=0.0, high=1.0)
    min_accumulation: float = setting(0.9, 'opacity a ray must reach', low=0.0, high=1.0)
    confirmations: int = setting(
        2, 'other keyframes that must see a surface at the same place', low=0, high=100)
    depth_tolerance: float = setting(
        0.03, 'part of its depth by which a confirming view may differ', low=1e-4, high=1.0)
    scales: tuple[float, ...] = setting(
        (0.15, 0.22, 0.33, 0.5), 'widths at which embeddings are rendered', unit='scene radii',
        low=1e-3, high=10.0)
    rank: int = setting(96, 'dimensions kept of the embeddings', low=4, high=2048)


@dataclass(frozen=True)
class QueryConfig(Checked):
    """How a phrase is answered."""

    negatives: tuple[str, ...] = setting(
        ('object', 'things', 'stuff', 'texture'), 'phrases that a place must beat')
    temperature: float = setting(10.0, 'factor of the cosines before the softmax', low=0.1,
                                 high=1000.0)
    threshold: float = setting(0.68, 'relevancy from which a phrase counts as found', low=0.0,
                               high=1.0)
    max_hits: int = setting(5, 'hits returned', low=1, high=1000)
    cluster_radius: float = setting(
        0.03, 'relevant points closer than this belong to one hit', unit='scene radii', low=1e-4,
        high=1.0)
    min_points: int = setting(20, 'points that a hit needs', low=1, high=100000)
    relevant_fraction: float = setting(
        0.8, 'points of a hit reach this part of the way from 0.5 to the best relevancy',
        low=0.0, high=1.0)


@dataclass(frozen=True)
class MapConfig(Checked):
    """The map directory."""

    snapshot_interval: float = setting(
        20.0, 'time between snapshots while training', unit='seconds', low=1.0, high=86400.0)
    keep_snapshots: int = setting(2, 'complete snapshots kept', low=1, high=1000)


@dataclass(frozen=True)
class LerfConfig:
    """All settings; immutable, handed to every stage."""

    keyframes: KeyframeConfig = KeyframeConfig()
    scene: SceneConfig = SceneConfig()
    features: FeatureConfig = FeatureConfig()
    field: FieldConfig = FieldConfig()
    training: TrainingConfig = TrainingConfig()
    index: IndexConfig = IndexConfig()
    query: QueryConfig = QueryConfig()
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        f = self.field
        if len(f.proposal_samples) != len(f.proposal_resolutions):
            raise ConfigError(
                f'field.proposal_samples has {len(f.proposal_samples)} entries and '
                f'field.proposal_resolutions {len(f.proposal_resolutions)}: one for each proposal')
        if len(self.scene.center) not in (0, 3):
            raise ConfigError(f'scene.center has {len(self.scene.center)} numbers: give x, y, z')

    def override(self, overrides: dict[str, Any]) -> LerfConfig:
        """A copy with nested or dotted overrides (ConfigError names what is wrong)."""
        return override(self, overrides)


def load_preset(path: str | Path, base: LerfConfig | None = None) -> LerfConfig:
    """Overrides `base` with a YAML file of nested settings.

    Raises ConfigError for a file that cannot be read and for a setting that does not exist.
    """
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f'preset {path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise ConfigError(f'preset {path} must be a mapping of settings')
    return (base or LerfConfig()).override(content)

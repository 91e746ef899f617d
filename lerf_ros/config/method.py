# SPDX-License-Identifier: Apache-2.0
"""Settings of the two fields and of their training.

Values after "LERF:" and "nerfacto:" are those of the paper or the released code, if the default
differs; the presets `paper` and `reference` set them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.settings import Checked, setting

CONTRACTIONS = ('max', 'euclidean')
OPTIMIZERS = ('adam', 'radam')


@dataclass(frozen=True)
class FieldConfig(Checked):
    """The radiance field (nerfacto)."""

    levels: int = setting(12, 'levels of the radiance hash grid', low=1, high=32)
    base_resolution: int = setting(16, 'its coarsest level', unit='cells', low=2, high=512)
    max_resolution: int = setting(1024, 'its finest level', unit='cells', low=4, high=65536)
    log2_table: int = setting(17, 'log2 of entries per level', low=8, high=26)
    features: int = setting(2, 'features per entry', low=1, high=8)
    hidden: int = setting(64, 'width of the density network', low=8, high=512)
    layers: int = setting(1, 'its hidden layers', low=1, high=8)
    geometry_features: int = setting(15, 'features handed to the colour network', low=1, high=128)
    color_hidden: int = setting(64, 'width of the colour network', low=8, high=512)
    color_layers: int = setting(2, 'its hidden layers', low=1, high=8)
    harmonics: int = setting(
        4, 'levels of spherical harmonics of the viewing direction', low=1, high=4)
    appearance: int = setting(
        0, 'length of the vector that each keyframe learns for its exposure; 0 for none', low=0,
        high=128)
    initial_density: float = setting(
        0.37, 'density of the empty start: a little transparent, so that gradients reach far',
        unit='1 / scene radius', low=1e-4, high=100.0)
    background: str = setting(
        'random', 'colour behind rays that nothing stops in training; with last_sample (nerfacto) '
        'a field may stay transparent', choices=('random', 'last_sample', 'black'))
    contraction: str = setting(
        'max', 'norm by which far space is contracted', choices=CONTRACTIONS)
    proposal_resolutions: tuple[int, ...] = setting(
        (128,), 'finest level of each proposal grid', unit='cells', low=16, high=4096)
    proposal_samples: tuple[int, ...] = setting(
        (64,), 'samples a ray at each proposal', low=8, high=1024)
    proposal_levels: int = setting(5, 'levels of a proposal grid', low=1, high=16)
    proposal_features: int = setting(2, 'its features per entry', low=1, high=8)
    proposal_log2_table: int = setting(17, 'log2 of its entries per level', low=8, high=26)
    proposal_hidden: int = setting(16, 'width of its network', low=4, high=128)
    samples: int = setting(24, 'final samples a ray', low=4, high=512)
    near: float = setting(0.05, 'nearest sample', unit='scene radii', low=1e-4, high=1.0)
    skipped: float = setting(
        0.5, 'part of the way from a camera to the scene that is not sampled, up to a scene '
        'radius, in a map whose first images have no depth', low=0.0, high=0.95)
    far: float = setting(20.0, 'farthest sample', unit='scene radii', low=1.0, high=1e6)
    histogram_padding: float = setting(
        0.01, 'added to each weight before resampling, so that every place is sampled sometimes',
        low=0.0, high=1.0)
    single_jitter: bool = setting(
        True, 'one random shift for all samples of a ray in training, instead of one for each')
    guided_share: float = setting(
        0.5, 'fraction of the samples of a ray that are placed around its measured depth, if there '
        'is one',
        low=0.0, high=1.0)
    guided_width: float = setting(
        0.03, 'how far around that depth', unit='scene radii', low=1e-4, high=1.0)


@dataclass(frozen=True)
class LanguageConfig(Checked):
    """The language field (LERF)."""

    levels: tuple[int, ...] = setting(
        (8,), 'levels of each hash grid; several grids are concatenated', low=1, high=48)
    base_resolutions: tuple[int, ...] = setting(
        (16,), 'coarsest level of each grid', unit='cells', low=2, high=4096)
    max_resolutions: tuple[int, ...] = setting(
        (256,), 'finest level of each grid', unit='cells', low=4, high=65536)
    log2_table: int = setting(16, 'log2 of entries per level', low=8, high=26)
    features: int = setting(4, 'features per entry', low=1, high=8)
    hidden: int = setting(128, 'width of the embedding network', low=8, high=1024)
    layers: int = setting(2, 'its hidden layers', low=1, high=8)
    dense_hidden: int = setting(128, 'width of the network of dense features', low=8, high=1024)
    samples: int = setting(
        6, 'samples a ray with the largest weights that carry language', low=1, high=512)
    contraction: str = setting(
        'max', 'norm by which far space is contracted; LERF: euclidean', choices=CONTRACTIONS)
    scale_rule: str = setting(
        'width', 'width: physical width of the crop, scene radii; reference: s H distance / f_y '
        'with s from 0 (smallest crop) to 1 (largest), as the released code; none: one for all',
        choices=('width', 'reference', 'none'))
    scale_input: str = setting(
        'log', 'how the scale enters the network', choices=('log', 'raw'))


@dataclass(frozen=True)
class PoseConfig(Checked):
    """Refinement of the camera poses during training (nerfacto's SO3xR3)."""

    refine: bool = setting(False, 'correct each keyframe by a small rotation and translation')
    learning_rate: float = setting(1e-3, 'of the corrections', low=1e-7, high=1.0)
    final_learning_rate: float = setting(1e-4, 'floor of it', low=1e-8, high=1.0)
    decay_steps: int = setting(5000, 'steps from one to the other', low=1, high=10**7)
    start_step: int = setting(
        300, 'before it nothing is corrected: a field that knows little moves poses at random',
        low=0, high=10**7)
    translation_penalty: float = setting(
        1e-2, 'of the mean length of the translations', unit='1 / scene radius', low=0.0,
        high=100.0)
    rotation_penalty: float = setting(
        1e-3, 'of the mean angle of the rotations', unit='1 / radian', low=0.0, high=100.0)


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Rays, optimisers and losses."""

    field: str = setting(
        'lerf', 'what a map is made of: lerf, a trained field, or none: embeddings are averaged on '
        'measured points, which needs depth and no training', choices=('lerf', 'none'))
    device: str = setting('auto', 'auto, cpu, cuda or cuda:n')
    seed: int = setting(0, 'of the initial weights and of the rays drawn', low=0, high=2**31)
    rays: int = setting(512, 'rays a step', low=16, high=1 << 20)
    language_rays: int = setting(
        192, 'rays of those that also train the language field', low=8, high=1 << 20)
    mixed_precision: bool = setting(
        False, 'networks in half precision on a GPU (nerfacto); a CPU always uses single')
    cuda_graphs: bool = setting(
        True, 'replay each step on an NVIDIA GPU as one CUDA graph instead of many kernels')
    optimizer: str = setting('adam', 'of the radiance field', choices=OPTIMIZERS)
    learning_rate: float = setting(1e-2, 'of the radiance field', low=1e-6, high=1.0)
    final_learning_rate: float = setting(
        2e-3, 'floor, so that late keyframes are learned as well', low=1e-7, high=1.0)
    decay_steps: int = setting(3000, 'steps from the first rate to the floor', low=1, high=10**7)
    proposal_learning_rate: float = setting(1e-2, 'of the proposal grids', low=1e-6, high=1.0)
    proposal_final_learning_rate: float = setting(
        2e-3, 'its floor, reached with the field; nerfacto: the same as the first', low=1e-7,
        high=1.0)
    language_optimizer: str = setting('adam', 'of the language field', choices=OPTIMIZERS)
    language_learning_rate: float = setting(1e-2, 'of the language field', low=1e-6, high=1.0)
    language_final_learning_rate: float = setting(2e-3, 'its floor', low=1e-7, high=1.0)
    language_decay_steps: int = setting(3000, 'steps from one to the other', low=1, high=10**7)
    language_average_steps: int = setting(
        100, 'latest steps over which the mean of its weights makes the map; 1: the last alone, '
        'as LERF does', low=1, high=10**6)
    language_weight_decay: float = setting(
        0.0, 'of the language field; LERF: 1e-9', low=0.0, high=1.0)
    beta2: float = setting(
        0.99, 'how slowly the optimisers forget squared gradients; nerfacto: 0.999', low=0.5,
        high=0.9999)
    anneal_steps: int = setting(
        1000, 'steps over which proposals become sharp, again after new area; 0 at once', low=0,
        high=10**6)
    anneal_slope: float = setting(10.0, 'how early most of it happens', low=1.0, high=1000.0)
    new_area: float = setting(
        0.5, 'fraction of a keyframe that no earlier one showed from which it counts as new area',
        low=0.0, high=1.0)
    proposal_every: int = setting(
        5, 'steps from one training of the proposals to the next, in the end', low=1, high=1000)
    proposal_warmup: int = setting(
        5000, 'steps until then: every step at first', low=1, high=10**7)
    newest_fraction: float = setting(
        0.5, 'fraction of each batch from the newest keyframes', low=0.0, high=1.0)
    newest_steps: int = setting(
        300, 'steps after the newest keyframe over which that fraction fades to 0', low=1,
        high=10**7)
    newest_count: int = setting(8, 'how many keyframes count as newest', low=1, high=10000)
    color_weight: float = setting(1.0, 'of the colour loss', low=0.0, high=100.0)
    depth_weight: float = setting(0.5, 'of the depth losses', low=0.0, high=100.0)
    depth_zone: float = setting(
        0.02, 'around the measured depth, where light may stop', unit='scene radii', low=1e-4,
        high=1.0)
    distortion_weight: float = setting(0.002, 'of the distortion loss', low=0.0, high=10.0)
    interlevel_weight: float = setting(1.0, 'of the proposal loss', low=0.0, high=10.0)
    embedding_loss: str = setting(
        'cosine', 'between rendered and seen embeddings; huber: summed over the dimensions',
        choices=('cosine', 'huber'))
    huber_delta: float = setting(1.25, 'where the Huber loss turns linear', low=1e-3, high=100.0)
    language_weight: float = setting(1.0, 'of the embedding loss', low=0.0, high=100.0)
    dense_weight: float = setting(0.3, 'of the dense feature loss', low=0.0, high=100.0)
    settle_steps: int = setting(
        1000, 'steps after the newest keyframe until training rests, up to half of which may come '
        'before it; 0 never rests', low=0, high=10**9)
    threads: int = setting(0, 'CPU threads of the training process; 0 takes all', low=0, high=512)

# SPDX-License-Identifier: Apache-2.0
"""Settings of the selection of keyframes, of checks of the input, and of the encoders."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.settings import Checked, setting


@dataclass(frozen=True)
class KeyframeConfig(Checked):
    """Which camera images become keyframes."""

    min_translation: float = setting(
        0.08, 'a new keyframe when the camera moved this far', unit='world units', low=0.0,
        high=1000.0)
    min_rotation: float = setting(
        8.0, 'or when it turned by this angle', unit='degrees', low=0.0, high=180.0)
    sharpness_ratio: float = setting(
        0.5, 'refuse an image whose sharpness is below this fraction of the recent median',
        low=0.0, high=1.0)
    least_contrast: float = setting(
        2.0, 'refuse an image whose grey values deviate less from their mean: a covered lens',
        unit='of 255', low=0.0, high=255.0)
    max_count: int = setting(
        400, 'keyframes kept at most; when_full says what happens then', low=4, high=100000)
    when_full: str = setting(
        'forget', 'forget: a new keyframe takes the place of the one most like another; refuse: '
        'no image is taken any more', choices=('forget', 'refuse'))
    memory_megabytes: int = setting(
        0, 'memory for the pixels and features of keyframes; beyond it each new one takes the '
        'place of another, whatever max_count says; 0 sets no limit on a CPU, and 60 % of what is '
        'free at the start on a GPU', unit='MB', low=0, high=10**7)
    stale_views: int = setting(
        2, 'newer keyframes whose depth must contradict an old ray so that it is no longer trained '
        'on; 0 assumes a static world', low=0, high=100)
    stale_depth: float = setting(
        0.05, 'fraction of its depth by which a point must lie in front of a newer surface to '
        'count as gone', low=1e-3, high=1.0)
    holdout_every: int = setting(
        8, 'every n-th keyframe measures quality and is never trained on; 0 keeps none apart',
        low=0, high=1000)


@dataclass(frozen=True)
class CheckConfig(Checked):
    """From when on images, poses, depth and lenses are taken to contradict each other."""

    warn_fit: float = setting(
        0.55, 'warn about a fit of poses, depth and images below this; correct data has 0.64 and '
        'more',
        low=0.0, high=1.0)
    refuse_fit: float = setting(
        0.35, 'refuse a folder with a lower fit (--trust-input accepts it); wrong data has at most '
        '0.3',
        low=0.0, high=1.0)
    least_parallax: float = setting(
        0.5, 'without depth, refuse a folder with less parallax than this between any two images',
        unit='degrees', low=0.0, high=90.0)
    memory_share: float = setting(
        0.5, 'fraction of the free memory that the pixels and features of a folder may take; '
        'larger images are shrunk', low=0.01, high=1.0)


@dataclass(frozen=True)
class SceneConfig(Checked):
    """The scene frame, in which the fields live."""

    radius: float = setting(
        0.0, 'radius of the region mapped at full resolution; 0 measures it', unit='world units',
        low=0.0, high=10000.0)
    center: tuple[float, ...] = setting(
        (), 'its centre (x, y, z) in the map frame; empty measures it', unit='world units')
    keyframes: int = setting(
        4, 'keyframes to wait for before the frame is measured and frozen', low=1, high=100000)
    measure: str = setting(
        'view', 'view: what the first keyframes look at, from depth or where their optical axes '
        'meet; cameras: mean and largest coordinate of the camera positions, as nerfstudio',
        choices=('view', 'cameras'))


@dataclass(frozen=True)
class FeatureConfig(Checked):
    """The image-text encoder, and how a keyframe is encoded."""

    encoder: str = setting(
        'conse', 'conse (offline), radio, siglip2, pe, tipsv2, mobileclip2, or openclip for all '
        'other models of open_clip; docs/encoders.md says which to take')
    model: str = setting(
        '', 'which model of radio, siglip2, pe, tipsv2 or mobileclip2: a name in '
        'docs/encoders.md, a file or folder; empty for its smallest usual one')
    text_model: str = setting(
        '', 'text tower of radio, a folder or a repository of the hub; empty for the one that it '
        'was trained towards')
    patches: str = setting(
        'auto', 'how these encode an image: auto: all patches from one run, as suits the model; '
        'crops: crops one by one, as LERF; the others name a way for the last attention or the '
        'pooling, docs/encoders.md', choices=('auto', 'crops', 'plain', 'maskclip', 'naclip',
                                              'value', 'conv', 'radseg'))
    openclip_model: str = setting(
        'ViT-B-16', 'open_clip model name, hf-hub:... or local-dir:...')
    openclip_pretrained: str = setting(
        'laion2b_s34b_b88k', 'open_clip weights tag or file; empty for hf-hub: and local-dir:')
    openclip_dense: str = setting(
        'none', 'none: crops; otherwise all cells from one run at each image size. auto: as the '
        'tower pools; maskclip, naclip: the patches of a transformer, the last attention changed; '
        'value: of one that pools by attention, its value path; conv: the last map of a '
        'convolutional tower', choices=('none', 'auto', 'maskclip', 'naclip', 'value', 'conv'))
    openclip_receptive_px: float = setting(
        0.0, 'width of the resized image that a cell from one run describes; 0: half of the side '
        'that a transformer was trained at, 0.69 of it for a convolutional tower', unit='pixels',
        low=0.0, high=4096.0)
    pyramid: str = setting(
        'widths', 'widths: levels at physical widths, the same in every keyframe; fractions: '
        'levels at fractions of the image height, as LERF', choices=('widths', 'fractions'))
    widths: tuple[float, ...] = setting(
        (0.15, 0.22, 0.33, 0.5), 'physical widths that the embeddings describe', unit='scene radii',
        low=1e-3, high=10.0)
    fractions: tuple[float, ...] = setting(
        (0.05, 0.125, 0.2, 0.275, 0.35, 0.425, 0.5), 'sides of crops as fractions of the image '
        'height',
        low=0.01, high=1.0)
    overlap: float = setting(
        0.5, 'fraction by which crops of 15 % of the image height and more overlap',
        low=0.0, high=0.9)
    overlap_small: float = setting(
        0.0, 'the same for crops of 5 %, interpolated in between; the LERF paper: 0.5',
        low=0.0, high=0.9)
    max_side: int = setting(
        1280, 'largest side of a resized image in dense mode', unit='pixels', low=64, high=8192)
    batch: int = setting(32, 'crops encoded at once', low=1, high=4096)
    cache_megabytes: int = setting(
        2000, 'disk space for features of keyframes seen before, least recently used go first; 0 '
        'keeps none', unit='MB', low=0, high=10**7)
    dense_model: str = setting(
        'vit_small_patch8_224.dino', 'timm model of the dense features beside openclip (DINO, '
        'DINOv2, DINOv3); empty for none')
    dense_layer: int = setting(
        -1, 'block of that model whose features are taken; -1 is the last', low=-100, high=100)
    dense_facet: str = setting(
        'key', 'what is taken of its attention', choices=('query', 'key', 'value', 'token'))
    dense_stride: int = setting(
        0, 'pixels from one patch to the next; 0 is the patch size', unit='pixels', low=0, high=64)
    dense_short_side: int = setting(
        500, 'shorter side to which the image is resized for dense features', unit='pixels',
        low=32, high=4096)
    dense_unit: bool = setting(
        True, 'divide dense features by their length (the released LERF code does not)')

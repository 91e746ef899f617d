# SPDX-License-Identifier: Apache-2.0
"""Settings of the language index, of queries, and of the map directory."""

from __future__ import annotations

from dataclasses import dataclass

from lerf_ros.settings import Checked, setting


@dataclass(frozen=True)
class IndexConfig(Checked):
    """The language index, which queries search."""

    rays: int = setting(100000, 'rays rendered to look for surface points', low=100, high=10**8)
    max_points: int = setting(50000, 'points kept', low=100, high=10**7)
    voxel: float = setting(
        0.006, 'one point at most in a cube of this edge', unit='scene radii', low=0.0, high=1.0)
    min_accumulation: float = setting(0.9, 'opacity a ray must reach', low=0.0, high=1.0)
    min_keyframes: int = setting(
        5, 'keyframes that must see a surface at the same place; never more than a fifth of all, '
        'never fewer than 2', low=1, high=1000)
    depth_tolerance: float = setting(
        0.03, 'fraction of its depth by which such views may differ', low=1e-4, high=1.0)
    coverage_cells: int = setting(
        48, 'voxels along each edge of contracted space for coverage; a quarter of them is a scene '
        'radius', low=8, high=256)
    search_low: float = setting(0.0, 'smallest scale searched', low=0.0, high=1000.0)
    search_high: float = setting(2.0, 'largest scale searched', low=1e-3, high=1000.0)
    search_unit: str = setting(
        'world', 'unit of the two: world units (LERF: metres), or scene radii',
        choices=('world', 'scene'))
    search_steps: int = setting(30, 'scales in between, in a full search', low=1, high=1000)
    support_area: float = setting(
        0.1, 'least area of a flat surface that supports objects and is separated from them',
        unit='square scene radii', low=1e-4, high=1e4)
    support_thickness: float = setting(
        0.01, 'how far points may lie from such a plane', unit='scene radii', low=1e-4, high=1.0)
    support_points: int = setting(300, 'points that it needs', low=3, high=10**7)
    support_share: float = setting(
        0.2, 'pieces of a plane that look different and are smaller than this fraction of its '
        'largest piece are objects that lie on it', low=0.0, high=1.0)
    segment_cell: float = setting(
        0.015, 'edge of the cells that segments grow from', unit='scene radii', low=1e-4,
        high=1.0)
    segment_gap: float = setting(
        0.02, 'points of one segment have a neighbour nearer than this', unit='scene radii',
        low=1e-4, high=1.0)
    segment_difference: float = setting(
        0.7, 'difference of dense features and colours, relative to that of any two places, from '
        'which touching points belong to different objects', low=0.0, high=100.0)
    segment_crease: float = setting(
        0.3, 'bend from which a crease counts as concave, where half that difference suffices',
        low=0.0, high=2.0)
    segment_points: int = setting(8, 'points that a segment needs', low=1, high=100000)
    scales: int = setting(
        6, 'scales stored in the index, of those of the search that were trained, evenly in the '
        'logarithm; times rank at most 256 numbers a point', low=1, high=64)
    rank: int = setting(42, 'dimensions kept of the embeddings, at most', low=4, high=2048)
    rank_loss: float = setting(
        0.0001, 'fraction of the energy that the worst part of the map may lose by fewer '
        'dimensions', low=0.0,
        high=1.0)
    look_views: int = setting(
        3, 'keyframes in which each thing is looked at a second time, by itself; 0 for no second '
        'looks', low=0, high=32)
    look_margins: tuple[float, ...] = setting(
        (1.2,), "sides of the crops around it that are encoded, times the thing's longer side; "
        'what is not the thing is blanked',
        low=1.0, high=10.0)
    look_seconds: float = setting(
        4.0, 'time that second looks may take of a snapshot; those that are left follow with the '
        'next ones, all of them once the map has settled', unit='seconds', low=0.0, high=3600.0)


@dataclass(frozen=True)
class QueryConfig(Checked):
    """How queries are answered."""

    negatives: tuple[str, ...] = setting(
        ('object', 'things', 'stuff', 'texture'), 'phrases that a place must beat')
    temperature: float = setting(10.0, 'factor of the cosines before the softmax', low=0.1,
                                 high=1000.0)
    threshold: float = setting(
        0.0, 'relevancy from which a phrase counts as found; 0: that of a calibration, 0.76 for '
        "conse at the default settings, else the encoder's own (docs/encoders.md)", low=0.0,
        high=1.0)
    picture_threshold: float = setting(
        0.6, 'the same for a picture or a crop, which has the mean of the map to beat as well',
        low=0.0, high=1.0)
    min_observed: float = setting(
        0.5, 'fraction of the region, or of the mapped space, that must have been observed so that '
        'an object that was not found counts as absent', low=0.0, high=1.0)
    thing_size: float = setting(
        0.1, 'width of the smallest thing of which the map says that it is absent: where keyframes '
        'looked from close by, query.min_points of its points must fit onto such a square',
        unit='metres; scene radii in a map that is not metric', low=1e-4, high=1000.0)
    min_resolved: float = setting(
        0.9, 'fraction of the surface that keyframes looked at from close by that must be mapped '
        'so finely that an object that was not found counts as absent', low=0.0, high=1.0)
    look_weight: float = setting(
        0.75, 'weight of second looks that find more in a thing than the language field does, in '
        'the log-odds of its relevancy; those that find less have a third of it; 0 for the field '
        'alone', low=0.0, high=1.0)
    most_rival_words: int = setting(
        3, 'known words that may fit a place better than the phrase does, apart from those that '
        'share a word with it; where more do, or one of another meaning does clearly, it is '
        'something else. For encoders with a vocabulary of their own, such as conse; 0: no limit',
        low=0, high=100000)
    max_hits: int = setting(5, 'hits returned of each phrase', low=1, high=1000)
    cluster_radius: float = setting(
        0.03, 'relevant points closer than this belong to one hit', unit='scene radii', low=1e-4,
        high=1.0)
    min_points: int = setting(20, 'points that a hit needs', low=1, high=100000)
    whole_share: float = setting(
        0.1, 'fraction of a segment, its most relevant points, whose mean tells whether all of it '
        'becomes the place', low=0.0, high=1.0)
    surface_share: float = setting(
        0.3, 'fraction of a supporting surface that must be relevant so that all of it becomes the '
        'place', low=0.0, high=1.0)
    boxes: str = setting(
        'upright', 'upright: boxes with vertical sides, in a map whose z is up (REP-103); minimal: '
        'turned any way', choices=('upright', 'minimal'))
    box_trim: float = setting(
        0.005, "fraction of a place's points that its box leaves out at either side",
        low=0.0, high=0.2)
    stand_reach: float = setting(
        0.05, 'a box goes down to a supporting surface that is nearer than this',
        unit='scene radii', low=0.0, high=1.0)
    relevant_fraction: float = setting(
        0.8, 'points of a hit reach this fraction of the way from 0.5 to the best relevancy',
        low=0.0, high=1.0)


@dataclass(frozen=True)
class MapConfig(Checked):
    """The map directory."""

    snapshot_interval: float = setting(
        20.0, 'time between snapshots while training', unit='seconds', low=1.0, high=86400.0)
    checkpoint_interval: float = setting(
        30.0, 'training that may be lost when the process is killed, at most; more where writing '
        'it takes over a tenth of that', unit='seconds', low=1.0, high=86400.0)
    keep_snapshots: int = setting(2, 'complete snapshots kept', low=1, high=1000)
    training_state: bool = setting(
        True, 'keep what resuming the training needs: optimisers, random numbers')

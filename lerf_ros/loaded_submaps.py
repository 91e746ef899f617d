# SPDX-License-Identifier: Apache-2.0
"""The submaps that can be asked, at one moment, and what no question changes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lerf_ros.config import QueryConfig
from lerf_ros.errors import BadImageError
from lerf_ros.geometry.camera import invert_pose
from lerf_ros.geometry.region import Region
from lerf_ros.index.resolution import Resolution
from lerf_ros.loaded_snapshot import LoadedSnapshot
from lerf_ros.map_query import MapQuery
from lerf_ros.query.answer import Hit, transform_hit
from lerf_ros.query.inventory import Item
from lerf_ros.query.mapped_place import MappedPlace
from lerf_ros.query.phrases.reading import Viewpoint
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.search import inside_region
from lerf_ros.query.submap_answers import Surface, all_places, same_place
from lerf_ros.storage.submaps import SubmapSet

LOCAL_M = 6.0           # so far around a place a robot moves that was asked about it
AROUND = 1.5            # times the box of a hit: where grasps of it are looked for


@dataclass(frozen=True)
class Submap:
    """A submap that can be asked, and its number."""

    number: int
    query: MapQuery


@dataclass(frozen=True)
class Loaded:
    """The submaps that can be asked, at one moment, and what no question changes of them.

    places: that all of them looked at, each as its own submap resolves it; None if not known. thin:
    the submaps, by number, with points that fewer keyframes saw than a longer capture would need.
    """

    set: SubmapSet
    submaps: tuple[Submap, ...]
    surface: Surface
    places: Resolution | None
    thin: frozenset[int]

    @classmethod
    def of(cls, submaps: SubmapSet, ready: Sequence[Submap]) -> Loaded | None:
        """Joins submaps with a snapshot; None without any."""
        if not ready:
            return None
        snapshots = {s.number: s.query.snapshot for s in ready}
        if len(snapshots) > 1:
            for snapshot in snapshots.values():
                _ = snapshot.query.index.groups     # now, rather than while somebody waits
        return cls(submaps, tuple(ready), Surface.of(submaps, {
            n: s.query.index for n, s in snapshots.items()}), all_places(submaps, {
                n: s.resolution for n, s in snapshots.items()}), frozenset(
                    n for n, s in snapshots.items() if s.coverage is not None and (
                        s.query.index.keyframes < s.coverage.needed[1]).any()))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the submaps."""
        return tuple(submap.number for submap in self.submaps)

    def near(self, region: Region | None) -> list[Submap]:
        """Returns the submaps whose cubes a region may touch, all for None; at least one.

        Of a region in no cube those are taken that have points in it, which lie in no cube either.
        """
        if region is None:
            return list(self.submaps)
        touched = [s for s in self.submaps if touches(self.set, s.number, region)]
        return touched or [s for s in self.submaps if inside_region(
            s.query.text_query.index, in_submap(self.set, s.number, region)).any()] or [
                self.submaps[0]]

    def around(self, place: np.ndarray | None) -> tuple[np.ndarray, list[Submap]]:
        """Returns a place (3,), that of the submap in the middle of all for None, and what is near.

        These are the submaps whose cubes come within LOCAL_M of it, at least the nearest one.
        """
        middles = np.stack([self.set.middle(number) for number in self.numbers])
        if place is None:
            place = middles[np.linalg.norm(middles - np.median(middles, axis=0), axis=1).argmin()]
        apart = np.linalg.norm(middles - place, axis=1)
        reach = np.array([np.sqrt(3) * self.set.lattice_of(k).radius for k in self.numbers])
        return place, [s for s, near, r in zip(self.submaps, apart, reach, strict=True)
                       if near <= r + LOCAL_M or near == apart.min()]

    def inventory(self, names: Sequence[str]) -> tuple[Item, ...]:
        """Returns the things of all submaps, each once. Raises as MapQuery.inventory."""
        found: list[tuple[float, Item]] = []
        first = 0
        for submap in self.submaps:
            T = self.set.T_map_submap(submap.number)
            for item in submap.query.inventory(names):
                hit, number = transform_hit(item.hit, T), first + item.segment
                found.append((float(self.set.depth(submap.number, hit.position)),
                              replace(item, hit=hit, segment=number)))
            first += len(submap.query.text_query.finder.segments)
        kept: list[Item] = []
        for depth, item in sorted(found, key=lambda pair: pair[0]):
            # What lies outside of the cube is that of another one, unless no other has it.
            again = any(item.surface == other.surface and same_place(item.hit, other.hit)
                        for other in kept)
            elsewhere = depth > 1.0 and any(self.set.depth(k, item.hit.position) <= 1.0
                                            for k in self.numbers)
            if not again and not elsewhere:
                kept.append(item)
        return tuple(sorted(kept, key=lambda item: (item.surface, -item.hit.relevancy)))

    def place(self, near: Sequence[Submap], region: Region | None,
              config: QueryConfig) -> MappedPlace:
        """Returns how well a region is known by all submaps, `near` among them, together."""
        snapshots = {s.number: s.query.snapshot for s in near}
        known = [s.coverage.observed(region and in_submap(self.set, number, region))
                 for number, s in snapshots.items() if s.coverage is not None]
        first = next(iter(snapshots.values()))
        place = MappedPlace.of(None, self.places, region, config,
                               1.0 if first.metric else first.query.radius, first.metric)
        # A region lies in one submap, or in the overlap of several that know it alike.
        observed = float('nan') if not known else max(known) if region else float(np.mean(known))
        words = place.too_coarse or unsettled([s.query.snapshot for s in self.submaps])
        return replace(place, observed=observed, too_coarse=words,
                       enough=place.enough and not words and not observed < config.min_observed)


def unsettled(snapshots: Sequence[LoadedSnapshot]) -> str:
    """Returns in words why submaps may not know all that is there; empty where they do.

    What things are is learned last: of 36 things in a hall of four tables, 5 fitted no phrase after
    1,100 steps although their surfaces were exact to 5 mm. So nothing is called absent before
    training has settled, and the learning rate of the language field has reached its floor.
    """
    if any(s.stored.training.field != 'lerf' for s in snapshots):
        return ('submaps without a field (training.field none) call nothing absent: of 36 things '
                'in a hall 5, thin ones, fitted no phrase there')
    learning = sum(not s.info.get('settled', True)
                   or s.info['steps'] < s.stored.training.language_decay_steps for s in snapshots)
    if not learning:
        return ''
    return (f'{learning} of {len(snapshots)} submaps still learn (training.settle_steps, '
            'training.language_decay_steps): what is not found there may not be learned yet; ask '
            'again when the mapper rests, or train longer')


def holder_of(loaded: Loaded, keyframe: int) -> Submap:
    """Returns a submap that has a keyframe, by index, or the first of all if none has it.

    Raises BadImageError where several maps that were merged have one of this number.
    """
    found = [s for s in loaded.submaps if keyframe in s.query.directory.keyframes]
    if len({loaded.set.places[s.number].source for s in found}) > 1:
        raise BadImageError(f'several of the maps that were merged have a keyframe {keyframe}: '
                            'send the picture itself')
    return found[0] if found else loaded.submaps[0]


def newest_view(loaded: Loaded) -> Viewpoint | None:
    """Returns from where the newest keyframe was taken, in the map frame."""
    files = {s.number: s.query.directory.keyframes for s in loaded.submaps}

    def age(number: int) -> tuple[int, int]:
        """Merged maps count their keyframes each for itself, so the time decides first."""
        newest = max(files[number].indices(), default=-1)
        return files[number].stamp(newest) if newest >= 0 else -1, newest

    number = max(files, key=age)
    T = files[number].newest_pose()
    if T is None:
        return None
    T = loaded.set.T_map_submap(number) @ T
    return Viewpoint(T[:3, 3], T[:3, 2], 'the newest keyframe')


def moved(request: QueryRequest, T: np.ndarray) -> QueryRequest:
    """Returns a request after the rigid motion T (4, 4) of all that it says of places."""
    region, view = request.region, request.viewpoint
    return replace(
        request, region=region and Region(T @ region.T_world_region, region.size),
        viewpoint=view and replace(view, position=T[:3, :3] @ view.position + T[:3, 3],
                                   forward=T[:3, :3] @ view.forward))


def in_submap(submaps: SubmapSet, number: int, region: Region) -> Region:
    """Returns a region of the map in the frame that a submap was mapped in."""
    return Region(invert_pose(submaps.T_map_submap(number)) @ region.T_world_region, region.size)


def touches(submaps: SubmapSet, number: int, region: Region) -> bool:
    """Returns whether a region may reach into the cube of a submap."""
    apart = np.linalg.norm(submaps.middle(number) - region.T_world_region[:3, 3])
    reach = np.sqrt(3) * submaps.lattice_of(number).radius + np.linalg.norm(region.size) / 2
    return bool(apart <= reach)


def box_around(hit: Hit) -> Region:
    """Returns a region around the box of a hit, in which there is hardly room for another one."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = hit.rotation, hit.position
    return Region(T, AROUND * hit.size)

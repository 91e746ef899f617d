# SPDX-License-Identifier: Apache-2.0
"""What a phrase says: a thing with colours and sizes, and how it lies to other things.

The encoder answers for nouns alone. Colours are judged by the colours of the map (colors.py), and
relations by its geometry (relations.py), because an embedding of a phrase is a bag of words: it
does not say which of two things is the red one, or which stands on the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class RelationKind(enum.Enum):
    """How one thing lies to another. The values are those of the field `kind` of requests."""

    ON = 'on'
    IN = 'in'
    UNDER = 'under'
    ABOVE = 'above'
    NEXT_TO = 'next to'
    LEFT_OF = 'left of'
    RIGHT_OF = 'right of'
    IN_FRONT_OF = 'in front of'
    BEHIND = 'behind'
    BETWEEN = 'between'
    NEAREST_TO = 'nearest to'
    FARTHEST_FROM = 'farthest from'
    LEFT_SIDE = 'on the left side of'
    RIGHT_SIDE = 'on the right side of'
    FRONT_SIDE = 'on the front side of'
    BACK_SIDE = 'on the back side of'


# These depend on who looks; NEAREST_TO and FARTHEST_FROM do where their anchor is the viewer.
SEEN = (RelationKind.LEFT_OF, RelationKind.RIGHT_OF, RelationKind.IN_FRONT_OF,
        RelationKind.BEHIND, RelationKind.LEFT_SIDE, RelationKind.RIGHT_SIDE,
        RelationKind.FRONT_SIDE, RelationKind.BACK_SIDE)
# These choose one of several candidates instead of keeping those that fit.
CHOOSING = (RelationKind.NEAREST_TO, RelationKind.FARTHEST_FROM)


@dataclass(frozen=True)
class Thing:
    """A noun with what is said of its looks.

    colors: words of vocabulary.py; the thing has all of them, or one of them with `any_color`.
    shade: 'dark', 'light' or ''. sizes: words of vocabulary.py. An empty noun is the viewer.
    """

    noun: str = ''
    colors: tuple[str, ...] = ()
    any_color: bool = False
    shade: str = ''
    sizes: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Returns whether nothing but the noun is said."""
        return not (self.colors or self.sizes)

    @property
    def described(self) -> str:
        """Returns the noun with its colours, as the encoder reads it beside the noun alone."""
        joint = ' or ' if self.any_color else ' and '
        return ' '.join(filter(None, [self.shade, joint.join(self.colors), self.noun]))

    def __str__(self) -> str:
        return ' '.join([*self.sizes, self.described]) if self.noun else 'the viewer'


VIEWER = Thing()


@dataclass(frozen=True)
class Relation:
    """How the thing lies to its anchors: two for BETWEEN, otherwise one.

    Without an anchor the other candidates take its place: 'the mug on the left'.
    """

    kind: RelationKind
    anchors: tuple[Thing, ...] = ()

    def __str__(self) -> str:
        return f'{self.kind.value} {" and ".join(map(str, self.anchors)) or "the others"}'


@dataclass(frozen=True)
class Reading:
    """How a phrase was understood.

    text: the phrase as it was asked. seen_from: the thing from which relations are seen; None for
    the viewer. not_understood: why the phrase is asked as a whole; empty where it was understood.
    """

    text: str
    thing: Thing
    relations: tuple[Relation, ...] = ()
    seen_from: Thing | None = None
    not_understood: str = ''

    @property
    def plain(self) -> bool:
        """Returns whether the phrase is for the encoder alone."""
        return self.thing.plain and not self.relations

    @property
    def things(self) -> tuple[Thing, ...]:
        """Returns all other things that the phrase names, without the viewer."""
        anchors = [anchor for relation in self.relations for anchor in relation.anchors]
        named = [*anchors, *([self.seen_from] if self.seen_from else [])]
        return tuple(dict.fromkeys(thing for thing in named if thing != VIEWER))

    @property
    def needs_viewer(self) -> bool:
        """Returns whether the answer depends on where the viewer is."""
        return self.seen_from is None and any(
            relation.kind in SEEN or VIEWER in relation.anchors for relation in self.relations)

    def __str__(self) -> str:
        if self.plain:
            return self.text
        joint = ' or ' if self.thing.any_color else ' and '
        looks = ' '.join(filter(None, [self.thing.shade, joint.join(self.thing.colors)]))
        parts = [self.thing.noun, *filter(None, [looks]), *self.thing.sizes,
                 *map(str, self.relations)]
        return ', '.join(parts) + (f', seen from {self.seen_from}' if self.seen_from else '')


@dataclass(frozen=True)
class Viewpoint:
    """Where somebody looks from, world coordinates.

    position (3,). forward (3,): unit, horizontal; what is ahead. name: for the answer, such as
    'the newest keyframe'.
    """

    position: np.ndarray
    forward: np.ndarray
    name: str

# SPDX-License-Identifier: Apache-2.0
"""A fixed grammar for phrases such as 'the red mug on the table, left of the laptop'.

    phrase   = [lead] thing {[standing] relation} ["," "seen from" thing]
    relation = RELATION thing | "between" thing "and" thing | PLACE
    thing    = [determiner] {size | superlative | choice | color} noun ["that is" colors]
    colors   = [shade] color {("and" | "or" | ",") color}

All relations belong to the first thing: in 'the mug on the table next to the lamp' it is the mug
that stands next to the lamp. Words in capitals and small ones are in vocabulary.py; every word that
is not there belongs to the noun. A phrase that does not fit is asked as a whole, and its reading
says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from lerf_ros.query.phrases.reading import VIEWER, Reading, Relation, RelationKind, Thing
from lerf_ros.query.phrases.vocabulary import (
    CHOICES,
    COLORS,
    DETERMINERS,
    EXTENTS,
    HANDED,
    HANDS,
    IDIOMS,
    KINDS,
    LEADS,
    LINKS,
    ORDERS,
    PLACES,
    PRONOUNS,
    RELATIONS,
    SHADES,
    SIZES,
    STANDING,
    SUPERLATIVES,
    TINTS,
    UNKNOWN,
    VIEWERS,
    VIEWS,
)

MOST_RELATIONS = 4
Words = Sequence[str]
T = TypeVar('T')


class NotUnderstood(Exception):
    """Says why a phrase does not fit the grammar."""


class Link(NamedTuple):
    """A relation's words, [start, end) in the phrase. anchored: whether a thing follows."""

    start: int
    end: int
    kind: RelationKind
    anchored: bool


def read(text: str) -> Reading:
    """Returns how a phrase is understood; one without attributes and relations is left as it is."""
    whole = Reading(text, Thing(text.strip()))
    words = re.findall(r"[\w'’-]+|,", text.lower().replace('-coloured', '').replace('-colored', ''))
    if not words or ' '.join(words) in IDIOMS:
        return whole
    try:
        reading = parsed(text, words)
    except NotUnderstood as reason:
        return replace(whole, not_understood=str(reason))
    # Nothing but a noun was read: the encoder gets the phrase as it was typed.
    return whole if reading.plain and not starts(words, LEADS) else reading


def parsed(text: str, words: Words) -> Reading:
    """Returns the reading of words; raises NotUnderstood."""
    words = [word for word in words[len(starts(words, LEADS)):] if word not in (
        'coloured', 'colored')]
    words, seen_from = split_view(words)
    links = list(relations_in(words))
    unknown = [word for word in words if word in UNKNOWN] + [
        order for order in ORDERS if order in ' '.join(words)]
    if unknown:
        raise NotUnderstood(f'there is no rule for {unknown[0]!r}')
    if words[:1] and words[0] in RELATIONS and words[1:2] and words[1] in DETERMINERS:
        raise NotUnderstood(f'no thing is named before {words[0]!r}')
    if len(links) > MOST_RELATIONS:
        raise NotUnderstood(f'{len(links)} relations, at most {MOST_RELATIONS} are read')
    starts_at = [link.start for link in links] + [len(words)]
    thing, choices = thing_of(words[:starts_at[0]])
    relations = [related(link, words[link.end:end])
                 for link, end in zip(links, starts_at[1:], strict=True)]
    return Reading(text, thing, (*choices, *relations), seen_from)


def starts(words: Words, phrases: Sequence[str]) -> list[str]:
    """Returns the words of the longest of the phrases that `words` begin with; none: []."""
    split = sorted((phrase.split() for phrase in phrases), key=len, reverse=True)
    return next((phrase for phrase in split if list(words[:len(phrase)]) == phrase
                 and len(words) > len(phrase)), [])


def split_view(words: Words) -> tuple[list[str], Thing | None]:
    """Returns the words before 'seen from', and what follows it; None for the viewer."""
    for at in range(1, len(words)):
        lead = starts(words[at:], VIEWS)
        if lead:
            before = list(words[:at])
            thing, choices = thing_of(words[at + len(lead):], viewer=True)
            if choices:
                raise NotUnderstood('what it is seen from has a choice of its own')
            return before[:-1] if before[-1] == ',' else before, \
                None if thing == VIEWER else thing
    return list(words), None


def relations_in(words: Words) -> list[Link]:
    """Returns the relations in words, in order; longer ones count before shorter ones."""
    links, at = [], 1
    while at < len(words):
        place, relation = longest(words, at, PLACES), longest(words, at, RELATIONS)
        if relation and (not place or relation[0] >= place[0]):
            links.append(Link(at, relation[0], relation[1], True))
        elif place:
            links.append(Link(at, place[0], place[1], False))
        # What is compared, 'nearest' before a noun, belongs to that noun.
        if links and links[-1].start == at:
            at = links[-1].end
        at += 1
    return [link for link in links if not chooses(words, link)]


def chooses(words: Words, link: Link) -> bool:
    """Returns whether a relation's word stands before a noun, as in 'the nearest mug'."""
    return link.start == 1 and words[0] in DETERMINERS and words[1] in CHOICES


def longest(words: Words, at: int, table: Mapping[str, T]) -> tuple[int, T] | None:
    """Returns where the longest entry of the table that begins at a word ends, and its value."""
    for end in range(min(at + 6, len(words)), at, -1):
        value = table.get(' '.join(words[at:end]))
        if value is not None:
            return end, value
    return None


def related(link: Link, words: Words) -> Relation:
    """Returns the relation of a link whose anchor has these words; raises NotUnderstood."""
    name = link.kind.value
    if not link.anchored:
        if [word for word in words if word not in STANDING and word != ',']:
            raise NotUnderstood(f'{" ".join(words)!r} after a place')
        return Relation(link.kind)
    if link.kind is RelationKind.BETWEEN:
        return Relation(link.kind, pair(words))
    thing, choices = thing_of(words, viewer=True)
    if choices:
        raise NotUnderstood(f'{name!r} needs a thing that is not chosen itself')
    if thing == VIEWER and link.kind in (
            RelationKind.ON, RelationKind.IN, RelationKind.UNDER, RelationKind.ABOVE):
        raise NotUnderstood(f'{name!r} with the viewer')
    if set(thing.noun.split()) & EXTENTS:
        raise NotUnderstood(f'there is no rule for {name} {thing.noun!r}')
    return Relation(link.kind, (thing,))


def pair(words: Words) -> tuple[Thing, Thing]:
    """Returns the two things of 'between'; 'the red and the blue mug' are two mugs."""
    for at in (k for k, word in enumerate(words) if word == 'and'):
        try:
            second = thing_of(words[at + 1:], viewer=True)[0]
        except NotUnderstood:
            continue
        first = thing_of(words[:at], viewer=True)[0]
        if first.noun in COLORS:
            first = thing_of([*words[:at], *second.noun.split()])[0]
        return first, second
    raise NotUnderstood("'between' needs two things with 'and'")


def thing_of(words: Words, viewer: bool = False) -> tuple[Thing, list[Relation]]:
    """Returns the thing that words name, and how it is chosen; raises NotUnderstood.

    viewer: whether it may be the viewer.
    """
    words = stripped(words)
    determined = bool(words) and words[0] in DETERMINERS
    words = words[1:] if determined else words
    if viewer and len(words) == 1 and words[0] in VIEWERS:
        return VIEWER, []
    words, named = colors_behind(words)
    choices, sizes, rest = [], [], []
    for k, word in enumerate(words):
        before_noun = k < len(words) - 1 and not LINKS & set(words[:k])
        if before_noun and word in CHOICES:
            choices.append(chosen(CHOICES[word]))
        elif before_noun and determined and k == 0 and word in HANDS and words[-1] not in HANDED:
            choices.append(chosen(HANDS[word]))
        elif before_noun and (word in SIZES or word in SUPERLATIVES):
            sizes.append(word)
        else:
            rest.append(word)
    looks, noun = colors_before(rest)
    if named.colors:
        looks = named
    if not noun or set(noun) & PRONOUNS:
        raise NotUnderstood(f'{" ".join(words) or "nothing"!r} names no thing' if not noun else
                            f'{" ".join(noun)!r} stands for something else')
    return replace(looks, noun=' '.join(noun), sizes=tuple(sizes)), choices


def chosen(kind: RelationKind) -> Relation:
    """Returns the relation of a choice: to the viewer for a distance, else to the others."""
    near = kind in (RelationKind.NEAREST_TO, RelationKind.FARTHEST_FROM)
    return Relation(kind, (VIEWER,) if near else ())


def stripped(words: Words) -> list[str]:
    """Returns the words without those at the end that only lead to a relation."""
    kept = [*words]
    while kept and (kept[-1] in STANDING or kept[-1] == ','):
        kept.pop()
    while kept and kept[0] == ',':
        kept.pop(0)
    return kept


def colors_behind(words: Words) -> tuple[list[str], Thing]:
    """Returns the words before 'that is' with colours, and those colours."""
    for at in range(1, len(words) - 1):
        lead = starts(words[at:], ('that is', 'which is', 'that are', 'which are', "that's"))
        if lead:
            looks, rest = colors_before([*words[at + len(lead):], 'noun'])
            if looks.colors and rest == ['noun']:
                return list(words[:at]), looks
    return list(words), Thing()


def colors_before(words: Words) -> tuple[Thing, list[str]]:
    """Returns the colours before a noun, and the noun with all other words."""
    colors: list[str] = []
    noun: list[str] = []
    any_color, shade = False, ''
    for k, word in enumerate(words):
        following = words[k + 1] if k + 1 < len(words) else ''
        adjective = bool(following) and not LINKS & set(words[:k])
        colorful = following in COLORS and k + 2 < len(words)
        if adjective and colorful and word in SHADES:
            shade = SHADES[word]
        elif adjective and colorful and word in TINTS:
            continue
        elif adjective and word in COLORS and (word, following) not in KINDS:
            colors.append(word)
        elif adjective and colors and colorful and word in ('and', 'or', ',') and not noun:
            any_color = any_color or word == 'or'
        else:
            noun.append(word)
    return Thing('', tuple(dict.fromkeys(colors)), any_color, shade if colors else ''), noun

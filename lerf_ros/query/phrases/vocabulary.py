# SPDX-License-Identifier: Apache-2.0
"""The words that the grammar knows; all others belong to nouns."""

from __future__ import annotations

from lerf_ros.query.phrases.reading import RelationKind

# The eleven basic colour terms (Berlin and Kay, Basic Color Terms, 1969).
BASIC_COLORS = ('red', 'orange', 'brown', 'yellow', 'green', 'blue', 'purple', 'pink', 'black',
                'gray', 'white')
# Other words for them, and colours between some of them: any of these is meant.
VARIANTS: dict[str, tuple[str, ...]] = {
    'grey': ('gray',), 'silver': ('gray', 'white'), 'charcoal': ('gray', 'black'),
    'ivory': ('white', 'yellow'), 'beige': ('white', 'brown', 'yellow', 'orange', 'pink'),
    'tan': ('brown', 'orange'), 'khaki': ('brown', 'green', 'yellow'),
    'golden': ('yellow', 'orange', 'brown'), 'gold': ('yellow', 'orange', 'brown'),
    'crimson': ('red',), 'scarlet': ('red',), 'maroon': ('red', 'brown', 'purple'),
    'burgundy': ('red', 'brown', 'purple'), 'magenta': ('pink', 'purple'),
    'fuchsia': ('pink', 'purple'), 'violet': ('purple',), 'lilac': ('purple', 'pink'),
    'mauve': ('purple', 'pink'), 'indigo': ('blue', 'purple'), 'navy': ('blue', 'black'),
    'azure': ('blue',), 'turquoise': ('blue', 'green'), 'teal': ('blue', 'green'),
    'cyan': ('blue', 'green'), 'aqua': ('blue', 'green'),
    'reddish': ('red', 'pink'), 'brownish': ('brown',), 'yellowish': ('yellow',),
    'greenish': ('green',), 'bluish': ('blue',), 'purplish': ('purple',), 'pinkish': ('pink',),
    'greyish': ('gray',), 'grayish': ('gray',), 'blackish': ('black',), 'whitish': ('white',)}
COLORS: dict[str, tuple[str, ...]] = {**{color: (color,) for color in BASIC_COLORS}, **VARIANTS}
SHADES = {'dark': 'dark', 'deep': 'dark', 'light': 'light', 'pale': 'light', 'bright': ''}
# They say which shade of the colour that follows: 'sky blue', 'lime green'.
TINTS = frozenset({'sky', 'baby', 'royal', 'navy', 'midnight', 'forest', 'lime', 'mint', 'olive',
                   'grass', 'blood', 'brick', 'cherry', 'ruby', 'rose', 'hot', 'lemon', 'jet',
                   'snow', 'off', 'steel', 'slate', 'chocolate'})
# Here the colour names the kind and not what it looks like.
KINDS = frozenset({
    ('red', 'wine'), ('white', 'wine'), ('green', 'tea'), ('black', 'tea'), ('white', 'tea'),
    ('black', 'coffee'), ('white', 'coffee'), ('brown', 'bread'), ('white', 'bread'),
    ('brown', 'sugar'), ('white', 'sugar'), ('black', 'pepper'), ('white', 'pepper'),
    ('blue', 'cheese'), ('red', 'cabbage'), ('white', 'cabbage'), ('red', 'onion'),
    ('brown', 'rice'), ('white', 'rice'), ('red', 'panda'), ('black', 'bear'), ('brown', 'bear'),
    ('black', 'box'), ('white', 'board'), ('black', 'board'), ('red', 'cross'),
    ('green', 'house'), ('green', 'screen'), ('orange', 'juice'), ('orange', 'tree'),
    ('orange', 'peel'), ('orange', 'slice'), ('orange', 'soda'), ('golden', 'retriever'),
    ('gold', 'fish'), ('silver', 'fish'), ('violet', 'flower'), ('navy', 'officer')})

# Length that a size word measures, and whether much or little of it is meant.
SIZES: dict[str, tuple[str, int]] = {
    'large': ('volume', 1), 'big': ('volume', 1), 'huge': ('volume', 1), 'small': ('volume', -1),
    'little': ('volume', -1), 'tiny': ('volume', -1), 'tall': ('height', 1),
    'short': ('height', -1), 'long': ('length', 1), 'wide': ('length', 1),
    'thick': ('thickness', 1), 'thin': ('thickness', -1)}
SUPERLATIVES: dict[str, tuple[str, int]] = {
    'largest': ('volume', 1), 'biggest': ('volume', 1), 'smallest': ('volume', -1),
    'littlest': ('volume', -1), 'tiniest': ('volume', -1), 'tallest': ('height', 1),
    'shortest': ('height', -1), 'longest': ('length', 1), 'widest': ('length', 1),
    'thickest': ('thickness', 1), 'thinnest': ('thickness', -1), 'highest': ('elevation', 1),
    'topmost': ('elevation', 1), 'lowest': ('elevation', -1)}
# Before a noun they choose among all things of that kind.
CHOICES: dict[str, RelationKind] = {
    'nearest': RelationKind.NEAREST_TO, 'closest': RelationKind.NEAREST_TO,
    'farthest': RelationKind.FARTHEST_FROM, 'furthest': RelationKind.FARTHEST_FROM,
    'leftmost': RelationKind.LEFT_OF, 'rightmost': RelationKind.RIGHT_OF,
    'frontmost': RelationKind.IN_FRONT_OF, 'rearmost': RelationKind.BEHIND,
    'left-hand': RelationKind.LEFT_OF, 'right-hand': RelationKind.RIGHT_OF}
# After a determiner: 'the left mug'. The nouns are of things that come in two kinds.
HANDS = {'left': RelationKind.LEFT_OF, 'right': RelationKind.RIGHT_OF}
HANDED = frozenset({'hand', 'foot', 'arm', 'leg', 'shoe', 'boot', 'glove', 'eye', 'ear', 'wing',
                    'angle', 'sock', 'side', 'turn', 'arrow', 'button', 'key'})

# Words that say how the thing before them lies to the thing after them.
RELATIONS: dict[str, RelationKind] = {
    'on': RelationKind.ON, 'on top of': RelationKind.ON, 'upon': RelationKind.ON,
    'atop': RelationKind.ON, 'in': RelationKind.IN, 'inside': RelationKind.IN,
    'inside of': RelationKind.IN, 'within': RelationKind.IN, 'under': RelationKind.UNDER,
    'underneath': RelationKind.UNDER, 'below': RelationKind.UNDER, 'beneath': RelationKind.UNDER,
    'above': RelationKind.ABOVE, 'over': RelationKind.ABOVE, 'next to': RelationKind.NEXT_TO,
    'beside': RelationKind.NEXT_TO, 'near': RelationKind.NEXT_TO, 'near to': RelationKind.NEXT_TO,
    'close to': RelationKind.NEXT_TO, 'by': RelationKind.NEXT_TO, 'at': RelationKind.NEXT_TO,
    'adjacent to': RelationKind.NEXT_TO, 'in front of': RelationKind.IN_FRONT_OF,
    'behind': RelationKind.BEHIND, 'in back of': RelationKind.BEHIND,
    'between': RelationKind.BETWEEN, 'in between': RelationKind.BETWEEN,
    **{f'{word}{to}': kind for word, kind in (
        ('nearest', RelationKind.NEAREST_TO), ('closest', RelationKind.NEAREST_TO),
        ('farthest', RelationKind.FARTHEST_FROM), ('furthest', RelationKind.FARTHEST_FROM))
       for to in (' to', ' from', '')},
    **{f'{lead}{side} of': kind for side, kind in (
        ('left', RelationKind.LEFT_OF), ('right', RelationKind.RIGHT_OF))
       for lead in ('', 'to the ', 'on the ', 'at the ', 'just ')},
    **{f'{at} the {side} {part} of': kind for side, kind in (
        ('left', RelationKind.LEFT_SIDE), ('right', RelationKind.RIGHT_SIDE),
        ('front', RelationKind.FRONT_SIDE), ('near', RelationKind.FRONT_SIDE),
        ('back', RelationKind.BACK_SIDE), ('far', RelationKind.BACK_SIDE))
       for at in ('on', 'at', 'in') for part in ('side', 'half', 'part')}}
# What other things stand on; the floor is the lowest of them. A map knows these by their geometry.
FLOORS = frozenset({'floor', 'ground', 'carpet'})
TABLES = frozenset({'table', 'desk', 'counter', 'countertop', 'tabletop', 'worktop', 'workbench'})
# The same of all candidates, without an anchor: 'the mug on the left'.
PLACES: dict[str, RelationKind] = {
    f'{lead} {side}{part}': kind for side, kind in (
        ('left', RelationKind.LEFT_OF), ('right', RelationKind.RIGHT_OF),
        ('front', RelationKind.IN_FRONT_OF), ('back', RelationKind.BEHIND))
    for lead in ('on the', 'to the', 'at the', 'on my', 'to my', 'on your')
    for part in ('', ' side')}

DETERMINERS = frozenset({'the', 'a', 'an', 'my', 'your', 'our', 'his', 'her', 'its', 'this', 'that',
                         'some', 'any'})
VIEWERS = frozenset({'me', 'myself', 'you', 'us', 'here', 'robot', 'camera', 'viewer'})
# Before a relation they only say how the thing is held.
STANDING = frozenset({'standing', 'sitting', 'lying', 'laying', 'placed', 'resting', 'located',
                      'hanging', 'mounted', 'stored', 'kept', 'put', 'left', 'that', 'which', 'is',
                      "that's", 'are', 'stands', 'sits', 'lies', 'and', 'directly', 'right', 'just',
                      'immediately', 'to', 'also'})
LEADS = ('where is', 'where are', "where's", 'find', 'find me', 'show me', 'look for',
         'search for', 'bring me', 'get me', 'fetch me', 'give me', 'go to', 'pick up', 'point to')
VIEWS = ('as seen from', 'seen from', 'as viewed from', 'viewed from', 'looking from')
# Their sense is lost on an encoder of a whole phrase, and the grammar has no rule for them.
UNKNOWN = frozenset({'not', 'no', 'without', 'except', 'than', 'around', 'against', 'across',
                     'opposite', 'outside', 'facing', 'along', 'among', 'amid'})
ORDERS = ('from the left', 'from the right', 'from left', 'from right', 'other than')
# As an anchor they need the shape of something else.
EXTENTS = frozenset({'middle', 'center', 'centre', 'corner', 'edge', 'end'})
PRONOUNS = frozenset({'it', 'them', 'him', 'this', 'that', 'these', 'those', 'which', 'each',
                      'both', 'one', 'ones', 'other', 'another'})
LINKS = frozenset({'with', 'of', 'for', 'to', 'from', 'showing', 'made'})
IDIOMS = frozenset({'corn on the cob', 'jack in the box', 'hole in the wall', 'pig in a blanket',
                    'toad in the hole', 'fly on the wall', 'ship in a bottle',
                    'writing on the wall'})

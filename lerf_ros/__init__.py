# SPDX-License-Identifier: Apache-2.0
"""Language embedded radiance fields: a place is photographed, mapped, and asked in words.

    from lerf_ros import MapQuery, Mapper, load_folder

    capture = load_folder('kitchen')                    # transforms.json and images, or an export
    mapper = Mapper.open('maps/kitchen', metric=capture.metric)
    mapper.learn(capture.frames, steps=2000)
    answer = MapQuery.open('maps/kitchen').answer('red mug')
    print(answer.presence, [hit.position for hit in answer.hits])

`QueryRequest` asks for more than a phrase, `LerfConfig` holds all settings. Nothing here needs ROS;
the nodes are in lerf_ros/nodes, the method on one page in lerf_ros/lerf.py.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lerf_ros.config import LerfConfig
    from lerf_ros.frames.captures.load import load_folder
    from lerf_ros.map_query import MapQuery
    from lerf_ros.mapper import Mapper
    from lerf_ros.query.answer import Answer
    from lerf_ros.query.request import QueryRequest

__all__ = ['Answer', 'LerfConfig', 'MapQuery', 'Mapper', 'QueryRequest', 'load_folder']

__version__ = '0.1.0'   # also in setup.py, package.xml and CHANGELOG.rst

# From the source tree, find the generated msg and srv in the installed package.
__path__ = extend_path(__path__, __name__)

# Loaded when they are asked for: torch takes seconds, and a node that only converts needs none.
_MODULES = {'Answer': 'query.answer', 'LerfConfig': 'config', 'MapQuery': 'map_query',
            'Mapper': 'mapper', 'QueryRequest': 'query.request',
            'load_folder': 'frames.captures.load'}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first asked for; AttributeError for others."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)

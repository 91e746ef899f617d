# SPDX-License-Identifier: Apache-2.0
"""Writes docs/parameters.md from the settings themselves: python scripts/parameter_table.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lerf_ros.config import LerfConfig
from lerf_ros.nodes.common.node_config import MapperNodeConfig, QueryNodeConfig
from lerf_ros.nodes.demo.config import DemoClientConfig, ReplayConfig, SimCameraConfig
from lerf_ros.settings import flat_fields

TARGET = Path(__file__).resolve().parent.parent / 'docs' / 'parameters.md'
HEAD = """# Parameters

Written by `scripts/parameter_table.py` from the dataclasses that hold the defaults; a test compares
the two. Precedence: dataclass, preset, params file, launch argument. Lengths in *scene radii* are
parts of the radius of the scene frame (`scene.radius`); *world units* are metres in a metric map.

A map keeps the settings that it was made with. Answers follow one rule, in the node and on the
command line: a setting of `query`, `features` or `grasp` that is given by name (params file, launch
argument, `-p`, `--set`) wins over that of the map, and that one over presets and defaults. `ros2
param get` shows what is in force. `query.*` and `grasp.*` of query_node can be set while it runs
and count from the next query on; a request to set any other is refused with the reason.
"""


def table(title: str, config: Any) -> str:
    """One section with a row for every setting."""
    rows = [f'\n## {title}\n', '| parameter | default | unit, range | meaning |',
            '|---|---|---|---|']
    for name, field, value in flat_fields(config):
        low, high, choices = (field.metadata.get(k) for k in ('low', 'high', 'choices'))
        limits = ' or '.join(choices) if choices else '' if low is None else f'{low:g} to {high:g}'
        unit = ', '.join(filter(None, [field.metadata.get('unit', ''), limits]))
        shown = list(value) if isinstance(value, tuple) else value
        rows.append(f'| `{name}` | `{shown}` | {unit} | {field.metadata.get("doc", "")} |')
    return '\n'.join(rows) + '\n'


def document() -> str:
    """The whole file."""
    return HEAD + ''.join(table(title, config) for title, config in (
        ('The core: mapper_node, and `--set` of the command line', LerfConfig()),
        ('mapper_node', MapperNodeConfig()),
        ('query_node (and `query.*`, `features.*` of the core)', QueryNodeConfig()),
        ('sim_camera_node', SimCameraConfig()),
        ('replay_node', ReplayConfig()),
        ('demo_client_node', DemoClientConfig())))


if __name__ == '__main__':
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(document())
    print(TARGET)

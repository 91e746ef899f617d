# SPDX-License-Identifier: Apache-2.0
"""What `import lerf_ros` gives to a person with a notebook: the example of its docstring runs."""

import re
import subprocess
import sys

import numpy as np
import pytest
from tiny_world import ColorEncoder, orbit, photograph

import lerf_ros
from lerf_ros.asked_map import AskedMap
from lerf_ros.frames.frame import Keyframe
from lerf_ros.map_query import MapQuery
from lerf_ros.storage.keyframe_files import KeyframeFiles
from lerf_ros.submap_query import SubmapQuery

NAMES = ['Answer', 'LerfConfig', 'MapQuery', 'Mapper', 'QueryRequest', 'load_folder']


def example() -> str:
    """The indented lines of the docstring, up to the first sentence after them."""
    return re.search(r'\n    from (?:.*\n|\n)+?(?=\n`)', lerf_ros.__doc__).group(0)


def test_the_example_maps_a_folder_and_asks_it(tmp_path, monkeypatch, capsys):
    capture = KeyframeFiles(tmp_path / 'kitchen', metric=True)
    for number, T_world_camera in enumerate(orbit(10)):
        capture.add(Keyframe(number, photograph(T_world_camera, number)))
    capture.write_transforms()
    monkeypatch.chdir(tmp_path)
    for place in ('lerf_ros.mapper.load_encoder', 'lerf_ros.map_query.load_encoder'):
        monkeypatch.setattr(place, lambda *_, **__: ColorEncoder())
    text = '\n'.join(line[4:] for line in example().split('\n'))
    assert len([line for line in text.split('\n') if line.strip()]) == 6
    space = {}
    exec(text.replace('steps=2000', 'steps=8').replace('red mug', 'red'), space)
    assert isinstance(space['answer'], lerf_ros.Answer)
    assert space['mapper'].steps == 8
    assert all(np.isfinite(hit.position).all() for hit in space['answer'].hits)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize('name', NAMES)
def test_every_public_name_is_there(name):
    assert name in lerf_ros.__all__
    assert getattr(lerf_ros, name).__name__ == name


def test_there_are_no_other_names():
    assert sorted(lerf_ros.__all__) == NAMES
    with pytest.raises(AttributeError, match='has no attribute'):
        getattr(lerf_ros, 'Anything')  # noqa: B009


def test_the_package_alone_loads_no_torch():
    code = "import sys, lerf_ros; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('kind', [MapQuery, SubmapQuery])
def test_every_map_offers_what_nodes_and_commands_ask_of_it(kind, tmp_path):
    asked = {name for name in vars(AskedMap) if not name.startswith('_')}
    assert {'surface', 'ask', 'refresh', 'frame_id'} <= asked
    assert not asked - set(dir(kind(tmp_path)))

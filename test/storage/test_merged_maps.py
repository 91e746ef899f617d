# SPDX-License-Identifier: Apache-2.0
"""Two maps in different frames become one, in the frame of the first; both stay as they are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_made_map import WordEncoder, cube_index, write_map

from lerf_ros.cli import main
from lerf_ros.config import LerfConfig
from lerf_ros.errors import (
    BadImageError,
    ConfigError,
    EncoderMismatchError,
    ForeignFolderError,
    InvalidRequestError,
    LerfError,
    LockedError,
    MapInTheWayError,
    MapUnreadableError,
)
from lerf_ros.geometry.rigid import rigid_transform
from lerf_ros.geometry.submap_lattice import SubmapLattice
from lerf_ros.query.request import KeyframeCrop, QueryRequest
from lerf_ros.storage.lock import FolderLock
from lerf_ros.storage.merged_maps import merge_maps
from lerf_ros.storage.saved_maps import SavedMaps, verify
from lerf_ros.storage.submaps import SubmapFolder, SubmapSet
from lerf_ros.submap_mapper import SubmapMapper
from lerf_ros.submap_query import SubmapQuery

# B is turned by a quarter to the left, and 1 m ahead and 0.5 m left: (x, y) in B is
# (1 - y, 0.5 + x) in A.
T_A_B = rigid_transform([1.0, 0.5, 0.0, 0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
IN_A = {'mug': ((0.0, 0.0, 0.05), 0.10), 'plate': ((0.5, 0.0, 0.04), 0.08)}
IN_B = {'plate': ((-0.5, 0.5, 0.04), 0.08), 'ball': ((0.4, -0.8, 0.03), 0.06)}
# Where they are in the frame of A: the plate that both saw, and what one of them saw.
MERGED = {'mug': (0.0, 0.0, 0.05), 'plate': (0.5, 0.0, 0.04), 'ball': (1.8, 0.9, 0.03)}


def halves(folder):
    return (write_map(folder / 'a', cube_index(IN_A)), write_map(folder / 'b', cube_index(IN_B)))


def as_submaps(folder, *maps):
    """A map of submaps with cubes 2.4 m wide, 1.8 m apart; each has an own map, moved there."""
    made = SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), 1.2, 0.25))
    places = []
    for number, (cubes, x) in enumerate(maps):
        moved = {word: ((c[0] + x, *c[1:]), edge) for word, (c, edge) in cubes.items()}
        write_map(SubmapFolder(folder).path_of(number), cube_index(moved))
        made = made.with_cell((round(x / 1.8), 0, 0))
        places.append(made)
    SubmapFolder(folder, True).write(made)
    return folder


def asked(folder):
    query = SubmapQuery(folder, encoder=WordEncoder())
    query.refresh()
    return query


def hits(query, word):
    return query.ask(QueryRequest(word, plan_grasps=False)).hits


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_both_halves_answer_in_the_frame_of_the_first_and_a_shared_thing_is_one_hit(tmp_path):
    a, b = halves(tmp_path)
    before = content(a), content(b)
    made = merge_maps(a, b, T_A_B, tmp_path / 'c')
    assert (made.submaps, made.keyframes, made.metric) == (2, 2, True)
    query = asked(tmp_path / 'c')
    for word, place in MERGED.items():
        found = hits(query, word)
        assert len(found) == 1, word
        np.testing.assert_allclose(found[0].position, place, atol=5e-3)
    assert not query.ask(QueryRequest('texture', plan_grasps=False)).hits
    assert (content(a), content(b)) == before
    assert not list(tmp_path.glob('.lerf_ros*'))


def test_keyframes_of_one_number_in_two_maps_are_two(tmp_path):
    merge_maps(*halves(tmp_path), T_A_B, tmp_path / 'c')
    frames = json.loads((tmp_path / 'c' / 'transforms.json').read_text())['frames']
    assert [frame['file_path'] for frame in frames] == [
        'submaps/0000/images/000000.png', 'submaps/0001/images/000000.png']
    np.testing.assert_allclose(np.array(frames[1]['transform_matrix'])[:3, 3], [1.0, 0.5, 0.0],
                               atol=1e-9)
    crop = KeyframeCrop(0, 12, 12, 20, 10)
    with pytest.raises(BadImageError, match='several of the maps'):
        asked(tmp_path / 'c').ask(QueryRequest(crop=crop))


def test_submaps_are_taken_over_with_their_cubes_and_merged_maps_merge_again(tmp_path):
    a = as_submaps(tmp_path / 'a', (IN_A, 0.0), ({'ball': IN_B['ball']}, 1.8))
    b = write_map(tmp_path / 'b', cube_index(IN_B))
    far = rigid_transform([10.0, 0, 0, 0, 0, 0, 1])
    made = merge_maps(a, b, far, tmp_path / 'c')
    assert (made.submaps, made.keyframes) == (3, 2)         # both submaps of A have keyframe 0
    merged = SubmapFolder(tmp_path / 'c').read()
    assert [p.source for p in merged.places] == [0, 0, 1] and merged.merged
    assert [merged.lattice_of(k).radius for k in range(3)] == [1.2, 1.2, 1.0]
    np.testing.assert_allclose(merged.middle(1), [1.8, 0, 0])
    np.testing.assert_allclose(merged.middle(2), [10, 0, 0])
    again = merge_maps(b, tmp_path / 'c', far, tmp_path / 'd')
    assert again.submaps == 4
    assert [p.source for p in SubmapFolder(tmp_path / 'd').read().places] == [0, 1, 1, 2]
    balls = sorted(hit.position[0] for hit in hits(asked(tmp_path / 'd'), 'ball'))
    np.testing.assert_allclose(balls, [0.4, 12.2, 20.4], atol=5e-3)


def test_a_merged_map_is_saved_and_loaded_and_not_mapped_on(tmp_path):
    merge_maps(*halves(tmp_path), T_A_B, tmp_path / 'c')
    saved = SavedMaps(tmp_path / 'saved')
    saved.save(SubmapFolder(tmp_path / 'c'), 'both')
    assert verify(SubmapFolder(tmp_path / 'saved' / 'both')) == 2
    with pytest.raises(ConfigError, match='asked, but not mapped on'):
        SubmapMapper(LerfConfig(), tmp_path / 'c', WordEncoder(), 'map', True)


def encoder_of_another(folder):
    write_map(folder / 'other', encoder='other')
    return folder / 'other'


def of_poses_alone(folder):
    return write_map(folder / 'other', metric=False)


def damaged(folder):
    index = next(write_map(folder / 'other').rglob('index.safetensors'))
    index.write_bytes(index.read_bytes()[:-1] + b'x')
    return folder / 'other'


@pytest.mark.parametrize('make, error, words', [
    (encoder_of_another, EncoderMismatchError, 'encoder words .*with other'),
    (of_poses_alone, MapUnreadableError, 'a is metric and .*other is not metric'),
    (damaged, MapUnreadableError, 'damaged'),
    (lambda folder: folder / 'nowhere', MapUnreadableError, 'there is no map')])
def test_maps_that_cannot_be_one_are_refused(tmp_path, make, error, words):
    with pytest.raises(error, match=words):
        merge_maps(write_map(tmp_path / 'a'), make(tmp_path), np.eye(4), tmp_path / 'c')
    assert not (tmp_path / 'c').exists() and not list(tmp_path.glob('.lerf_ros*'))


def test_only_an_empty_folder_becomes_a_merged_map(tmp_path):
    a, b = halves(tmp_path)
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'chapter.tex').write_text('mine')
    (tmp_path / 'empty').mkdir()
    for out, error in ((tmp_path / 'thesis', ForeignFolderError), (a, ForeignFolderError),
                       (a / 'in', ForeignFolderError),
                       (write_map(tmp_path / 'old'), MapInTheWayError)):
        before = content(out) if out.exists() else None
        with pytest.raises(error):
            merge_maps(a, b, np.eye(4), out)
        assert (content(out) if out.exists() else None) == before
    with FolderLock(b), pytest.raises(LockedError, match='save the map'):
        merge_maps(a, b, np.eye(4), tmp_path / 'empty')
    assert merge_maps(a, b, np.eye(4), tmp_path / 'empty').submaps == 2


UNIT = np.eye(4)


@pytest.mark.parametrize('numbers, words', [
    ([0.0] * 6, 'these are 6'),
    ([0, 0, 0, 0, 0, 0, 2], 'has length 1, and this one 2'),
    ([0, 0, 0, 0, 0, 0, np.nan], 'finite'),
    (np.diag([0.5, 0.5, 0.5, 1]), 'scales by 0.5'),
    (np.diag([1, 2, 1, 1]), 'scales y by 2'),
    (np.diag([1, 1, -1, 1]), r'mirrors an axis \(z'),
    (UNIT + np.eye(4, k=1) * 0.3, 'last row|right angles'),
    (np.vstack([UNIT[:3], [1, 2, 3, 1]]), 'the last row')])
def test_a_transform_that_is_not_rigid_is_named(numbers, words):
    with pytest.raises(InvalidRequestError, match=words):
        rigid_transform(np.ravel(numbers).tolist())


def test_rounded_numbers_of_a_rotation_are_made_exact():
    T = rigid_transform([1, 2, 3, 0, 0, 0.7071, 0.7071])
    np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-9)


def test_the_command_merges_and_says_what_came_of_it(tmp_path, capsys):
    a, b = map(str, halves(tmp_path))
    file = tmp_path / 't.json'
    file.write_text(json.dumps(T_A_B.tolist()))
    assert main(['merge', a, b, '--transform', str(file), '--out', str(tmp_path / 'c')]) == 0
    assert f'c: 2 submaps, 2 keyframes, in the frame of {a}' in capsys.readouterr().out
    for text, words in (('-1 0 0 0 0 0 3', 'length 1'), ('nowhere.json', 'neither seven numbers'),
                        ('1 2 3 a b c d', 'seven numbers')):
        assert main(['merge', a, b, '--transform', text, '--out', str(tmp_path / 'd')]) == 2
        assert words in capsys.readouterr().err and not Path(tmp_path / 'd').exists()
    assert issubclass(InvalidRequestError, LerfError)


def test_places_that_are_not_merged_are_stored_as_before(tmp_path):
    folder = SubmapFolder(tmp_path / 'map')
    made = SubmapSet.begin(SubmapLattice((0.0, 0.0, 0.0), 1.2, 0.25)).with_cell((1, 0, 0))
    folder.write(made)
    stored = json.loads((tmp_path / 'map' / 'submaps.json').read_text())
    assert stored['format'] == 2 and set(stored['submaps'][0]) == {'cell', 'T_map_submap'}
    own = SubmapLattice((5.0, 0.0, 0.0), 0.5, 0.25)
    folder.write(replace(made, places=(*made.places, replace(
        made.places[0], lattice=own, source=1))))
    read = folder.read()
    assert read.merged and read.lattice_of(1) == own and read.lattice_of(0).radius == 1.2
    assert json.loads((tmp_path / 'map' / 'submaps.json').read_text())['format'] == 3

# SPDX-License-Identifier: Apache-2.0
"""Which file a capture's names mean, and captures that list files which do not exist."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_capture import blue, write_capture

from lerf_ros.errors import DatasetError
from lerf_ros.frames.captures.file_finder import FileFinder
from lerf_ros.frames.captures.load import load_folder


def rename(change):
    """Writes another file_path for each frame than the one its image has."""
    def edit(frame, number):
        frame['file_path'] = change(frame['file_path'])
    return edit


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Files whose names another system might write in another way, and what is not meant."""
    root = tmp_path_factory.mktemp('tree')
    for name in ('images/a b.png', 'images/Größe 日本.JPG', 'depth/a b.png', 'other/c.png',
                 'images_2/a b.png'):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b'x')
    return root


SPELLINGS = {
    'separators of Windows': lambda p: p.replace('/', '\\'),
    'dots': lambda p: f'./{p}',
    'up and down': lambda p: f'images/../{p}',
    'no ending': lambda p: p.rsplit('.', 1)[0],
    'another Unicode form': lambda p: unicodedata.normalize('NFD', p),
    'another case': str.upper,
    'another machine': lambda p: f'/home/somebody/captures/kitchen/{p}',
    'another machine with Windows': lambda p: 'C:\\Users\\x y\\' + p.replace('/', '\\'),
    'from elsewhere': lambda p: f'../../data/kitchen/{p}',
}


@given(st.sampled_from(['images/a b.png', 'images/Größe 日本.JPG']),
       st.lists(st.sampled_from(sorted(SPELLINGS)), max_size=3, unique=True))
def test_every_spelling_of_a_path_finds_the_file(tree, name, spellings):
    written = name
    # A spelling of Windows comes last: the others are made of slashes.
    for spelling in sorted(spellings, key=lambda s: 'Windows' in s):
        written = SPELLINGS[spelling](written)
    assert FileFinder(tree).find(written).samefile(tree / name)


@pytest.mark.parametrize('written', [
    'images/b.png', '', '.', 'images', 'rgb/nothing', '/etc/none.png', 'nowhere/../d.png'])
def test_what_does_not_exist_is_not_found(tree, written):
    assert FileFinder(tree).find(written) is None


def test_a_name_that_several_files_share_is_none_of_them(tree):
    (tree / 'rgb').mkdir()
    (tree / 'rgb' / 'a b.png').write_bytes(b'x')
    try:
        # Of images/, images_2/ and rgb/ any could be meant; depth/ never is.
        assert FileFinder(tree).find('lost/a b.png') is None
    finally:
        (tree / 'rgb' / 'a b.png').unlink()
        (tree / 'rgb').rmdir()


def test_depth_is_never_taken_for_colour_nor_colour_for_depth(tmp_path):
    (tmp_path / 'depth').mkdir()
    (tmp_path / 'depth' / 'a.png').write_bytes(b'x')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'b.png').write_bytes(b'x')
    finder = FileFinder(tmp_path)
    assert finder.find('rgb/a.png') is None
    assert finder.find('rgb/b.png') == tmp_path / 'images' / 'b.png'
    assert finder.find('elsewhere/b.png', colour=False) is None


def test_no_ending_is_no_guess_between_two_images(tmp_path):
    for name in ('a.png', 'a.jpg', 'b.png', 'b.depth.png', 'b.txt'):
        (tmp_path / name).write_bytes(b'x')
    finder = FileFinder(tmp_path)
    assert finder.find('a') is None
    assert finder.find('b') == tmp_path / 'b.png'


def test_paths_of_colmap2nerf_are_resolved_and_it_is_said_once(tmp_path):
    write_capture(tmp_path, 3, rename(lambda p: f'./../data/fox/{p}'))
    folder = load_folder(tmp_path)
    assert [blue(f) for f in folder.frames] == [40, 60, 80]
    assert len(folder.notes) == 1 and 'found by the end of their paths' in folder.notes[0]
    assert '2 others' in folder.notes[0]


def test_images_beside_the_folder_of_transforms_json(tmp_path):
    write_capture(tmp_path)
    (tmp_path / 'colmap').mkdir()
    (tmp_path / 'transforms.json').rename(tmp_path / 'colmap' / 'transforms.json')
    assert len(load_folder(tmp_path / 'colmap').frames) == 3


def test_missing_images_are_left_out_and_named(tmp_path):
    write_capture(tmp_path, 9)
    for number in (1, 4, 5, 7):
        (tmp_path / f'images/{number:03d}.png').unlink()
    folder = load_folder(tmp_path)
    assert folder.names == tuple(f'images/{n:03d}.png' for n in (0, 2, 3, 6, 8))
    assert [f.stamp_ns // 100_000_000 for f in folder.frames] == [0, 2, 3, 6, 8]
    assert folder.notes == ('images that do not exist are left out (4 images: images/001.png, '
                            'images/004.png, images/005.png, ...)',)


@pytest.mark.parametrize('count, gone', [(9, 5), (2, 1), (1, 1)])
def test_too_many_missing_images_are_refused(tmp_path, count, gone):
    write_capture(tmp_path, count)
    for number in range(gone):
        (tmp_path / f'images/{number:03d}.png').unlink()
    with pytest.raises(DatasetError, match=f'lists {count} images, {gone} of them do not exist'):
        load_folder(tmp_path)


def test_nothing_may_be_missing_where_it_is_so_asked(tmp_path):
    write_capture(tmp_path, 9)
    (tmp_path / 'images/000.png').unlink()
    with pytest.raises(DatasetError, match='at most 0% may be missing'):
        load_folder(tmp_path, most_missing=0.0)


def test_one_image_has_one_pose(tmp_path):
    write_capture(tmp_path, 3, rename(lambda p: 'images/000.png'))
    with pytest.raises(DatasetError, match='with a pose each'):
        load_folder(tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    content['frames'] = content['frames'][:1] * 3
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    folder = load_folder(tmp_path)
    assert len(folder.frames) == 1 and 'listed twice' in folder.notes[0]


def test_a_byte_order_mark_is_no_error(tmp_path):
    write_capture(tmp_path)
    path = tmp_path / 'transforms.json'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert len(load_folder(tmp_path).frames) == 3


def test_the_file_itself_can_be_given_and_the_file_of_blenders_scenes(tmp_path):
    write_capture(tmp_path)
    assert len(load_folder(tmp_path / 'transforms.json').frames) == 3
    (tmp_path / 'transforms.json').rename(tmp_path / 'transforms_train.json')
    folder = load_folder(tmp_path)
    assert len(folder.frames) == 3 and 'transforms_train.json is read' in folder.notes[-1]
    assert load_folder(tmp_path / 'transforms_train.json').notes == ()


def test_what_the_file_takes_out_is_taken_out(tmp_path):
    def bad(frame, number):
        frame['is_bad'] = number == 2
    folder = load_folder(write_capture(tmp_path, 12, bad, n_frames=10))
    assert folder.names == tuple(f'images/{n:03d}.png' for n in (0, 1, 3, 4, 5, 6, 7, 8, 9))
    assert len(folder.notes) == 2
    with pytest.raises(DatasetError, match='none is left'):
        load_folder(write_capture(tmp_path, 2, lambda f, n: f.update(is_bad=True)))


@pytest.mark.parametrize('name, part', [
    ('poses_bounds.npy', 'LLFF'), ('meta_data.json', 'SDFStudio'), ('metadata.yaml', 'rosbag2'),
    ('database.db', 'colmap mapper'), ('cameras.xml', 'ns-process-data metashape'),
    ('nothing', 'transforms.json')])
def test_other_layouts_are_refused_with_a_way_out(tmp_path, name, part):
    (tmp_path / name).write_bytes(b'{}')
    with pytest.raises(DatasetError, match=part):
        load_folder(tmp_path)


@pytest.mark.parametrize('name, part', [
    ('a.zip', 'unpack'), ('a.mp4', 'ns-process-data video'), ('a.bag', 'rosbags-convert'),
    ('a.mcap', 'replay node'), ('a.odd', 'is no capture')])
def test_other_files_are_refused_with_a_way_out(tmp_path, name, part):
    (tmp_path / name).write_bytes(b'x')
    with pytest.raises(DatasetError, match=part):
        load_folder(tmp_path / name)

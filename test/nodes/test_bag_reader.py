# SPDX-License-Identifier: Apache-2.0
"""Bags as people have them: lone files, killed recorders, damage, ROS 1; no ROS is needed."""

import shutil

import numpy as np
import pytest

from lerf_ros.errors import DatasetError

rosbag2 = pytest.importorskip('rosbags.rosbag2')
typesys = pytest.importorskip('rosbags.typesys')

from lerf_ros.nodes.demo.bags import Bag  # noqa: E402

COUNT, START_NS = 6, 1_700_000_000 * 10**9


def write(path, plugin, mode=None):
    """A bag of COUNT points whose x is their number."""
    types = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    writer = rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[plugin])
    if mode:
        writer.set_compression(rosbag2.CompressionMode[mode], rosbag2.CompressionFormat.ZSTD)
    Point = types.types['geometry_msgs/msg/Point']
    with writer:
        connection = writer.add_connection('/point', 'geometry_msgs/msg/Point', typestore=types)
        for number in range(COUNT):
            writer.write(connection, START_NS + number, types.serialize_cdr(
                Point(float(number), 0.0, 0.0), 'geometry_msgs/msg/Point'))
    return path


def numbers(bag):
    """The x of each message: the first double after CDR's four bytes."""
    return [np.frombuffer(raw, '<f8', 1, 4)[0] for _, _, raw in bag.messages()]


def storage(folder):
    """The storage file of a bag."""
    return next(p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3'))


@pytest.mark.parametrize('plugin', ['MCAP', 'SQLITE3'])
def test_a_lone_storage_file_is_played(tmp_path, plugin):
    folder = write(tmp_path / 'bag', plugin)
    file = storage(folder)
    for path in (folder, file, folder / 'metadata.yaml'):
        bag = Bag(path)
        assert bag.count == COUNT and [t.name for t in bag.topics] == ['/point']
        assert numbers(bag) == list(range(COUNT)) == numbers(bag)   # any number of times
    (folder / 'metadata.yaml').unlink()
    assert numbers(Bag(folder)) == list(range(COUNT))


@pytest.mark.parametrize('plugin, mode', [
    ('SQLITE3', 'FILE'), ('SQLITE3', 'MESSAGE'), ('MCAP', 'STORAGE')])
def test_compressed_bags_are_played(tmp_path, plugin, mode):
    assert numbers(Bag(write(tmp_path / 'bag', plugin, mode))) == list(range(COUNT))


def test_compressed_messages_without_the_file_that_says_so_are_no_messages(tmp_path):
    folder = write(tmp_path / 'bag', 'SQLITE3', 'MESSAGE')
    with pytest.raises(DatasetError, match='compressed one by one: ros2 bag reindex'):
        numbers(Bag(storage(folder)))


def cut(folder, share):
    """As a recorder leaves it that was killed."""
    file = storage(folder)
    data = file.read_bytes()
    file.write_bytes(data[:int(len(data) * share)])


@pytest.mark.parametrize('share', [0.3, 0.66, 0.97])
def test_a_killed_recorders_mcap_names_mcap_recover(tmp_path, share):
    folder = write(tmp_path / 'bag', 'MCAP')
    cut(folder, share)
    for path in (folder, storage(folder)):
        with pytest.raises(DatasetError, match=r'mcap recover .*bag\.mcap -o .*recovered\.mcap'):
            Bag(path)


@pytest.mark.parametrize('data, part', [
    (b'', 'wrote nothing'),
    # The header record of a file with the profile ros1 and no library.
    (b'\x89MCAP0\r\n\x01' + (12).to_bytes(8, 'little') + b'\x04\0\0\0ros1\0\0\0\0',
     'convert the .bag with rosbags-convert')])
def test_an_mcap_that_ros_2_did_not_write(tmp_path, data, part):
    (tmp_path / 'a.mcap').write_bytes(data)
    with pytest.raises(DatasetError, match=part):
        Bag(tmp_path / 'a.mcap')


def test_a_damaged_database_names_sqlites_recover(tmp_path):
    folder = write(tmp_path / 'bag', 'SQLITE3')
    file = storage(folder)
    data = bytearray(file.read_bytes())
    data[100:] = bytes(len(data) - 100)
    file.write_bytes(data)
    with pytest.raises(DatasetError, match='recover'):
        numbers(Bag(folder))


def test_other_broken_bags_say_what_to_do(tmp_path):
    folder = write(tmp_path / 'bag', 'MCAP')
    shutil.copytree(folder, tmp_path / 'two')
    shutil.copy(storage(tmp_path / 'two'), tmp_path / 'two' / 'more.mcap')
    (tmp_path / 'two' / 'metadata.yaml').unlink()
    storage(folder).unlink()
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    (tmp_path / 'a.zstd').write_bytes(b'x')
    (tmp_path / 'empty').mkdir()
    for name, part in (('bag', 'copy them as well, or .*ros2 bag reindex'),
                       ('two', '2 storage files and no metadata.yaml.*ros2 bag reindex'),
                       ('old.bag', 'rosbags-convert --src'), ('a.zstd', 'zstd -d'),
                       ('none', 'no such folder or file'), ('empty', 'rosbags-convert'),
                       ('.', r'is it .*/bag\?')):
        with pytest.raises(DatasetError, match=part):
            Bag(tmp_path / name)
    (folder / 'metadata.yaml').write_text('nonsense: [')
    with pytest.raises(DatasetError, match='ros2 bag reindex|mcap recover'):
        Bag(folder)

# SPDX-License-Identifier: Apache-2.0
"""Whatever lies where lerf_ros is told to write: what others wrote is there afterwards, every byte.

The commands and the mapping process run with a mapper that learns nothing but stores as the real
one does. LERF_ROS_EXAMPLES sets how many trees are tried.
"""

import contextlib
import os
import queue
import tempfile
from argparse import Namespace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from full_answer import full_answer

pytest.importorskip('hypothesis', reason='pip install hypothesis')
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lerf_ros.encoders.image_text
from lerf_ros import cli, processes
from lerf_ros.commands.query import claim_folders
from lerf_ros.config import LerfConfig
from lerf_ros.encoders import cache as features_cache
from lerf_ros.encoders.cache import write_file
from lerf_ros.errors import LerfError
from lerf_ros.evaluation import command as eval_report
from lerf_ros.evaluation.records import EvalResults
from lerf_ros.frames.frame import Frame, Keyframe
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.mapping import loop as loop_module
from lerf_ros.mapping import making
from lerf_ros.mapping import reindex as stored_map
from lerf_ros.mapping.keyframes import KeyframeQueue
from lerf_ros.mapping.loop import Loop
from lerf_ros.mapping.messages import Channels, Load, Reset
from lerf_ros.mapping.single_map import SingleMap
from lerf_ros.show.files import export_answer
from lerf_ros.storage.map_directory import FEATURES, MapDirectory
from lerf_ros.storage.output_folder import OutputFolder
from lerf_ros.storage.saved_maps import SavedMaps
from lerf_ros.training.quality import Quality

EXAMPLES = int(os.environ.get('LERF_ROS_EXAMPLES', '15'))
CAMERA = PinholeCamera(4, 3, 3.0, 3.0, 2.0, 1.5)
CONFIG = LerfConfig().override({'map.keep_snapshots': 1})
SHARED_MEMORY = '/dev/shm' if os.path.isdir('/dev/shm') else None
ANSWER = full_answer()
SCENE = SceneFrame((0.0, 0.0, 0.0), 1.0)


def frame(number):
    T = np.eye(4)
    T[0, 3] = number
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return Frame(number + 1, pixels, CAMERA, T,
                 np.full((3, 4), 1.5, np.float32))


class Encoder:
    name, dimension = 'none', 2

    def identity(self):
        return {'name': 'none'}


class StoringMapper:
    """Stores keyframes, checkpoints and snapshots as `SingleMap` does, without any training."""

    points = 1000       # of the index that no snapshot here has
    first_keyframes = 1

    meta, store, path, written = SingleMap.meta, SingleMap.store, SingleMap.path, SingleMap.written
    share_out, drop_checkpoints = SingleMap.share_out, SingleMap.drop_checkpoints
    stamps, clear, healthy = SingleMap.stamps, SingleMap.clear, SingleMap.healthy
    save, load = SingleMap.save, SingleMap.load

    def words(self):
        return []

    def seconds_to_settle(self):
        return 0.0

    def __init__(self, config, directory, encoder, frame_id, metric, cache=None):
        self.config, self.directory, self.encoder = config, directory, encoder
        self.frame_id, self.metric = frame_id, metric
        self.waiting = KeyframeQueue(directory.keyframes)
        self.quality, self.guard, self.trainer, self.settled = Quality(), None, None, False
        self.learned, self.restoring, self.ready = [], False, True
        self.loss = self.color_error = self.rays_per_second = 0.0
        self.steps, self.device = 0, 'cpu'

    @property
    def stored(self):
        return self.directory.keyframes.count

    def restore(self):
        indices = self.directory.keyframes.indices()
        self.waiting.resume(indices, self.directory.keyframes.free_index())
        self.steps = max((s.info['steps'] for s in self.directory.training_states()), default=0)

    def learn_next(self):
        if len(self.waiting):
            self.learned.append(self.waiting.pop())
        return bool(len(self.waiting))

    def train_for(self, seconds, last_step=10):
        self.steps = min(self.steps + 5, last_step)
        self.checkpoint()

    def arrays(self):
        return {'training': {'x': np.zeros(2)}, 'index': {'x': np.zeros(2)}}

    def checkpoint(self):
        self.directory.write_checkpoint(self.arrays(), {'steps': self.steps})

    def snapshot(self):
        self.directory.create(self.meta(SCENE))
        self.directory.keyframes.write_transforms()
        return self.directory.write_snapshot(
            self.arrays(), {'steps': self.steps, 'stamp_ns': 1, 'keyframes': self.stored},
            self.config.map.keep_snapshots)


@pytest.fixture(scope='module', autouse=True)
def quick():
    """No training, no encoder, no waiting for the disk."""
    with contextlib.ExitStack() as stack:
        for target, name, value in (
                (making, 'SingleMap', StoringMapper),
                (lerf_ros.encoders.image_text, 'load_encoder', lambda *_, **__: Encoder()),
                (loop_module, 'load_encoder', lambda *_, **__: Encoder()),
                (os, 'fsync', lambda _: None),
                (stored_map, 'open_stored_map', lambda path, changes: MapDirectory(path)),
                (stored_map, '_reindex',
                 lambda directory, _: directory.create(directory.meta()))):
            stack.enter_context(mock.patch.object(target, name, value))
        yield


@pytest.fixture(scope='module')
def capture(tmp_path_factory):
    """A folder of posed images, as other tools make them."""
    folder = tmp_path_factory.mktemp('captures') / 'kitchen'
    directory = MapDirectory(folder, True)
    for i in range(3):
        directory.keyframes.add(Keyframe(i, frame(i)))
    directory.keyframes.write_transforms()
    return folder


# Trees of other people's files ------------------------------------------------------------------

HASH = 'a' * 64
FOLDERS = ('images', 'depth', 'masks', 'keyframes', 'snapshots', 'checkpoints', 'features',
           '000001', '000002', 'map', 'kitchen', 'out', 'saved', '.git', '.arrived',
           '.partial-000003')
FILES = ('transforms.json', 'meta.json', 'manifest.json', 'field.safetensors', 'holiday.jpg',
         '000000.png', '000001.png', '000002.png', '000007.png', '000001.json', '000007.json',
         'results.json', 'table.md', 'contact_sheet.jpg', 'red_mug.json', 'red_mug.ply', '.lock',
         'journal.json', 'notes.txt', 'keyframe_notes.txt', '.meta.json.partial')
CONTENTS = (b'', b'precious', b'{}', b'[]', b'{"format": 3}', b'{"format": 99, "scene": null}',
            b'{"frames": [{"file_path": "images/a.png"}]}', b'{"checksum": "0", "files": {}}',
            b'{"index": 1, "frame": {}, "files": {"../precious/photo.jpg": "0"}}')
LINKS = ('../precious', '../../precious', '../precious/photo.jpg', '../../precious/photo.jpg',
         'nowhere')
folders = st.lists(st.sampled_from(FOLDERS), max_size=2)
entries = st.tuples(folders, st.sampled_from(FILES),
                    st.one_of(st.sampled_from(CONTENTS), st.binary(max_size=20)))
links = st.tuples(folders, st.sampled_from((*FILES, *FOLDERS)), st.sampled_from(LINKS))
trees = st.lists(st.one_of(entries, entries, entries, links), min_size=1, max_size=8)


def plant(folder, tree):
    """Makes the files and links where nothing is in their way."""
    for parents, name, content in tree:
        place = folder.joinpath(*parents)
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if any(p.is_symlink() for p in (place, *place.parents)) or \
                    os.path.lexists(place / name):
                continue
            if isinstance(content, bytes):
                (place / name).write_bytes(content)
            else:
                (place / name).symlink_to(content)


def state(folder):
    """Every file and link below a folder, with what is in it; links are not followed."""
    found = {}
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(place, name)
            if path.is_symlink():
                found[path] = os.readlink(path)
            elif path.is_file():
                found[path] = path.read_bytes()
    return found


# What a user can tell lerf_ros to write there ----------------------------------------------------

def command(*words):
    assert cli.main([str(word) for word in words]) in (0, 2)


def mapping(path, act):
    """The mapping process works there; it is killed, so that nothing is tidied up."""
    loop = Loop(CONFIG, str(path), 'map', True,
                Channels(queue.Queue(), queue.Queue(), queue.Queue()))
    try:
        act(loop)
    finally:
        loop.lock.release()


def some_keyframes(loop):
    loop.mapper.store(frame(5))
    loop.mapper.checkpoint()
    loop.mapper.store(frame(6))
    loop.mapper.snapshot()


def forget_one(loop):
    loop.mapper.store(frame(5))
    loop.mapper.waiting.forget(loop.mapper.directory.keyframes.indices()[0])


def features(path):
    cache = features_cache.FeatureCache(path, 1)
    cache._limit = 1
    with contextlib.suppress(OSError):      # as `store` does: without a cache all goes on
        write_file(path / f'keyframe_{HASH}.safetensors', {'x': np.zeros(3)})
        cache._shrink()


def evaluated(path):
    OutputFolder(path).claim([])
    eval_report.write_json(EvalResults().to_json(), path)
    eval_report.write(EvalResults(), path)


def exported(path):
    claim_folders(Namespace(pictures=None, export=str(path), from_above=None, map='nowhere'))
    export_answer(ANSWER, path)


# Each gets a place, a capture, and a finished map that lies elsewhere.
KEEPING = {
    'train --map': lambda at, capture, _: command('train', capture, '--map', at, '--steps', 10),
    'train': lambda at, *_: command('train', at, '--steps', 10),
    'train --map itself': lambda at, *_: command('train', at, '--map', at, '--force'),
    'train --resume': lambda at, capture, _: command(
        'train', capture, '--map', at, '--resume', '--steps', 10),
    'reindex': lambda at, *_: command('reindex', at),
    'map': lambda at, *_: mapping(at, some_keyframes),
    'save into': lambda at, _, other: SavedMaps(at).save(MapDirectory(other), 'kitchen'),
    'save as': lambda at, _, other: SavedMaps(at.parent).save(MapDirectory(other), at.name),
    'demo': lambda at, *_: processes.prepare_demo(at),
    'eval': lambda at, *_: evaluated(at),
    'export': lambda at, *_: exported(at),
    'features': lambda at, *_: features(at),
}
# What a user asks for when a map of ours shall go.
REPLACING = {
    'train --force': lambda at, capture, _: command(
        'train', capture, '--map', at, '--force', '--steps', 10),
    'reset': lambda at, *_: mapping(at, lambda loop: loop.carry_out(Reset(), 0)),
    'reset and map': lambda at, *_: mapping(at, lambda loop: (loop.carry_out(Reset(), 0),
                                                              some_keyframes(loop))),
    'forget': lambda at, *_: mapping(at, forget_one),
    'load': lambda at, _, other: mapping(at, lambda loop: loop.carry_out(
        Load(str(other.parent), other.name), 0)),
    'save over': lambda at, _, other: SavedMaps(at.parent).save(
        MapDirectory(other), at.name, overwrite=True),
    'save over one in it': lambda at, _, other: SavedMaps(at).save(
        MapDirectory(other), 'kitchen', overwrite=True),
    'clear keyframes': lambda at, *_: MapDirectory(at).clear(),
    'discard': lambda at, *_: MapDirectory(at).discard(),
}
ACTIONS = {**KEEPING, **REPLACING}
actions = st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=3)
law = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1000,
               suppress_health_check=list(HealthCheck))


@contextlib.contextmanager
def sandbox():
    """A working folder with somebody's precious photograph beside, and a map in `maps/other`."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder, \
            mock.patch.dict(os.environ, XDG_CACHE_HOME=f'{folder}/cache'):
        root = Path(folder).resolve()
        (root / 'precious').mkdir()
        (root / 'precious' / 'photo.jpg').write_bytes(b'a photograph')
        (root / 'maps').mkdir()
        own_map(root / 'maps' / 'other')
        before = Path.cwd()
        os.chdir(root)
        try:
            yield root
        finally:
            os.chdir(before)


def own_map(path, count=2):
    mapper = StoringMapper(CONFIG, MapDirectory(path, True), Encoder(), 'map', True)
    for i in range(count):
        mapper.store(frame(i))
    mapper.steps = 3
    mapper.snapshot()
    mapper.checkpoint()
    return MapDirectory(path)


def act(names, at, capture, root):
    for name in names:
        with contextlib.suppress(LerfError):
            ACTIONS[name](at, capture, root / 'maps' / 'other')


def assert_kept(before, after, names):
    lost = {path for path, content in before.items() if after.get(path) != content}
    assert not lost, (names, lost)


@given(tree=trees, names=actions)
@law
def test_foreign_folders_stay_as_they_are(capture, tree, names):
    with sandbox() as root:
        at = root / 'place'
        at.mkdir()
        plant(at, tree)
        before = {**state(at), **state(root / 'precious'), **state(capture)}
        act(names, at, capture, root)
        assert_kept(before, {**state(root), **state(capture)}, names)


@given(tree=trees, names=actions)
@law
def test_what_others_put_into_a_map_stays(capture, tree, names):
    with sandbox() as root:
        at = own_map(root / 'place').path
        own = set(state(at))
        plant(at, tree)
        before = {path: content for path, content in state(root).items()
                  if path not in own and root / 'maps' not in path.parents
                  and root / 'cache' not in path.parents}
        act(names, at, capture, root)
        assert_kept(before, state(root), names)


@given(tree=trees, names=st.lists(st.sampled_from(sorted(KEEPING)), min_size=1, max_size=3))
@law
def test_a_map_stays_until_somebody_says_that_it_may_go(capture, tree, names):
    with sandbox() as root:
        at = own_map(root / 'place').path
        plant(at, tree)
        identity = MapDirectory(at).identity()
        keyframes = {path: content for path, content in state(at).items()
                     if path.suffix == '.png' or path.parent.name == 'keyframes'}
        act(names, at, capture, root)
        assert MapDirectory(at).identity() == identity
        assert_kept(keyframes, state(at), names)


@given(tree=trees)
@law
def test_features_of_others_stay_in_a_shared_cache(tree):
    with sandbox() as root:
        plant(root / 'place', tree)
        before = state(root)
        features(root / 'place')
        assert_kept(before, state(root), 'features')


# Examples ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', sorted({*ACTIONS} - {
    'train --map itself', 'train --resume', 'features'}))   # refused; leaves as many files
def test_every_action_does_something_where_it_may(capture, name):
    """The laws above would hold as well if nothing ever ran."""
    with sandbox() as root:
        at = root / 'place'
        if name in REPLACING or name == 'reindex':
            own_map(at)
        before = state(root)
        ACTIONS[name](capture if name == 'train' else at, capture, root / 'maps' / 'other')
        assert state(root) != before


def test_the_cache_and_the_map_know_the_same_features():
    for name in (f'keyframe_{HASH}.safetensors', f'vocabulary_{HASH}.{"0" * 32}.part',
                 f'keyframe_{HASH}ab_cd123.part', 'keyframe_notes.txt', f'keyframe_{HASH}.txt'):
        assert bool(FEATURES.fullmatch(name)) == bool(features_cache.OWN.fullmatch(name))
        assert bool(FEATURES.fullmatch(name)) == ('notes' not in name and 'txt' not in name)

# SPDX-License-Identifier: Apache-2.0
"""Free pages of the heap go back to the system; without glibc nothing happens."""

import ctypes
import platform
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='ROS 2 (rclpy) is not installed')

from lerf_ros.nodes.query import heap


@pytest.fixture(autouse=True)
def fresh():
    heap._glibc.cache_clear()
    yield
    heap._glibc.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
def test_what_was_freed_in_small_pieces_is_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    # 1 kB pieces come from the heap; the last one, which stays, keeps its top from shrinking.
    pieces = [libc.malloc(1024) for _ in range(4000)]
    for piece in pieces[:-1]:
        libc.free(piece)
    assert heap.release_free_memory()
    libc.free(pieces[-1])


def test_a_users_bound_of_kernels_is_left_alone(monkeypatch):
    name, ours = heap.KERNEL_CACHE
    monkeypatch.setenv(name, '7')
    heap.limit_kernel_cache()
    assert heap.os.environ[name] == '7'
    monkeypatch.delenv(name)
    heap.limit_kernel_cache()
    assert heap.os.environ[name] == ours


def test_torch_is_not_loaded_before_the_bound_is_set():
    code = 'import sys, lerf_ros.nodes.query_node; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_another_c_library_has_nothing_to_give_back(monkeypatch):
    monkeypatch.setattr(heap.ctypes, 'CDLL', lambda name: object())
    assert not heap.release_free_memory() and not heap.limit_heaps()


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
def test_heaps_are_shared_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv('MALLOC_ARENA_MAX', '4')
    assert not heap.limit_heaps()
    monkeypatch.delenv('MALLOC_ARENA_MAX')
    assert heap.limit_heaps()

# SPDX-License-Identifier: Apache-2.0
"""Waiting keyframes: bounded in memory, on the disk as soon as it takes them, in their order."""

import numpy as np
import pytest

from lerf_ros.frames.frame import Frame
from lerf_ros.geometry.camera import PinholeCamera
from lerf_ros.mapping.keyframes import AT_HAND, UNSTORED, KeyframeQueue
from lerf_ros.storage.keyframe_files import KeyframeFiles

CAMERA = PinholeCamera(4, 3, 3.0, 3.0, 2.0, 1.5)


def frame(number):
    return Frame(number + 1, np.full((3, 4, 3), number % 256, np.uint8), CAMERA, np.eye(4))


@pytest.fixture
def files(tmp_path):
    return KeyframeFiles(tmp_path, metric=True)


def test_many_that_wait_are_read_again_from_the_disk_in_order(files):
    waiting = KeyframeQueue(files)
    for i in range(AT_HAND + 5):
        assert waiting.add(frame(i))
    assert len(waiting) == AT_HAND + 5 and len(waiting._at_hand) == AT_HAND
    assert [waiting.pop().frame.stamp_ns for _ in range(AT_HAND + 5)] == list(
        range(1, AT_HAND + 6))
    assert not waiting._at_hand


def test_a_disk_that_stays_full_costs_the_oldest_and_says_how_many(files, monkeypatch):
    def full(keyframe):
        raise OSError(28, 'No space left on device')

    waiting = KeyframeQueue(files)
    with monkeypatch.context() as patched:
        patched.setattr(files, 'add', full)
        for i in range(UNSTORED + 3):
            assert not waiting.add(frame(i))
    assert waiting.given_up == 3 and '3 of them never will be' in waiting.fault
    assert waiting.store_again() and waiting.fault == ''
    # They are learned all the same: what is not on the disk stays at hand.
    assert files.indices() == list(range(3, UNSTORED + 3))
    assert [waiting.pop().index for _ in range(UNSTORED + 3)] == list(range(UNSTORED + 3))

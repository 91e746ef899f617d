# SPDX-License-Identifier: Apache-2.0
"""Capturing and replaying a step, with CUDA graphs played on the CPU."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from lerf_ros.training import captured_step
from lerf_ros.training.captured_step import WARM_STEPS, CapturedStep
from lerf_ros.training.learners import LanguageTargetBatch

CUDA = torch.device('cuda')     # names a GPU; no test touches one


@dataclass(frozen=True)
class Plan:
    """An input with a tensor and a flag, on which the shape of the work depends."""

    values: torch.Tensor
    learn: bool = True


class PlayedGraph:
    """Replays the work that was captured, as a GPU would: on the tensors it was captured with."""

    underway: PlayedGraph | None = None

    def __init__(self):
        self.work, self.replays = [], 0

    def replay(self):
        self.replays += 1
        for run in self.work:
            run()


class PlayedEvent:
    """An event of a GPU that has always finished."""

    def record(self):
        """Does nothing: copies on a CPU are done at once."""

    def synchronize(self):
        """Does nothing."""


def move(radiance, language, plan):
    """Doubles what it is given; while it is captured it only records."""
    out = torch.zeros(3)

    def work():
        out.copy_(plan.values[:3] * 2)
        radiance.done.append(plan.learn)

    graph = PlayedGraph.underway
    if graph is None:
        work()
    else:
        graph.work.append(work)
    return out


@pytest.fixture
def cuda(monkeypatch):
    """Plays the parts of torch.cuda that the step uses."""
    @contextlib.contextmanager
    def capture(graph, *_, **__):
        PlayedGraph.underway = graph
        try:
            yield
        finally:
            PlayedGraph.underway = None

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
            'CUDAGraph': PlayedGraph, 'graph': capture, 'Event': PlayedEvent,
            'Stream': lambda: stream, 'current_stream': lambda: stream,
            'stream': lambda _: contextlib.nullcontext(),
            'graph_pool_handle': lambda: (0, 0)}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    empty = torch.empty_like
    monkeypatch.setattr(captured_step.torch, 'empty_like',
                        lambda t, pin_memory=False, **rest: empty(t, **rest))


@pytest.fixture
def learners():
    """Two learners whose descents tell nothing to the CPU."""
    return tuple(SimpleNamespace(descent=SimpleNamespace(unattended=True, generation=0), done=[])
                 for _ in range(2))


def values(number):
    return torch.full((3,), float(number))


def test_a_step_is_captured_once_and_then_replayed_on_new_inputs(cuda, learners):
    step = CapturedStep(CUDA)
    found = [step(move, *learners, Plan(values(n))).tolist()[0] for n in range(WARM_STEPS + 4)]
    # Captured at the fourth call; a replay tells what the one before it computed.
    assert found == [0.0, 2.0, 4.0, 6.0, 6.0, 8.0, 10.0]
    (held,) = step.graphs.values()
    assert held.graph.replays == 4 and len(learners[0].done) == WARM_STEPS + 4
    assert held.output.tolist() == [12.0] * 3       # the newest, on the GPU


def test_other_shapes_and_other_kinds_of_steps_have_graphs_of_their_own(cuda, learners):
    step = CapturedStep(CUDA)
    for plan in (Plan(values(1)), Plan(values(1), learn=False), Plan(torch.ones(5))):
        for _ in range(WARM_STEPS + 1):
            step(move, *learners, plan)
    assert len(step.graphs) == 3


def test_tensors_that_were_replaced_are_captured_anew(cuda, learners):
    step = CapturedStep(CUDA)
    for _ in range(WARM_STEPS + 1):
        step(move, *learners, Plan(values(1)))
    learners[1].descent.generation += 1     # as when a training state is loaded
    for _ in range(WARM_STEPS):
        step(move, *learners, Plan(values(1)))
    assert len(step.graphs) == 1
    step(move, *learners, Plan(values(1)))
    assert len(step.graphs) == 2


def test_what_cannot_be_captured_runs_as_it_is_and_says_so(cuda, learners, monkeypatch, caplog):
    @contextlib.contextmanager
    def refuse(*_, **__):
        raise RuntimeError('operation not permitted when stream is capturing\nmore')
        yield

    monkeypatch.setattr(torch.cuda, 'graph', refuse)
    step = CapturedStep(CUDA)
    found = [step(move, *learners, Plan(values(n))).tolist()[0] for n in range(WARM_STEPS + 3)]
    assert found == [2.0 * n for n in range(WARM_STEPS + 3)] and not step.graphs
    assert caplog.text.count('operation not permitted') == 1 and 'more' not in caplog.messages[0]


def test_too_little_memory_for_a_graph_is_told(cuda, learners, monkeypatch):
    @contextlib.contextmanager
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError('CUDA out of memory')
        yield

    monkeypatch.setattr(torch.cuda, 'graph', exhausted)
    step = CapturedStep(CUDA)
    for _ in range(WARM_STEPS):
        step(move, *learners, Plan(values(1)))
    with pytest.raises(torch.OutOfMemoryError):
        step(move, *learners, Plan(values(1)))
    assert step.wanted      # a smaller step may fit


@pytest.mark.parametrize('device, wanted, unattended', [
    ('cpu', True, True), ('cuda', False, True), ('cuda', True, False)])
def test_elsewhere_the_step_is_just_called(learners, device, wanted, unattended):
    learners[0].descent.unattended = unattended
    step = CapturedStep(torch.device(device), wanted)
    for number in range(WARM_STEPS + 3):
        assert step(move, *learners, Plan(values(number))).tolist() == [2.0 * number] * 3
    assert not step.graphs


def test_inputs_are_copied_through_nested_dataclasses_and_nothing_else():
    batch = LanguageTargetBatch(torch.ones(2, 3), torch.ones(2), None)
    copy = captured_step._copied(batch)
    batch.embeddings.zero_()
    assert copy.embeddings.tolist() == [[1.0] * 3] * 2 and copy.dense is None
    assert captured_step._kind(copy) == captured_step._kind(batch)
    assert captured_step._kind(LanguageTargetBatch(torch.ones(4, 3), torch.ones(4), None)) \
        != captured_step._kind(batch)

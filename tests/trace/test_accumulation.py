"""Gradients are added in place where autograd's engine does so on real tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from vramtop.trace.recorder import Recorder


def _twice(x, w):
    return x.sin() * x.cos()


def _thrice(x, w):
    return x.sin() * x.cos() * x.exp()


def _residual(x, w):
    return (x + x.sin()).cos()


def _first_is_expanded(x, w):
    return x + x.sin()


def _of_views(x, w):
    return x.sin() @ x.t().cos()


def _projections(x, w):
    return functional.linear(x, w).cos() * functional.linear(x, w).sin() * functional.linear(x, w)


@pytest.mark.parametrize(
    "act",
    [
        _twice,
        _thrice,
        _residual,
        _first_is_expanded,
        _of_views,
        _projections,
    ],
)
def test_as_on_real_tensors(act):
    def inputs():
        x = torch.ones(2, 8, 16) if act is _projections else torch.ones(16, 16)
        return x.requires_grad_().exp(), torch.ones(16, 16, requires_grad=True)

    loss = act(*inputs()).sum()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss.backward()
    counts = {event.key: event.count for event in profile.key_averages()}
    recorder = Recorder()
    with FakeTensorMode(), recorder:
        recorder.mark("forward", 1)
        loss = act(*inputs()).sum()
        recorder.mark("backward", 1)
        before = len(recorder.recording.operations)
        loss.backward()
    made = recorder.recording.operations[before:].count("aten::add.Tensor")
    assert made == counts.get("aten::add", 0)

"""Gradients are added in place where autograd's engine does so on real tensors."""

from typing import ClassVar

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from vramtop.trace.accumulation import accumulates_in_place

ADD = torch.ops.aten.add.Tensor


class _Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counting = False
        self.in_place = self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is ADD and self.counting:
            if accumulates_in_place(args):
                self.in_place += 1
                return args[0]
            self.made += 1
        return func(*args, **(kwargs or {}))


class _Keeps(torch.autograd.Function):
    kept: ClassVar[list] = []

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        _Keeps.kept.append(grad)
        return grad


def _twice(x, w):
    return x.sin() * x.cos()


def _thrice(x, w):
    return x.sin() * x.cos() * x.exp()


def _residual(x, w):
    return (x + x.sin()).cos()


def _same_gradient(x, w):
    return (x + x).cos()


def _first_is_expanded(x, w):
    return x + x.sin()


def _kept(x, w):
    return x.sin() * _Keeps.apply(x).cos()


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
        _same_gradient,
        _first_is_expanded,
        _kept,
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
    _Keeps.kept.clear()
    with FakeTensorMode(), _Counting() as mode:
        loss = act(*inputs()).sum()
        mode.counting = True
        loss.backward()
    assert (mode.in_place, mode.made) == (counts.get("aten::add_", 0), counts.get("aten::add", 0))

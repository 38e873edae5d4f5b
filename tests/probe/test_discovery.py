"""The search for what is alive: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vramtop.probe import discovery  # noqa: E402


class Marker(nn.Module):
    """Of this test alone, so that other tests' models do not matter."""


def living():
    return discovery._living({Marker})


def test_every_object_of_the_class_is_found_and_none_is_kept():
    made = [Marker() for _ in range(300)]
    gc.collect()
    gc.disable()  # a cycle would keep every object of the process
    try:
        before = [sys.getrefcount(item) for item in made]
        lists = sum(type(item) is list and len(item) > 10_000 for item in gc.get_objects())
        assert {id(item) for item in living()} == {id(item) for item in made}
        assert [sys.getrefcount(item) for item in made] == before
        now = sum(type(item) is list and len(item) > 10_000 for item in gc.get_objects())
        assert now == lists
    finally:
        gc.enable()


def test_tuples_that_other_threads_are_making_are_not_seen():
    # tuple() of a generator resizes what it makes, which fails if anybody else refers to it.
    over = threading.Event()
    wrong = []

    def make():
        try:
            while not over.is_set():
                tuple(x for x in range(2000))
        except SystemError as error:
            wrong.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        living()
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_too_much_to_look_through_is_not(monkeypatch):
    made = Marker()
    monkeypatch.setattr(discovery, "_MAX_BLOCKS", 1000)
    assert living() == []
    assert made is not None


def test_wrappers_unborn_modules_and_traced_graphs_are_no_roots():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x)

    class Wrapper(torch.optim.Optimizer):
        """As accelerate's: it has no state of its own."""

        def __init__(self, inner):
            self.inner = inner

        state = property(lambda self: self.inner.state)
        param_groups = property(lambda self: self.inner.param_groups)

    net, unborn, idle = Net(), Net.__new__(Net), Net()
    traced = torch.fx.symbolic_trace(net)
    inner = torch.optim.Adam(net.parameters())
    unstepped = torch.optim.Adam(idle.parameters())
    wrapper = Wrapper(inner)
    net(torch.ones(1, 3)).sum().backward()
    inner.step()
    found = discovery.search(torch)
    ours = {id(item) for item in (net, unborn, idle, traced, inner, unstepped, wrapper)}

    def of(items):
        return [item for item in items if id(item) in ours]

    assert of(found.optimizers) == [inner]
    assert of(found.roots) == [net]
    assert len(found.roots) + len(found.others) <= 16
    if len(found.others) < 12:  # else other tests' models have taken the places
        assert of(found.others) == [idle]

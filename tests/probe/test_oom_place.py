"""Where an exception came from, in real forwards, backwards and steps."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vramtop.probe import oom, oom_place
from vramtop.probe.faults import Faults
from vramtop.probe.gate import Gate
from vramtop.probe.oom import OomWatch
from vramtop.probe.updates import Updates


class Fails(nn.Module):
    """Fails in its second forward, which a checkpoint makes in backward; or in its first."""

    def __init__(self, at):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.calls_left = at

    def forward(self, x):
        self.calls_left -= 1
        if not self.calls_left:
            raise MemoryError
        return self.inner(x)


class Checkpointed(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return checkpoint(self.inside, x, use_reentrant=False)


class Step(torch.optim.SGD):
    def step(self, closure=None):
        if closure is not None:
            closure()
        raise MemoryError


def place(run):
    with pytest.raises(MemoryError) as caught:
        run()
    return oom_place.of_error(caught.value)


def test_the_innermost_module_of_a_forward():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Fails(1)))
    assert place(lambda: model(torch.ones(1, 4))) == ("forward", model[1][0])


def test_what_is_made_again_belongs_to_backward():
    model = Checkpointed(nn.Sequential(Fails(2)))
    loss = model(torch.ones(1, 4)).sum()
    assert place(loss.backward) == ("backward", model.inside[0])


def test_a_backward_inside_a_forward_is_no_module_of_it():
    class Outer(nn.Module):
        def forward(self, loss):
            loss.backward()

    def refuse(_):
        raise MemoryError

    x = torch.ones(1, requires_grad=True)
    y = x * 2
    y.register_hook(refuse)
    assert place(lambda: Outer()(y.sum())) == ("backward", None)


def test_a_step_and_the_forward_of_its_closure():
    model = Fails(2)
    optimizer = Step(model.parameters())
    assert place(optimizer.step) == ("step", None)
    model(torch.ones(1, 4))
    closure = lambda: model(torch.ones(1, 4))  # noqa: E731
    assert place(lambda: optimizer.step(closure)) == ("forward", model)


def test_elsewhere():
    def load():
        raise MemoryError

    assert place(load) == (None, None)


def test_the_parameter_nearest_to_a_running_backward():
    seen = []

    class Here(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            seen.append((oom_place.of_this_thread(torch), oom_place.nearest_parameter(torch)))
            return gradient

    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second(Here.apply(torch.relu(first(torch.ones(1, 4))))).sum().backward()
    ((where, parameter),) = seen
    assert where == ("backward", None)
    assert parameter is first.weight
    assert oom_place.nearest_parameter(torch) is None
    assert oom_place.of_this_thread(torch) == (None, None)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Refuses(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails at an operation of a node of backward, by its number, as an allocation in C++ does."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        node = torch._C._current_autograd_node()
        # Those that have saved something; AccumulateGrad and TBackward take no memory, nor does
        # the sum of two gradients where no mode is on.
        is_saver = node is not None and node.name().startswith(("Addmm", "Re", "Native", "Pow"))
        if is_saver and func is not torch.ops.aten.add.Tensor:
            self.left -= not torch.is_grad_enabled()
            if not self.left:
                self.expected = oom_place.nearest_parameter(torch)
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return func(*args, **(kwargs or {}))


def refused(model, number, **options):
    """What is found of a backward that fails there, and what the engine has said of itself."""
    loss = model(torch.randn(4, 8)).square().mean()
    refuses = Refuses(number)
    try:
        with refuses:
            loss.backward(**options)
    except RuntimeError as error:
        return oom_place.nearest_to_failure(torch, error), refuses.expected
    return None


@pytest.mark.parametrize(("is_checkpointed", "stride"), [(False, 1), (True, 5)])
def test_the_parameter_nearest_to_a_failed_backward(is_checkpointed, stride):
    model = nn.Sequential(*(Checkpointed(Block()) if is_checkpointed else Block() for _ in "12"))
    names = {id(p): name for name, p in model.named_parameters()}
    seen, number = set(), 1
    while (pair := refused(model, number)) is not None:
        found, expected = (names[id(parameter)].rpartition(".")[0] for parameter in pair)
        assert found == expected, number
        seen.add(found)
        number += stride
    assert len(seen) >= 4
    assert refused(model, 5, retain_graph=True)[0] is None  # no node has let go of anything


@pytest.mark.parametrize(("phase", "module"), [("backward", "h.1"), ("step", None)])
def test_where_the_engine_is_silent_the_last_peak_speaks(tmp_path, phase, module):
    """Of the same phase only."""
    updates, gate = Updates(), Gate()
    updates.put("detail cpu", {"type": "detail", "peak": {"phase": phase, "module": "h.1"}})
    failures = SimpleNamespace(on_forward=None, on_boundary=None)
    observer = SimpleNamespace(gate=gate, failures=failures, step=lambda: 812, root_modules=list)
    said = {"type": "hello", "start_time": time.time(), "argv": ["train.py"]}
    watch = OomWatch(torch, Faults(), observer, updates, lambda _: [said], lambda: tmp_path)

    def refuse(_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64")

    x = torch.ones(1, requires_grad=True)
    y = x * 2
    y.register_hook(refuse)
    with pytest.raises(RuntimeError) as caught:
        y.sum().backward()
    watch._final_error(caught.value, None)
    told = updates.last("oom")
    assert (told["phase"], told["module"], told["step"]) == ("backward", module, 812)
    assert told["module_source"] == ("last_peak" if module else None)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_allocator_that_tells_nobody_leaves_the_exceptions(monkeypatch):
    # As of cudaMallocAsync and pluggable allocators.
    def refuse(_):
        raise RuntimeError("cudaMallocAsync does not yet support attachOutOfMemoryObserver.")

    name = "_cuda_attach_out_of_memory_observer"
    monkeypatch.setattr(torch._C, name, refuse, raising=False)
    faults = Faults()
    monkeypatch.setattr(oom, "_heard_by", SimpleNamespace(_faults=faults))
    monkeypatch.setattr(oom, "_is_attached", False)
    oom._attach()
    assert not faults.off(oom.PART)
    (said,) = faults.messages
    assert said.startswith("what the allocator says of failures is off: RuntimeError: cudaMalloc")


def test_a_library_that_asks_for_less_at_once_leaves_no_file(tmp_path):
    # As cuDNN's search for an algorithm does; no boundary of the training lies between.
    observer = SimpleNamespace(
        gate=Gate(),
        failures=SimpleNamespace(on_forward=None, on_boundary=None),
        step=lambda: 812,
        root_modules=list,
    )
    updates, said = Updates(), {"type": "hello", "start_time": time.time(), "argv": ["train.py"]}
    watch = OomWatch(torch, Faults(), observer, updates, lambda _: [said], lambda: tmp_path)
    watch.allocator_failed(0, 64, 100, 50)
    watch.allocator_failed(0, 32, 100, 20)
    assert updates.last("oom")["caught_ooms"] == 1
    (path,) = tmp_path.iterdir()
    assert updates.last("oom")["file"] == str(path)
    observer.failures.on_boundary()
    assert list(tmp_path.iterdir()) == []
    assert updates.last("oom")["caught_ooms"] == 2

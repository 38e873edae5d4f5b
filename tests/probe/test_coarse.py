"""Steps that are seen from their boundaries only: compiled code, a mode of the user's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vramtop.probe import accounting  # noqa: E402
from vramtop.probe.coarse import CoarseRecording, saved_tensors  # noqa: E402
from vramtop.probe.faults import Faults  # noqa: E402
from vramtop.probe.replay import FORWARD  # noqa: E402
from vramtop.probe.updates import detail_message  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
FORWARD_BEGINS, FORWARD_ENDS = ("forward begins", 1), ("forward ends", 1)
STEP_BEGINS, STEP_ENDS = ("step begins", 2), ("step ends", 2)


def saved_bytes(output):
    storages = {t.untyped_storage().data_ptr(): t for t in saved_tensors(torch, [output])}
    return sorted(tensor.untyped_storage().nbytes() for tensor in storages.values())


def named(breakdown):
    return {key.removesuffix("_bytes"): size for key, size in breakdown.items() if size}


def test_a_step_to_the_byte():
    # As in test_recording, but only what holds at the boundaries. Parameters 848, momentum 848;
    # x 1024; of the forward the ReLU's result (2048) is saved, and there is the output (512).
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(1, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    x = torch.randn(32, 8)
    faults = Faults()

    def count(visit):
        return accounting.count(torch, [model], [optimizer], faults, visit=visit)

    found = CoarseRecording(torch, count, "of a reason")
    found.start()
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.begin_round(FORWARD_BEGINS)
    out = model(x)
    found.forward_ends(FORWARD_ENDS, ((x,), {}), out)
    out.sum().backward()
    found.step_begins(STEP_BEGINS)
    optimizer.step()
    found.step_ends(STEP_ENDS)
    optimizer.zero_grad()
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.stop()
    assert not found.exhausted
    detail = detail_message("cpu", 1, found.details()["cpu"], found.notes, [])
    assert faults.messages == []

    held = {"parameter": 848, "optimizer_state": 848}
    told = {phase["name"]: phase for phase in detail["phases"]}
    assert list(told) == ["forward", "backward", "step", "zero_grad"]
    assert told["forward"]["before_bytes"] == 1696
    assert named(told["forward"]["after"]) == {**held, "activation": 2048 + 512, "input": 1024}
    assert named(told["backward"]["after"]) == {**held, "gradient": 848}
    assert named(told["step"]["after"]) == {**held, "gradient": 848}
    assert named(told["zero_grad"]["after"]) == held
    for phase in detail["phases"]:
        assert phase["peak_bytes"] is None
    assert detail["peak"] is None
    assert detail["notes"] == ["seen from its boundaries only: of a reason"]


def test_each_saved_tensor_once():
    x = torch.randn(10, 10, requires_grad=True)
    twice = (x * x).exp()  # saves x, and the result of exp
    assert saved_bytes(twice + twice) == [400, 400]


def test_tensors_packed_by_hooks_are_left_packed():
    unpacked = []

    def unpack(packed):
        unpacked.append(packed)
        return packed[1] if isinstance(packed, tuple) else packed.float()

    x = torch.randn(100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: ("away", tensor), unpack):
        hidden = x.exp()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.half(), unpack):
        halved = x.exp()
    with torch.autograd.graph.save_on_cpu():
        offloaded = x.exp()
    assert saved_bytes(hidden) == []
    assert saved_bytes(halved) == [200]  # what is held is the half of it
    assert saved_bytes(offloaded) == []
    assert unpacked == []
    (hidden.sum() + halved.sum() + offloaded.sum()).backward()
    assert len(unpacked) == 2
    assert torch.allclose(x.grad, 3 * x.detach().exp(), rtol=0.01)


def test_a_graph_that_backward_has_been_through_keeps_nothing():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x.clone())
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            assert ctx.saved_tensors
            return 2 * gradient

    x = torch.randn(100, requires_grad=True)
    done = Double.apply(x)
    assert saved_bytes(done) == [400]
    done.sum().backward()
    assert saved_bytes(done) == []
    assert saved_bytes(done.exp()) == [400]  # built on top of it


def test_of_an_endless_graph_only_a_part_is_looked_at():
    x = torch.ones(1, requires_grad=True)
    for _ in range(30_000):
        x = x.exp()
    assert 10_000 < len(list(saved_tensors(torch, [x]))) < 30_000


COMPILED = """
import json, sys
import torch
from torch import nn
from vramtop.probe import pace
from vramtop.probe.session import session
from vramtop.probe.updates import detail_message

pace.DetailPace.due = lambda self: True
pace.DetailPace.due_at = lambda self: 0.0
probe = session()
probe.install_hooks()
probe.watched(0.1)
told = []
keep = probe.observer._on_detail
probe.observer._on_detail = lambda details, notes, shapes: told.append(
    detail_message("cpu", None, details["cpu"], notes, shapes)
)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
compiled = torch.compile(model, backend={backend!r})
torch._dynamo.utils.counters.clear()
for _ in range(8):
    compiled(torch.ones(32, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
breaks = dict(torch._dynamo.utils.counters["graph_break"])
print(json.dumps([told[-1], breaks, probe.faults.messages]))
"""


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code(backend, run):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("no C++ compiler for inductor")
    code = COMPILED.format(backend=backend)
    code, out, err = run(code, probed=False, PYTHONPATH=str(REPOSITORY))
    assert code == 0, err
    detail, breaks, problems = json.loads(out)
    assert (breaks, problems) == ({}, [])
    (forward,) = [phase for phase in detail["phases"] if phase["name"] == "forward"]
    after = named(forward["after"])
    assert after == {
        "parameter": 848,
        "optimizer_state": 848,
        "activation": 2048 + 512,
        "input": 1024,
    }
    assert "compiled code runs" in detail["notes"][0]
    assert detail["peak"] is None

"""One recorded step: what is seen of it, to the byte, and who is watched notices nothing."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vramtop.probe import accounting, recording  # noqa: E402
from vramtop.probe.faults import Faults  # noqa: E402
from vramtop.probe.recording import Recording  # noqa: E402
from vramtop.probe.replay import FORWARD  # noqa: E402
from vramtop.probe.updates import detail_message  # noqa: E402

FORWARD_BEGINS, FORWARD_ENDS = ("forward begins", 1), ("forward ends", 1)
STEP_BEGINS, STEP_ENDS = ("step begins", 2), ("step ends", 2)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def record():
    """``record(model, optimizer)``: a recording that has started, with the errors it reported."""
    opened = []

    def record(model, *optimizers):
        faults = Faults()

        def count(visit):
            return accounting.count(torch, [model], list(optimizers), faults, visit=visit)

        errors, roots = [], []
        found = Recording(torch, count, [model], add_root=roots.append, on_error=errors.append)
        opened.append(found)
        found.start()
        return found, errors

    yield record
    for found in opened:
        found.stop()
    assert torch._C._len_torch_dispatch_stack() == 0
    registry = torch.nn.modules.module
    assert not registry._global_forward_pre_hooks
    assert not registry._global_forward_hooks


def sizes(found):
    found.recorder.ledger.drain()
    return sorted(found.recorder.ledger.sizes[i] for i in found.recorder.ledger.live.values())


def told(found, device="cpu"):
    found.stop()
    return detail_message(device, 1, found.details()[device], found.notes, [])


def named(breakdown):
    return {key.removesuffix("_bytes"): size for key, size in breakdown.items() if size}


# A step on paper.


def test_a_step_to_the_byte(record):
    # float32, so 4 bytes an element; batch of 32, widths 8 -> 16 -> 4.
    #   parameters   W1 16*8, b1 16, W2 4*16, b2 4     512 + 64 + 256 + 16 = 848
    #   momentum     one buffer a parameter                                = 848
    #   input        x 32*8, target 32*4                      1024 + 512 = 1536
    #   h (Linear)   32*16 = 2048, alive until its ReLU has ended
    #   a (ReLU)     32*16 = 2048, saved by the ReLU and by the second Linear
    #   out          32*4  = 512, held by this test
    #   loss         512 too, held: torch takes the mean within the memory of the squares
    #   the loss's own gradient, 4: made as ``backward()`` is called, held until it returns
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    x, target = torch.randn(32, 8), torch.randn(32, 4)
    nn.functional.mse_loss(model(x), target).backward()
    optimizer.step()  # makes the momentum
    optimizer.zero_grad()

    found, errors = record(model, optimizer)
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.begin_round(FORWARD_BEGINS)
    out = model(x)
    found.forward_ends(FORWARD_ENDS, (x,), out)
    loss = nn.functional.mse_loss(out, target)
    loss.backward()
    found.step_begins(STEP_BEGINS)
    optimizer.step()
    found.step_ends(STEP_ENDS)
    optimizer.zero_grad()
    detail = told(found)
    assert errors == []
    assert loss.untyped_storage().nbytes() == 512

    there = 848 + 848 + 1536
    always = {"parameter": 848, "optimizer_state": 848, "input": 1536}
    kept = {"activation": 512 + 512}
    forward, backward, step, zero_grad = detail["phases"]
    assert [p["name"] for p in detail["phases"]] == ["forward", "backward", "step", "zero_grad"]

    assert forward["before_bytes"] == there
    assert forward["peak_bytes"] == there + 2048 + 2048  # h and a
    assert forward["after_bytes"] == there + 3076
    assert named(forward["after"]) == {**always, "activation": 2048 + 512 + 512 + 4}

    # The most is there when the ReLU's backward makes the gradient of h: the gradient of a is
    # still there, all that the forward has kept too, and what the second Linear has already
    # given its parameters. The gradient of out (512) has gone.
    at_peak = {**always, "activation": 3076, "autograd_detail": 2048 + 2048, "gradient": 272}
    assert backward["peak_bytes"] == sum(at_peak.values())
    assert named(backward["after"]) == {**always, **kept, "gradient": 848}
    assert detail["peak"]["total_bytes"] == sum(at_peak.values())
    assert (detail["peak"]["phase"], detail["peak"]["module"]) == ("backward", "1")
    assert named(detail["peak"]["breakdown"]) == at_peak

    # Momentum and parameters are changed in place.
    assert step["before_bytes"] == step["peak_bytes"] == step["after_bytes"] == there + 1024 + 848
    assert named(step["after"]) == {**always, **kept, "gradient": 848}
    assert zero_grad["after_bytes"] == there + 1024
    assert named(zero_grad["after"]) == {**always, **kept}

    # h and a together are the most activations there ever are.
    assert detail["modules"] == [
        ["0", "Linear", 2048, 576],
        ["1", "ReLU", 2048, 0],
        ["2", "Linear", 0, 272],
    ]


def test_state_made_in_a_first_step_is_state_and_transients_are_temporary(record):
    model = nn.Linear(100, 10, bias=False)  # 4000 bytes
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    found, _ = record(model, optimizer)
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.begin_round(FORWARD_BEGINS)
    model(torch.ones(2, 100)).sum().backward()
    found.step_begins(STEP_BEGINS)
    optimizer.step()
    found.step_ends(STEP_ENDS)
    detail = told(found)
    (step,) = [p for p in detail["phases"] if p["name"] == "step"]
    after = named(step["after"])
    assert after["optimizer_state"] == 2 * 4000 + 4  # two moments and the step's number
    assert after["parameter"] == after["gradient"] == 4000
    assert "temporary" not in after
    # The square root of the second moment is as large as the parameter.
    assert step["peak_bytes"] >= step["after_bytes"] + 4000


# What is followed.


def test_what_else_outlives_backward_is_no_gradient(record):
    """Checkpointing with adapters makes the embeddings' output a leaf, which gets a gradient."""
    model = nn.Linear(8, 16, bias=False)  # 512 bytes
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    found, errors = record(model, optimizer)
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.begin_round(FORWARD_BEGINS)
    x = torch.randn(32, 8, requires_grad=True)  # 1024 bytes
    out = model(x)
    found.forward_ends(FORWARD_ENDS, (x,), out)
    out.sum().backward()
    found.step_begins(STEP_BEGINS)
    optimizer.step()
    found.step_ends(STEP_ENDS)
    x.grad = None
    optimizer.zero_grad()
    detail = told(found)
    assert errors == []
    phases = {phase["name"]: phase for phase in detail["phases"]}
    assert [phase["name"] for phase in detail["phases"]][:3] == ["forward", "backward", "step"]
    for name in ("backward", "step"):
        held = named(phases[name]["after"])
        assert (held["gradient"], held["autograd_detail"]) == (512, 1024)
    assert phases["zero_grad"]["before_bytes"] - phases["zero_grad"]["after_bytes"] == 512


def test_storages_come_and_go_with_their_tensors(record):
    found, errors = record(nn.Linear(1, 1))
    before = sizes(found)
    gc.disable()  # nothing may hang in a cycle
    try:
        tensor = torch.ones(1000)
        dead = weakref.ref(tensor), weakref.ref(tensor.untyped_storage())
        assert sizes(found) == sorted([*before, 4000])
        view = tensor.view(10, 100)[3:]
        tensor.add_(1)
        tensor.t()
        assert sizes(found) == sorted([*before, 4000])
        del tensor
        assert sizes(found) == sorted([*before, 4000])  # the view holds it
        del view
        assert sizes(found) == before
        assert [ref() for ref in dead] == [None, None]
    finally:
        gc.enable()
    assert errors == []


def test_nothing_lives_longer_for_being_recorded(record):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)
    found, _ = record(model, optimizer)
    gc.collect()
    gc.disable()
    try:
        found.forward_begins(FORWARD_BEGINS, FORWARD)
        out = model(torch.randn(2, 4))
        found.forward_ends(FORWARD_ENDS, (), out)
        out.sum().backward()
        found.step_begins(STEP_BEGINS)
        optimizer.step()
        state = next(iter(optimizer.state.values()))["exp_avg"]
        held = [out, model[0].weight.grad, state, state.untyped_storage()]
        dead = [weakref.ref(thing) for thing in held]
        del out, held, state
        optimizer.zero_grad()
        optimizer.state.clear()
        assert [ref() for ref in dead] == [None] * 4
    finally:
        gc.enable()


def test_what_dies_inside_backward_is_seen_to_die(record):
    model = nn.Linear(8, 8, bias=False)
    found, _ = record(model)
    out = model(torch.ones(4, 8)).relu().sum()
    forward = len(found.recorder.ledger.events)
    out.backward()
    died = [~event for event in found.recorder.ledger.events[forward:] if event < 0]
    saved = [i for i in died if found.recorder.ledger.sizes[i] == 4 * 8 * 4]
    assert len(saved) >= 2  # what the relu saved, and a gradient of that size
    assert sizes(found).count(8 * 8 * 4) == 2  # the parameter and its gradient stay


def test_fake_tensors_have_no_memory(record):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    found, errors = record(nn.Linear(1, 1))
    before = sizes(found)
    with FakeTensorMode():
        fake = torch.empty(1 << 40) + 1
        assert fake.t().shape == (1 << 40,)
    assert make_fx(lambda t: t.sin() + 1, tracing_mode="fake")(torch.ones(3)) is not None
    del fake
    gc.collect()
    assert all(size < 1 << 30 for size in found.recorder.ledger.sizes)
    assert sizes(found) == before
    assert errors == []


# Who is watched does not notice.


def test_an_operations_own_error_passes(record):
    found, errors = record(nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.ones(2, 3) @ torch.ones(2, 3)
    operations = found.recorder.operations
    torch.ones(3)
    assert found.recorder.operations == operations + 1
    assert errors == []


def test_a_fault_of_its_own_ends_the_recording_only(record, monkeypatch):
    model = nn.Linear(4, 4)
    found, errors = record(model)
    monkeypatch.setattr(found.recorder.ledger, "add", lambda *_: 1 / 0)
    model(torch.ones(2, 4)).sum().backward()
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert torch.equal(model.weight.grad, torch.full((4, 4), 2.0))


def test_a_fault_in_the_hooks_of_modules_is_the_probes_own(record, monkeypatch):
    model = nn.Linear(4, 4)
    found, errors = record(model)
    monkeypatch.setattr(found.recorder, "forward_runs", lambda: 1 / 0)
    model(torch.ones(2, 4)).sum().backward()
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_modes_of_the_user_stay_where_they_are(record):
    from torch.utils._python_dispatch import TorchDispatchMode

    heard = []

    class Own(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            heard.append(func)
            return func(*args, **(kwargs or {}))

    found, _ = record(nn.Linear(1, 1))
    with Own() as outer, Own() as inner:
        found.stop()
        stack = [torch._C._get_dispatch_stack_at(i) for i in range(2)]
        assert stack == [outer, inner]
        torch.ones(1)
    assert len(heard) == 2
    assert torch._C._len_torch_dispatch_stack() == 0


def test_a_forked_child_takes_its_copy_out(record):
    found, _ = record(nn.Linear(1, 1))
    child = os.fork()
    if not child:
        found.stop()
        os._exit(torch._C._len_torch_dispatch_stack())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch._C._len_torch_dispatch_stack() == 1  # the parent's is still on


def test_a_recording_has_an_end(record, monkeypatch):
    monkeypatch.setattr(recording, "MAX_OPERATIONS", 50)
    model = nn.Linear(4, 4)
    found, _ = record(model)
    found.forward_begins(FORWARD_BEGINS, FORWARD)
    found.begin_round(FORWARD_BEGINS)
    for _ in range(50):
        model(torch.ones(2, 4))
    assert torch._C._len_torch_dispatch_stack() == 0
    assert 50 < found.recorder.operations < 60
    assert told(found)["notes"] == ["cut short after 50 operations"]


def test_nothing_is_left_behind_if_it_ends_inside_backward(record, monkeypatch):
    # A node of backward has a copy of the thread's modes: what is popped there comes back.
    inner, outer = nn.Linear(4, 4), nn.Linear(4, 4)
    found, _ = record(inner)
    checkpoint = torch.utils.checkpoint.checkpoint
    loss = checkpoint(inner, outer(torch.ones(2, 4)), use_reentrant=False).sum()
    monkeypatch.setattr(recording, "MAX_OPERATIONS", found.recorder.operations)
    loss.backward()
    found.stop()
    assert torch._C._len_torch_dispatch_stack() == 0


INFERENCE_MODE = """
import sys
import torch
from torch import nn
from vramtop.probe import pace
from vramtop.probe.session import session

now = [True]
pace.DetailPace.due = lambda self: now[0]
pace.DetailPace.due_at = lambda self: 0.0
probe = session()
probe.install_hooks()
probe.watched(0.1)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    model(torch.ones(4, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()

def in_a_round():
    recordings = [d._recording for d in probe.observer._details.values()]
    return any(r is not None and r.round is not None for r in recordings)

for epoch in range(3):
    now[0] = True
    while not in_a_round():  # whose end is the next forward
        step()
    now[0] = False
    with torch.inference_mode():
        for _ in range(1 + epoch):
            model(torch.ones(4, 8))
    assert torch.zeros(3).sum() == 0
    for _ in range(4):
        step()
    assert torch._C._len_torch_dispatch_stack() == 0
print(probe.faults.messages)
"""


def test_inference_mode_ends_as_it_began(run):
    # It puts back what the thread had on when it began: a mode must not have been taken off
    # inside, else the next operation finds none and ends the program.
    code, out, err = run(INFERENCE_MODE, probed=False, PYTHONPATH=str(REPOSITORY))
    assert code == 0, err
    assert out == "[]\n"


HIGHER_ORDER = """
import torch
from torch.nn.attention.flex_attention import flex_attention
from vramtop.probe.recorder import Recorder

errors = []
recorder = Recorder(torch, errors.append)
q = torch.randn(1, 1, 128, 16)
recorder.push()
out = flex_attention(q, q, q, score_mod=lambda score, b, h, i, j: score + i)
chosen = torch.cond(torch.tensor(True), lambda a: a + 1, lambda a: a - 1, (torch.ones(3),))
recorder.pop()
assert chosen.tolist() == [2.0, 2.0, 2.0]
assert out.shape == q.shape
print(errors)
"""


def test_higher_order_operators_pass(run):
    code, out, err = run(HIGHER_ORDER, probed=False, PYTHONPATH=str(REPOSITORY))
    assert code == 0, err
    assert out == "[]\n"

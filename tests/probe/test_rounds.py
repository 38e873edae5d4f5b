"""What one recorded round holds in loops of many kinds; all in one process, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

REPOSITORY = Path(__file__).parents[2]

SCRIPT = """
import gc, json
import torch
import transformers
from torch import nn
from vramtop.probe import pace
from vramtop.probe.session import session
from vramtop.probe.updates import detail_message

torch.set_num_threads(1)
pace.DetailPace.due = lambda self: True
pace.DetailPace.due_at = lambda self: 0.0
probe = session()
probe.install_hooks()
probe.watched(0.1)
heard = []
probe.observer._on_detail = lambda details, notes, shapes: heard.append(
    detail_message("cpu", None, details["cpu"], notes, shapes)
)
told = {}

def tell(loop):
    for detail in probe.observer._details.values():
        detail.stop()  # what the loop before has left open
    gc.collect()
    heard.clear()
    loop()
    told[loop.__name__] = heard[-1:]

def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

def adam(*models):
    return torch.optim.AdamW([p for m in models for p in m.parameters()], foreach=False)

def plain():
    model = mlp()
    optimizer = adam(model)
    for _ in range(8):
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

def zero_grad_first():
    model = mlp()
    optimizer = adam(model)
    for _ in range(8):
        optimizer.zero_grad(set_to_none=False)
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()

def accumulation():
    model = mlp()
    optimizer = adam(model)
    for index in range(32):
        model(torch.randn(32, 64)).square().mean().backward()
        if index % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()

def two_networks():
    one, other = mlp(), mlp()
    its, others = adam(one), adam(other)
    for _ in range(8):
        its.zero_grad()
        other(one(torch.randn(32, 64))).square().mean().backward()
        its.step()
        others.zero_grad()
        other(torch.randn(32, 64)).square().mean().backward()
        others.step()

def in_backward():
    model = mlp()
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}
    def apply(parameter):
        optimizers[parameter].step()
        parameter.grad = None
    hooks = [p.register_post_accumulate_grad_hook(apply) for p in model.parameters()]
    for _ in range(8):
        model(torch.randn(32, 64)).square().mean().backward()
    for hook in hooks:  # a cycle that the garbage collector does not see
        hook.remove()

def own_optimizer():
    model = mlp()
    import vramtop
    vramtop.watch(model)
    for _ in range(8):
        model(torch.randn(32, 64)).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)
                parameter.grad = None

class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 64)

def parts_called_by_hand():
    model = Parts()
    optimizer = adam(model)
    for _ in range(10):
        model.head(model.body(torch.randn(32, 64)).relu()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

def evaluation():
    model = mlp()
    optimizer = adam(model)
    for _ in range(8):
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model(torch.randn(512, 64))

def inference(mode=torch.inference_mode):
    model = mlp()
    import vramtop
    vramtop.watch(model)
    with mode():
        for _ in range(16):
            model(torch.randn(32, 64))

def one_model_gone_before_another():
    in_backward()
    gc.collect()
    heard.clear()
    inference(torch.no_grad)

def generation():
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    import vramtop
    vramtop.watch(model)
    ids = torch.ones(1, 4, dtype=torch.long)
    for _ in range(2):
        # Held, so that its cache is still there whichever forward was the last one recorded.
        held = model.generate(
            ids, max_new_tokens=20, do_sample=False, pad_token_id=0, return_dict_in_generate=True
        )

def ends_in_the_middle():
    for _ in range(3):
        model = mlp()
        optimizer = adam(model)
        for _ in range(4):
            model(torch.randn(32, 64)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        model(torch.randn(32, 64))
        del model, optimizer
    plain()

LOOPS = (  # those without steps of an optimizer first
    in_backward, own_optimizer, inference, one_model_gone_before_another, generation,
    plain, zero_grad_first, accumulation, two_networks, parts_called_by_hand, evaluation,
    ends_in_the_middle,
)
for loop in LOOPS:
    tell(loop)
for detail in probe.observer._details.values():
    detail.stop()
told["left"] = torch._C._len_torch_dispatch_stack()
told["problems"] = probe.faults.messages
print(json.dumps(told))
"""

LAYER = (64 * 64 + 64) * 4
MODEL = 2 * LAYER
BATCH = 32 * 64 * 4
TENSORS = (
    *("parameter", "gradient", "optimizer_state", "activation"),
    *("input", "temporary", "autograd_detail", "unknown"),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the process tells of each loop."""
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(folder / "train.py")],
        capture_output=True,
        text=True,
        timeout=150,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            "VRAMTOP_RUNTIME_DIR": str(folder),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def detail(told):
    """``detail(loop)``: its last one, checked for what holds of all."""

    def detail(loop):
        (found,) = told[loop]
        last = None
        for phase in found["phases"]:
            assert sum(phase["after"][f"{name}_bytes"] for name in TENSORS) == phase["after_bytes"]
            assert last in (None, phase["before_bytes"])
            last = phase["after_bytes"]
        peak = found["peak"]
        assert sum(peak["breakdown"][f"{name}_bytes"] for name in TENSORS) == peak["total_bytes"]
        assert found["notes"] == []
        return found

    return detail


def names(detail):
    """Each phase and how often it was, without what lies between: the next batch is made."""
    told = [(phase["name"], phase["count"]) for phase in detail["phases"]]
    return [(name, count) for name, count in told if name != "other"]


def after(detail, name):
    (phase,) = [phase for phase in detail["phases"] if phase["name"] == name]
    return {key.removesuffix("_bytes"): size for key, size in phase["after"].items()}


ONCE = [("forward", 1), ("backward", 1), ("step", 1), ("zero_grad", 1)]
ADAM = 2 * MODEL + 4 * 4  # two moments, and a step count for each of four parameters


def test_nothing_is_left_nothing_was_wrong(told):
    assert told["left"] == 0
    assert told["problems"] == []


@pytest.mark.parametrize("loop", ["plain", "parts_called_by_hand", "ends_in_the_middle"])
def test_a_plain_loop(loop, detail):
    found = detail(loop)
    assert sorted(names(found)) == sorted(ONCE)
    backward = after(found, "backward")
    assert (backward["parameter"], backward["gradient"]) == (MODEL, MODEL)
    assert after(found, "step")["optimizer_state"] == ADAM
    assert after(found, "zero_grad")["gradient"] == 0
    # The ReLU's result, and the square's input; the loss is a scalar.
    assert 2 * BATCH <= after(found, "forward")["activation"] < 3.1 * BATCH


def test_zero_grad_that_keeps_them(detail):
    found = detail("zero_grad_first")
    assert sorted(names(found)) == sorted(ONCE)
    for name, _ in ONCE:
        assert after(found, name)["gradient"] == MODEL


def test_gradient_accumulation(detail):
    found = detail("accumulation")
    told = dict(names(found))
    assert (told["forward"], told["backward"], told["step"]) == (4, 4, 1)
    assert after(found, "forward")["gradient"] == MODEL  # as the last of the four ends


def test_two_networks_in_turn(detail):
    found = detail("two_networks")
    steps = sum(count for name, count in names(found) if name == "step")
    forwards = sum(count for name, count in names(found) if name == "forward")
    assert steps == 2
    assert forwards in (2, 3)  # of one after the other, two forwards are one phase
    last = [phase for phase in found["phases"] if phase["name"] == "step"][-1]["after"]
    assert last["parameter_bytes"] == 2 * MODEL
    assert last["optimizer_state_bytes"] == 2 * ADAM


def test_optimizers_inside_backward(detail):
    found = detail("in_backward")
    assert names(found) == ONCE[:2]
    assert after(found, "backward")["gradient"] == 0
    assert after(found, "backward")["optimizer_state"] == MODEL


def test_an_optimizer_of_ones_own(detail):
    found = detail("own_optimizer")
    backward = after(found, "backward")
    assert (backward["gradient"], backward["autograd_detail"]) == (MODEL, 0)
    assert "zero_grad" in dict(names(found))


def test_evaluation_inside_training(detail):
    found = detail("evaluation")
    assert dict(names(found)) == {**dict(ONCE), "evaluation": 1}
    (phase,) = [phase for phase in found["phases"] if phase["name"] == "evaluation"]
    # Two layers' results at once, 16 times as long as the training's batch.
    assert phase["peak_bytes"] - phase["before_bytes"] >= 2 * 16 * BATCH


@pytest.mark.parametrize("loop", ["inference", "one_model_gone_before_another"])
def test_inference(loop, detail):
    found = detail(loop)
    assert [name for name, _ in names(found)] == ["evaluation"]
    assert after(found, "evaluation")["gradient"] == 0
    assert after(found, "evaluation")["parameter"] == MODEL


def test_generation_has_its_keys_and_values(detail):
    found = detail("generation")
    assert "generation" in dict(names(found))
    kept = after(found, "generation")["kv_cache"]
    # Two layers, keys and values, one head of eight float32 each, for the four of the prompt
    # (which comes with an empty cache) to 24 tokens: which forward comes last, the clock decides.
    token = 2 * 2 * 8 * 4
    assert kept % token == 0
    assert 4 * token <= kept <= 24 * token

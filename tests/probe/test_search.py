"""Models that no optimizer leads to are found by themselves, once they stand still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

REPOSITORY = Path(__file__).parents[2]

CLOCKED = """
import json, types
import torch
from torch import nn
from vramtop.probe import search

now = 1000.0
search.time = types.SimpleNamespace(monotonic=lambda: now)
looks = search.ModelSearch(torch)
told = {}

def after(seconds):
    global now
    now += seconds
    return [type(module).__name__ for module in looks.roots()]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

told["at first"] = after(0)
model = Model()
told["seen once"] = [after(4), after(2)]
told["between"] = after(9)
told["seen twice"] = after(2)

piece = nn.Sequential(nn.Linear(2, 2))
told["a new piece"] = after(20)
other = nn.ModuleList([piece])
told["put into another"] = after(40)
told["stands still"] = sorted(after(80))

other.register_forward_hook(lambda *_: None)
told["with hooks of its own"] = after(80)
nothing = nn.ReLU()
told["without parameters"] = after(80)
print(json.dumps(told))
"""


def test_found_when_seen_twice(run):
    code, out, err = run(CLOCKED, probed=False, PYTHONPATH=str(REPOSITORY))
    assert code == 0, err
    assert json.loads(out) == {
        "at first": [],
        "seen once": [[], []],
        "between": [],
        "seen twice": ["Model"],
        "a new piece": [],
        "put into another": [],
        "stands still": ["Model", "ModuleList"],
        "with hooks of its own": ["Model"],
        "without parameters": ["Model"],
    }


# The compiler is there before the first forward, as after many an import of transformers: no ear
# for first forwards is left, only the search.
INFERENCE = """
from _vramtop_injected.probe import search
search._FIRST_WAIT_S = 0.2
import sys
import torch
import torch._dynamo
from torch import nn

model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
print("ready", flush=True)
with torch.no_grad():
    while True:
        model(torch.randn(4, 16))
"""


def test_pure_inference_becomes_known(start, connect, runtime_dir):
    process = start(INFERENCE)
    assert process.stdout.readline() == "ready\n"
    viewer = connect(runtime_dir, process.pid)
    for _ in range(600):
        sample = viewer.next("sample", 60)
        (row,) = [d["breakdown"] for d in sample["devices"] if d["device"] == "cpu"] or [None]
        is_counted = row and row["parameter_bytes"] == 2 * (16 * 16 + 16) * 4
        if is_counted and [model["class"] for model in viewer.job["models"]] == ["Sequential"]:
            return
    pytest.fail(f"found {viewer.job}, counted {row}")

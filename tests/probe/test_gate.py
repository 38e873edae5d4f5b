"""Most hooks return at once, and yet nothing new and no step is missed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

REPOSITORY = Path(__file__).parents[2]

SCRIPT = """
import gc, json, sys, threading, time
import torch
from torch import nn
from vramtop.probe.session import session

torch.set_num_threads(1)
probe = session()
probe.install_hooks()
observer, gate = probe.observer, probe.observer.gate
heard = []
set_gate = observer._set_gate

def counting():
    heard.append(gate.last)
    set_gate()

observer._set_gate = counting

def step(model, optimizer, batch=torch.ones(2, 4)):
    model(batch).sum().backward()
    optimizer.step()
    optimizer.zero_grad()

def made():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

def afford():
    # What the first search has cost is much for so short a training.
    probe.pace._spent.clear()

def heard_in(steps, model, optimizer):
    for _ in range(10):
        afford()
        step(model, optimizer)
    heard.clear()
    began = time.perf_counter()
    for _ in range(steps):
        step(model, optimizer)
    return len(heard), time.perf_counter() - began

def steps_of(optimizer):
    return observer._optimizers[id(optimizer)].steps

told = {}
model, optimizer = made()
told["quiet"] = heard_in(1000, model, optimizer)
told["steps"] = [steps_of(optimizer), observer.step()]

probe.watched(5.0)
heard.clear()
step(model, optimizer)
told["watched"] = len(heard)
probe.watched(None)
heard_in(10, model, optimizer)

second, its_optimizer = made()
heard.clear()
step(second, its_optimizer)
told["new"] = [len(observer.models()), len(observer.optimizers()), steps_of(its_optimizer)]
afford()
step(second, its_optimizer)
told["new counted"] = observer.totals()["cpu"][0] == 2 * 3 * 80
its_second = torch.optim.Adam(second.parameters())
its_second.step()
told["new optimizer"] = [len(observer.optimizers()), steps_of(its_second)]

gone = {id(second), id(its_optimizer), id(its_second)}
del second, its_optimizer, its_second
gc.collect()
told["forgotten"] = [
    len(observer.models()),
    len(observer.optimizers()),
    bool({target for _, target in gate.known} & gone),
]
told["still counted"] = steps_of(optimizer)
step(model, optimizer)
told["forgotten"].append(observer.totals()["cpu"][0] == 3 * 80)
told["still counted"] = steps_of(optimizer) - told["still counted"]

# A part that ran by itself first is a root inside a root.
del model, optimizer
gc.collect()
model, optimizer = made()
probe.observer.add_root(model[0])
told["inner root"] = heard_in(500, model, optimizer)

threads = [made() for _ in range(3)]
def train(model, optimizer):
    for _ in range(200):
        step(model, optimizer)
running = [threading.Thread(target=train, args=pair) for pair in threads]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
told["threads"] = [steps_of(optimizer) for _, optimizer in threads]

# Of one that has made a single step it is not yet known who trains it.
stranger, its_optimizer = made()
def once():
    stranger(torch.ones(2, 4)).sum().backward()
    its_optimizer.step()
thread = threading.Thread(target=once)
thread.start()
thread.join()
probe.observer.add_root(stranger[0])
told["strangers' gradients"] = observer._count(threading.get_ident())["cpu"][1]
told["problems"] = probe.faults.messages
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What one process tells of itself; all tests here read it."""
    folder = tmp_path_factory.mktemp("gate")
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


def is_quiet(heard, seconds):
    # About once a second a step is counted, with its two forwards and two steps.
    return heard <= 8 * (seconds + 1)


def test_after_the_first_steps_hooks_return_at_once(told):
    assert is_quiet(*told["quiet"]), told["quiet"]


def test_every_step_is_counted_all_the_same(told):
    assert told["steps"] == [1010, 1010]
    assert told["still counted"] == 1


def test_a_viewer_opens_it(told):
    assert told["watched"] > 0


def test_what_is_new_is_noticed_at_its_first_step(told):
    assert told["new"] == [2, 2, 1]
    assert told["new counted"]
    assert told["new optimizer"] == [3, 1]


def test_what_is_gone_is_forgotten(told):
    assert told["forgotten"] == [1, 1, False, True]


def test_a_root_inside_a_root_does_not_hold_it_open(told):
    assert is_quiet(*told["inner root"]), told["inner root"]


def test_several_threads(told):
    assert told["threads"] == [200, 200, 200]


def test_gradients_of_other_threads_are_not_touched(told):
    # Their backward may be writing them at this moment, without the GIL: that ends the process.
    assert told["strangers' gradients"] == 0


def test_nothing_was_wrong(told):
    assert told["problems"] == []

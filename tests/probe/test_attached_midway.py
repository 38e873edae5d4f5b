"""Attached to and left in the middle of a forward, a backward, a step; and how processes end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import pytest

pytest.importorskip("torch")

from tests.probe.test_attached import TRAINING

PLACES = ("forward", "backward", "step")

STOPS = """
from torch.optim import optimizer as registry
wanted = None

def reached(place):
    if place == wanted:
        globals()["wanted"] = None
        print("in", place, flush=True)
        sys.stdin.readline()

class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        reached("forward")
        return x.clone()
    @staticmethod
    def backward(ctx, gradient):
        reached("backward")
        return gradient

model[2].register_forward_hook(lambda module, args, output: Marked.apply(output))
# The first of several, so that torch is in the middle of going through them.
registry.register_optimizer_step_pre_hook(lambda *_: reached("step"))
registry.register_optimizer_step_pre_hook(lambda *_: None)
print("ready", flush=True)
for line in sys.stdin:
    wanted = line.strip() or None
    while wanted:
        step()
    for _ in range(30):
        step()
        time.sleep(0.002)
"""


def say(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_it_comes_and_goes_in_the_middle_of_things(attachable, attach, connect, runtime_dir):
    process = attachable(TRAINING + STOPS)
    for place in PLACES:
        say(process, place)
        assert process.stdout.readline() == f"in {place}\n"
        assert attach(process)["error"] is None
        viewer = connect(runtime_dir, process.pid)
        viewer.now()
        time.sleep(0.1)  # for hooks to be put in where they are not postponed
        say(process, "")  # on, and then steps of their own
        while not (viewer.job and viewer.job["models"] and viewer.now()["step"]):
            viewer.now()
        sample = viewer.now()
        assert [m["class"] for m in viewer.job["models"]] == ["Sequential"]
        assert sample["devices"][0]["breakdown"]["optimizer_state_bytes"] > 0
        say(process, place)
        assert process.stdout.readline() == f"in {place}\n"
        viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
        time.sleep(0.1)
        say(process, "")
        heard = until_the_end(viewer)
        assert heard[-1] == {"type": "bye", "why": "detached"}
        assert [m for m in heard if m["type"] == "problem"] == []
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_a_thread_that_does_nothing_more_is_not_waited_for_for_ever(
    attachable, attach, connect, runtime_dir
):
    code = """
print("ready", flush=True)
name = "_vramtop_injected.probe."
def is_recorded():
    observer = sys.modules.get(name + "observer")
    if observer is not None:
        observer._PATIENCE_S = 0.5
    session = getattr(sys.modules.get(name + "session"), "_session", None)
    details = session.observer._details.values() if session else ()
    return any(detail.is_recording for detail in details) and torch._C._len_torch_dispatch_stack()
while not is_recorded():
    step()
    time.sleep(0.002)
print("recorded", flush=True)
sys.stdin.readline()
for _ in range(5):
    step()
registry = nn.modules.module
print(torch._C._len_torch_dispatch_stack(), len(registry._global_forward_hooks))
"""
    process = attachable(TRAINING + code)
    assert attach(process)["error"] is None
    viewer = connect(runtime_dir, process.pid)
    assert process.stdout.readline() == "recorded\n"
    viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
    assert until_the_end(viewer)[-1] == {"type": "bye", "why": "detached"}
    out, err = process.communicate("\n", timeout=30)
    # What only that thread could take off is left there, asleep; nothing else is.
    assert (process.returncode, out, err) == (0, "1 0\n", "")


def until_the_end(viewer):
    heard = []
    try:
        while True:
            heard.append(viewer.read())
    except EOFError:
        return heard


def test_processes_of_multiprocessing_end_in_order(start, connect, runtime_dir):
    code = """
import multiprocessing, sys
import torch

def train():
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while True:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        if multiprocessing.parent_process() and go.wait(0.01):
            break

go = multiprocessing.get_context("fork").Event()
child = multiprocessing.get_context("fork").Process(target=train)
child.start()
print(child.pid, flush=True)
sys.stdin.readline()
go.set()
child.join()
sys.exit(child.exitcode)
"""
    process = start(code)
    viewer = connect(runtime_dir, int(process.stdout.readline()))
    viewer.next("sample")
    say(process, "")
    assert until_the_end(viewer)[-1] == {"type": "bye", "why": "exit"}
    assert process.wait(30) == 0


def test_no_lock_of_torch_is_taken_that_a_forked_worker_may_need(
    attachable, attach, connect, runtime_dir
):
    # A worker of a DataLoader seeds CUDA, which takes this lock: forked while another thread
    # holds it, it waits for ever.
    process = attachable(
        TRAINING + "import torch.cuda\ntorch.cuda._initialization_lock.acquire()\n"
        "print('ready', flush=True)\nfor _ in range(400):\n    step(); time.sleep(0.01)\n"
    )
    assert attach(process)["error"] is None
    viewer = connect(runtime_dir, process.pid)
    while not (viewer.job and viewer.job["models"] and viewer.now()["step"]):
        viewer.now()
    assert process.wait(60) == 0


def test_forks_wait_for_the_imports_of_the_entry():
    # The child imports what the other thread is just importing in its parent.
    code = f"""
import os, sys, threading, time
sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
names = {{"__name__": "entry", "TICKET": "/nowhere/ticket"}}
with open("vramtop/inject/entry/attached.py") as file:
    exec(file.read(), names)
release = names["_hold_forks"]()
module = "slow_to_import"
open(os.path.join(os.environ["FOLDER"], module + ".py"), "w").write("import time; time.sleep(0.5)")
sys.path.insert(0, os.environ["FOLDER"])
def load():
    __import__(module)
    release()
thread = threading.Thread(target=load)
thread.start()
time.sleep(0.1)
began = time.monotonic()
child = os.fork()
if not child:
    __import__(module)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
began = time.monotonic()
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
assert time.monotonic() - began < 0.4
print("fine")
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=30,
            env={"FOLDER": folder, "PATH": "/usr/bin"},
        )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_the_main_thread_stays_the_main_one(attachable, attach):
    # As in a script that has not imported threading, and does so when the probe has long done it.
    code = """
import sys
sys.modules.pop("threading", None)
print("ready", flush=True)
while not sys.stdin.readline():
    pass
import threading, time
print(threading.current_thread() is threading.main_thread(), flush=True)
threading.Thread(target=lambda: (time.sleep(0.3), print("waited for"))).start()
"""
    process = attachable(code)
    assert attach(process)["error"] is None
    time.sleep(0.1)  # for the thread that has attached to be over
    out, err = process.communicate("\n", timeout=30)
    assert (process.returncode, out, err) == (0, "True\nwaited for\n", "")

"""A probe that comes into a training that has long begun: what it finds, and what it disturbs.

The oracle for what it shows is the same script with the probe in it from the start.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

TRAINING = """
import os, sys, time
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm = nn.BatchNorm1d(width)
    def forward(self, x):
        return self.norm(x + self.down(torch.relu(self.up(x))))

model = nn.Sequential(*(Block(32) for _ in range(4)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
losses = []

def target(x):
    return x.flip(0)

def step():
    x = torch.randn(64, 32)
    loss = (model(x) - target(x)).pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())

def train(stop=os.environ.get("STOP")):
    while not os.path.exists(stop):
        step()
        time.sleep(0.002)
"""
FROZEN = """
teacher = Block(32).requires_grad_(False).eval()   # runs in every step
copy = Block(32)                                   # never runs, as an average of weights

def target(x):
    with torch.no_grad():
        return teacher(x)
"""
STEADY = TRAINING + "for _ in range(10): step()\nprint('ready', flush=True)\ntrain()\n"


@pytest.fixture
def stop(tmp_path):
    """The file that ends a training."""
    return tmp_path / "stop"


def settled(viewer):
    """Job, sample and detail once a step was recorded in full and everything is described."""
    detail = viewer.next("detail", 60)
    return viewer.job, viewer.now(), detail


def told(job, sample, detail):
    """What a training is, without what differs from moment to moment."""
    models = sorted(
        (model["class"], model["parameters"], model["tensors"]) for model in job["models"]
    )
    optimizers = [(o["class"], o["parameters"], o["state_by_dtype"]) for o in job["optimizers"]]
    peak = detail["peak"]
    phases = [
        (p["name"], p["before_bytes"], p["after_bytes"], p["peak_bytes"], p["after"])
        for p in detail["phases"]
    ]
    (device,) = sample["devices"]
    held = {
        name: device["breakdown"][f"{name}_bytes"]
        for name in ("parameter", "optimizer_state", "buffer")
    }
    return (
        models,
        optimizers,
        held,
        (peak["phase"], peak["module"], peak["total_bytes"], peak["breakdown"]),
        phases,
        detail["modules"],
    )


def test_the_breakdown_is_that_of_the_same_script_under_run(
    start, attachable, attach, connect, runtime_dir, stop
):
    pytest.importorskip("torch")
    both = []
    for way in ("run", "attach"):
        if way == "run":
            process = start(STEADY, STOP=str(stop))
            assert process.stdout.readline() == "ready\n"
        else:
            process = attachable(STEADY, STOP=str(stop))
            time.sleep(0.3)
            answer = attach(process)
            assert answer["error"] is None
            assert answer["python"] == sys.version.split()[0]
            assert answer["torch"]
        viewer = connect(runtime_dir, process.pid)
        both.append(told(*settled(viewer)))
        problems = viewer.job.get("problems")
        assert not problems
        stop.touch()
        assert viewer.next("bye")["why"] == "exit"
        process.wait(30)
        stop.unlink()
    for under_run, attached in zip(*both, strict=True):
        assert attached == under_run
    assert [name for name, _, _ in both[1][0]] == ["Sequential"]


def test_attaching_and_leaving_changes_nothing(attachable, attach, connect, runtime_dir, stop, run):
    pytest.importorskip("torch")
    # 400 steps, with hooks of the program's own on every optimizer: torch goes through their
    # dictionary itself, where one more or less would raise in the program.
    code = (
        TRAINING
        + FROZEN
        + """
import json, threading, warnings, random
from torch.optim import optimizer as registry
module_registry = nn.modules.module
OF_MODULE = (
    "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
)
def slow(*_):
    time.sleep(0.0005)
for _ in range(3):
    registry.register_optimizer_step_pre_hook(slow)
    registry.register_optimizer_step_post_hook(slow)

def state():
    modules = [m for m in sys.modules if not m.startswith("_vramtop_injected")]
    return {
        "path": list(sys.path), "finders": [repr(f) for f in sys.meta_path],
        "filters": len(warnings.filters), "threads": [t.name for t in threading.enumerate()],
        "pre": len(registry._global_optimizer_pre_hooks),
        "post": len(registry._global_optimizer_post_hooks),
        "global": [len(getattr(module_registry, "_global" + name)) for name in OF_MODULE[:2]],
        "hooks": [
            len(getattr(m, name))
            for b in (model, teacher, copy) for m in b.modules() for name in OF_MODULE
        ],
        "grad": torch.is_grad_enabled(), "names": sorted(set(globals()) - {"before", "after"}),
        "random": random.getstate()[1][:5], "modes": torch._C._len_torch_dispatch_stack(),
        "handlers": [str(_signal.getsignal(n)) for n in (2, 10, 15)],
        "descriptors": len(os.listdir("/proc/self/fd")), "switch": sys.getswitchinterval(),
        "excepthooks": [repr(sys.excepthook), repr(threading.excepthook)],
        "modules": modules,
    }
for _ in range(10): step()
before = state()
print("ready", flush=True)
while not os.path.exists(os.environ["STOP"]): step()
for _ in range(20): step()
after = state()
new = set(after.pop("modules")) - set(before.pop("modules"))
print(json.dumps([before, after, sorted(new), len(losses)]))
json.dump(losses, open(os.environ["STOP"], "w"))
"""
    )
    process = attachable(code, STOP=str(stop))
    for _ in range(4):
        assert attach(process)["error"] is None
        viewer = connect(runtime_dir, process.pid)
        first = viewer.next("sample")
        job, _, _ = settled(viewer)
        assert {model["class"] for model in job["models"]} == {"Sequential", "Block"}
        assert len(job["models"]) == 2  # what nobody runs is not shown
        assert (viewer.now()["step"] or 0) > (first["step"] or 0)
        viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
        assert viewer.next("bye")["why"] == "detached"
        with pytest.raises(EOFError):
            viewer.read()
        assert list(runtime_dir.iterdir()) == []
    stop.touch()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    before, after, new, steps = json.loads(out)
    assert after == before
    assert {name.partition(".")[0] for name in new} <= sys.stdlib_module_names
    losses = json.loads(stop.read_text())
    alone = (
        TRAINING
        + FROZEN
        + f"import json\nfor _ in range({steps}): step()\nprint(json.dumps(losses))\n"
    )
    code, out, _ = run(alone, probed=False)
    assert (code, json.loads(out)) == (0, losses)


def test_it_waits_for_torch_whose_import_has_begun(attachable, attach, connect, runtime_dir, stop):
    pytest.importorskip("torch")
    # The attach comes in the middle of torch's import, on the thread that imports it.
    code = (
        """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
def halfway(event, arguments):
    if event == "import" and arguments[0] == "torch.nn" and "torch" in sys.modules:
        if not os.path.exists(os.environ["STOP"] + ".sent"):
            open(os.environ["STOP"] + ".sent", "w").close()
            os.kill(os.getpid(), _signal.SIGUSR1)
            sys.stdin.readline()
sys.addaudithook(halfway)
"""
        + TRAINING
        + "sys.addaudithook\nfor _ in range(10): step()\ntrain()\n"
    )
    process = attachable(code, STOP=str(stop))
    process.stdin.write("go\n")
    process.stdin.flush()
    assert attach(process, send=False) == {
        "python": sys.version.split()[0],
        "torch": None,
        "error": None,
    }
    viewer = connect(runtime_dir, process.pid)
    assert viewer.next("job")["torch"] is None
    assert viewer.next("sample")["devices"] == []
    process.stdin.write("on\n")
    process.stdin.flush()
    job, _, _ = settled(viewer)  # the same connection
    assert job["torch"]
    assert [o["class"] for o in job["optimizers"]] == ["AdamW"]
    assert [m["class"] for m in job["models"]] == ["Sequential"]
    stop.touch()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_python_39_without_torch_is_waited_for_and_left(
    attachable, attach, connect, runtime_dir, other_python
):
    code = """
import sys, threading
before = set(sys.modules), list(sys.path), list(sys.meta_path)
print("ready", flush=True)
while not sys.stdin.readline():
    pass
assert (sys.path, sys.meta_path) == (before[1], before[2])
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before[0]}))
print([thread.name for thread in threading.enumerate()])
"""
    process = attachable(code, python=other_python("3.9"))
    answer = attach(process)
    assert answer["python"].startswith("3.9.")
    assert (answer["torch"], answer["error"]) == (None, None)
    viewer = connect(runtime_dir, process.pid)
    assert viewer.next("job")["torch"] is None
    attach(process)  # once more: it is there
    assert viewer.now()["devices"] == []
    viewer.socket.sendall(b'{"type": "detach", "protocol": 1}\n')
    assert viewer.next("bye")["why"] == "detached"
    process.stdin.write("\n")
    process.stdin.flush()
    out, err = process.communicate(timeout=30)
    modules, threads = out.splitlines()
    assert (process.returncode, err, threads) == (0, "", "['MainThread']")
    known = sys.stdlib_module_names | {"_vramtop_injected"}
    assert set(eval(modules)) <= known
    assert list(runtime_dir.iterdir()) == []


def test_compiled_steps_and_pure_inference_are_found_by_the_search(
    attachable, attach, connect, runtime_dir, stop
):
    pytest.importorskip("torch")
    compiled = (
        TRAINING
        + FROZEN
        + """
optimizer.step = torch.compile(optimizer.step, backend="eager")
for _ in range(10): step()
print("ready", flush=True)
train()
"""
    )
    inference = (
        TRAINING
        + """
del optimizer, model
big = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))
def step():
    with torch.no_grad():
        big(torch.randn(8, 32))
print("ready", flush=True)
train()
"""
    )
    for code, models, state in (
        (compiled, {"Sequential", "Block"}, True),
        (inference, {"Sequential"}, False),
    ):
        process = attachable(code, STOP=str(stop))
        assert attach(process)["error"] is None
        viewer = connect(runtime_dir, process.pid)
        deadline = time.monotonic() + 30
        while viewer.job is None or {m["class"] for m in viewer.job["models"]} != models:
            viewer.now()
            assert time.monotonic() < deadline, viewer.job
        row = viewer.breakdown()
        assert bool(row["optimizer_state_bytes"]) is state
        stop.touch()
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        stop.unlink()


def test_a_probe_that_is_there_already_is_used(start, connect, runtime_dir, tmp_path, attach, stop):
    pytest.importorskip("torch")
    from tests.probe.conftest import ATTACHABLE

    elsewhere = runtime_dir / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    watch = (
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import vramtop\nvramtop.watch(model, optimizer)\n"
    )
    tell = "print(sorted(m for m in sys.modules if m.endswith('probe.session')))\n"
    for probed in (True, False):
        code = (
            ATTACHABLE
            + TRAINING
            + ("" if probed else watch)
            + "step()\nprint('ready', flush=True)\ntrain()\n"
            + tell
        )
        process = start(code, probed=probed, STOP=str(stop), TICKET=str(tmp_path / "ticket.attach"))
        assert process.stdout.readline() == "ready\n"
        first = connect(runtime_dir, process.pid)
        first.now()
        assert attach(process, directory=elsewhere)["error"] is None
        viewer = connect(elsewhere, process.pid)
        assert viewer.now()["step"] > 0
        assert settled(viewer)[2]["peak"]
        assert list(runtime_dir.glob("*.sock")) == []
        stop.touch()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        root = "_vramtop_injected" if probed else "vramtop"
        assert eval(out) == [f"{root}.probe.session"]
        stop.unlink()


def test_who_has_given_up_finds_nothing_done(attachable, runtime_dir, tmp_path):
    process = attachable(
        "import sys, time\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "time.sleep(0.3)\nprint([m for m in sys.modules if 'vramtop' in m])\n"
    )
    process.send_signal(10)
    time.sleep(0.2)
    process.stdin.write("\n")
    process.stdin.flush()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "[]\n", "")
    assert list(runtime_dir.iterdir()) == []
    assert not list(tmp_path.glob("*.answer*"))


def test_a_directory_that_is_not_ours_is_refused(attachable, attach, tmp_path):
    process = attachable("import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n")
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    assert "is open to others" in attach(process, directory=open_to_all)["error"]
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0

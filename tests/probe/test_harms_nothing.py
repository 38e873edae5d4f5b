"""A training under the probe does what it would do without: numbers, exceptions, processes."""

from __future__ import annotations

import contextlib
import time

import pytest

pytest.importorskip("torch")

TRAINING = """
import hashlib, torch, warnings
from torch import nn
torch.manual_seed(1); torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.2), nn.GELU(), nn.Linear(32, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
digest = hashlib.sha256()
import time
for step in range(STEPS):
    loss = model(torch.randn(8, 16)).pow(2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    digest.update(loss.detach().numpy().tobytes())
    if step > 20: time.sleep(PAUSE)
digest.update(torch.get_rng_state().numpy().tobytes())
for parameter in model.parameters():
    digest.update(parameter.detach().numpy().tobytes())
print(digest.hexdigest(), torch.is_grad_enabled(), flush=True)
raise SystemExit(7)
"""


def training(steps=300, pause_s=0.0):
    return TRAINING.replace("STEPS", str(steps)).replace("PAUSE", str(pause_s))


@pytest.fixture(scope="module")
def undisturbed():
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", training()], capture_output=True, text=True)
    assert done.returncode == 7
    return done.stdout


def test_losses_rng_and_exit_code_are_the_same(run, undisturbed):
    assert run(training()) == (7, undisturbed, "")


def test_same_under_the_worst_viewers(start, connect, runtime_dir, undisturbed):
    process = start(training(pause_s=0.01))
    silent = connect(runtime_dir, process.pid)  # subscribes and never reads
    for index in range(100):
        with contextlib.suppress(OSError, EOFError):
            viewer = connect(runtime_dir, process.pid)
            if index % 3 == 0:
                viewer.socket.sendall(b"\x00rubbish" * 2000)
            if index % 3 == 1:
                viewer.now()
            viewer.close()
        if process.poll() is not None:
            break
    assert index > 20
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (7, undisturbed, "")
    assert silent.hello["pid"] == process.pid
    assert list(runtime_dir.iterdir()) == []


def test_killed_hard_or_ended_by_os_exit(start, run, runtime_dir):
    code, out, _ = run(training(5).replace("raise SystemExit(7)", "import os; os._exit(9)"))
    assert code == 9
    assert out


def test_compiled_models_stay_whole_and_silent(run):
    code, out, err = run(
        """
import warnings; warnings.simplefilter("error", UserWarning)
import torch, torch._dynamo
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__(); self.a = nn.Linear(8, 8)
    def forward(self, x):
        return self.a(x).relu()
def steps(call, model, compiled_step=False):
    torch._dynamo.reset(); torch._dynamo.utils.counters.clear()
    optimizer = torch.optim.AdamW(model.parameters())
    step = torch.compile(optimizer.step, backend="eager") if compiled_step else optimizer.step
    for _ in range(5):
        call(torch.randn(2, 8)).sum().backward(); step(); optimizer.zero_grad()
    stats = torch._dynamo.utils.counters
    assert not stats["graph_break"], stats["graph_break"]
    return stats["stats"]["unique_graphs"]
graphs = []
for backend in ("eager", "aot_eager"):
    # First the one that sees whatever the probe has put into torch before any model was known.
    model = Block()
    graphs.append(steps(torch.compile(lambda x: model(x), backend=backend, fullgraph=True), model))
    model = Block()
    graphs.append(steps(torch.compile(model, backend=backend, fullgraph=True), model))
    model = Block(); model(torch.randn(2, 8))
    model.compile(backend=backend, fullgraph=True)
    graphs.append(steps(model, model))
    model = nn.Sequential(Block(), Block())
    model[0] = torch.compile(model[0], backend=backend, fullgraph=True)
    graphs.append(steps(model, model))
print(graphs)
faults = sys.modules.get("_vramtop_injected.probe.session")
print(faults and faults.session().faults.messages)
"""
    )
    assert (code, err) == (0, "")
    graphs, faults = out.splitlines()
    assert graphs == str([1] * 8)
    assert faults == "[]"


def test_copies_and_pickles_of_a_watched_model_know_nothing_of_us(run, tmp_path):
    code, _, err = run(
        f"""
import copy, torch
from torch import nn
model = nn.Linear(4, 4); optimizer = torch.optim.Adam(model.parameters())
model(torch.randn(2, 4)).sum().backward(); optimizer.step()
assert model._forward_hooks
copy.deepcopy(model)(torch.randn(2, 4))
torch.save(model, {str(tmp_path / "model.pt")!r})
"""
    )
    assert (code, err) == (0, "")
    code, out, err = run(
        f"""
import torch
model = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)
print(model(torch.randn(2, 4)).shape)
""",
        probed=False,
    )
    assert (code, out, err) == (0, "torch.Size([2, 4])\n", "")


def test_exceptions_and_interrupts_pass_through(run):
    code, out, _ = run(
        """
import torch
from torch import nn
class Fails(nn.Linear):
    fail = False
    def forward(self, x):
        if self.fail: raise ValueError("mine")
        return super().forward(x)
model = Fails(4, 4); optimizer = torch.optim.Adam(model.parameters())
for step in range(6):
    model.fail = step % 2 == 1
    try:
        model(torch.randn(2, 4)).sum().backward(); optimizer.step()
    except ValueError as error:
        assert error.args == ("mine",)
probe = sys.modules["_vramtop_injected.probe.session"].session()
assert probe.observer.step() == 3 and not probe.faults.messages
def interrupt(*_): raise KeyboardInterrupt
probe.observer._boundary = interrupt
try:
    optimizer.step()
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert (code, out) == (0, "interrupted\n")


def test_a_fault_ends_the_probe_and_not_the_training(run):
    code, out, err = run(
        """
import torch
from torch import nn
model = nn.Linear(4, 4); optimizer = torch.optim.Adam(model.parameters())
model(torch.randn(2, 4)).sum().backward(); optimizer.step()
probe = sys.modules["_vramtop_injected.probe.session"].session()
def broken(*_): raise MemoryError("no more")
probe.observer._boundary = broken
for _ in range(3):
    model(torch.randn(2, 4)).sum().backward(); optimizer.step()
print(probe.faults.messages)
"""
    )
    assert (code, err) == (0, "")
    assert out == "['counting is off: MemoryError: no more']\n"


def test_workers_do_not_appear_and_forked_trainings_do(start, connect, runtime_dir):
    process = start(
        """
import os, torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
torch.set_num_threads(1)
embed = nn.Linear(4, 4)
class Data(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index):
        with torch.no_grad(): embed(torch.ones(4))
        return len(os.listdir(os.environ["VRAMTOP_RUNTIME_DIR"]))
def train(steps):
    model = nn.Linear(4, 4); optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        model(torch.randn(2, 4)).sum().backward(); optimizer.step()
    return model, optimizer
kept = train(3)
sockets = torch.cat(list(DataLoader(Data(), num_workers=2, multiprocessing_context="fork")))
assert sockets.tolist() == [1] * 8, sockets   # the parent's
child = os.fork()
if child == 0:
    kept2 = train(2)
    print("child", os.getpid(), flush=True)
    sys.stdin.readline()
    raise SystemExit(3)
print("parent", os.getpid(), flush=True)
os.waitpid(child, 0)
print("over", flush=True)
sys.stdin.readline()
"""
    )
    pids = dict(process.stdout.readline().split() for _ in range(2))
    parent, child = int(pids["parent"]), int(pids["child"])
    assert parent == process.pid
    steps = {pid: connect(runtime_dir, pid).now()["step"] for pid in (parent, child)}
    assert steps == {parent: 3, child: 2}
    assert len(list(runtime_dir.iterdir())) == 2
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "over\n"
    deadline = time.monotonic() + 30
    while len(list(runtime_dir.iterdir())) != 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert connect(runtime_dir, parent).now()["step"] == 3  # the child has not taken it along


def test_inference_shows_too(start, connect, runtime_dir):
    process = start(
        """
import torch
model = torch.nn.Linear(8, 8)
with torch.no_grad():
    model(torch.randn(2, 8))
sys.stdin.readline()
"""
    )
    viewer = connect(runtime_dir, process.pid)
    sample = viewer.now()
    assert sample["step"] is None
    assert sample["devices"][0]["breakdown"]["parameter_bytes"] == 4 * 72
    assert viewer.job["models"][0]["batch_shapes"] == [[2, 8]]


def test_watch_uses_the_injected_probe(run):
    code, out, err = run(
        """
import torch
sys.path.insert(0, _root.__path__[0].rpartition("/")[0])
import vramtop
model = torch.nn.Linear(2, 2)
vramtop.watch(model)
probe = sys.modules["_vramtop_injected.probe.session"].session()
print(len(probe.observer.models()), "vramtop.probe.session" in sys.modules)
"""
    )
    assert (code, out, err) == (0, "1 False\n", "")

"""A training on a real card: what the probe tells against what torch itself tells there."""

import json

import pytest

from tests.probe.conftest import connect, run, runtime_dir, start  # noqa: F401  fixtures

TENSORS = (
    *("parameter", "gradient", "optimizer_state", "activation"),
    *("input", "temporary", "autograd_detail", "unknown"),
)
WIDTH, BATCH, LAYERS = 1024, 4096, 8
LARGEST = BATCH * WIDTH * 4
"""Bytes of the largest tensor of the training: a layer's activations."""

TRAINING = f"""
import json, sys, time
import torch
from torch import nn

model = nn.Sequential(
    *(nn.Sequential(nn.Linear({WIDTH}, {WIDTH}), nn.GELU()) for _ in range({LAYERS}))
).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def steps(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        x = torch.randn({BATCH}, {WIDTH}, device="cuda")
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()

def rounded(tensors):
    return sum(-(-t.untyped_storage().nbytes() // 512) * 512 for t in tensors)

steps(1)
torch.cuda.reset_peak_memory_stats()
for line in sys.stdin:
    steps(float(line))
    held = rounded(model.parameters()) + rounded(
        t for state in optimizer.state.values() for t in state.values() if t.is_cuda
    )
    print(json.dumps(dict(torch.cuda.memory_stats(), held=held)), flush=True)
"""


@pytest.fixture
def training(start):  # noqa: F811
    """A training that stands still between ``steps``."""
    return start(TRAINING)


def steps(training, seconds):
    """Train so long; gives torch's own counters after it, when all is still again."""
    training.stdin.write(f"{seconds}\n")
    training.stdin.flush()
    return json.loads(training.stdout.readline())


def told(viewer):
    (device,) = [d for d in viewer.now()["devices"] if d["device"] == "cuda:0"]
    return device["allocator"], device["breakdown"]


def adds_up(allocator, breakdown):
    tensors = sum(breakdown[f"{name}_bytes"] for name in TENSORS)
    assert tensors == allocator["allocated_bytes"]
    rest = breakdown["cached_bytes"] + breakdown["fragmentation_bytes"]
    assert tensors + rest == allocator["reserved_bytes"]


def test_counters_are_torchs(training, runtime_dir, connect):  # noqa: F811
    stats = steps(training, 1)
    allocator, breakdown = told(connect(runtime_dir, training.pid))
    assert allocator == {
        "allocated_bytes": stats["allocated_bytes.all.current"],
        "reserved_bytes": stats["reserved_bytes.all.current"],
        "active_bytes": stats["active_bytes.all.current"],
        "requested_bytes": stats["requested_bytes.all.current"],
        "inactive_split_bytes": stats["inactive_split_bytes.all.current"],
        "peak_allocated_bytes": stats["allocated_bytes.all.peak"],
        "peak_reserved_bytes": stats["reserved_bytes.all.peak"],
        "segments": stats["segment.all.current"],
        "alloc_retries": stats["num_alloc_retries"],
        "ooms": stats["num_ooms"],
    }
    adds_up(allocator, breakdown)


def test_every_sample_adds_up(training, runtime_dir, connect):  # noqa: F811
    viewer = connect(runtime_dir, training.pid)
    training.stdin.write("5\n")
    training.stdin.flush()
    for _ in range(60):
        for device in viewer.next("sample")["devices"]:
            if device["allocator"] and device["breakdown"]:
                adds_up(device["allocator"], device["breakdown"])


def test_the_recorded_step(training, runtime_dir, connect):  # noqa: F811
    viewer = connect(runtime_dir, training.pid)
    stats = steps(training, 6)
    messages = {}
    while set(messages) < {"detail", "segments"}:
        message = viewer.read()
        if message.get("device") == "cuda:0":
            messages[message["type"]] = message

    detail = messages["detail"]
    names = [phase["name"] for phase in detail["phases"] if phase["name"] != "other"]
    assert sorted(names) == ["backward", "forward", "step", "zero_grad"]
    peak = detail["peak"]
    assert sum(peak["breakdown"][f"{name}_bytes"] for name in TENSORS) == peak["total_bytes"]
    parameters = LAYERS * (WIDTH * WIDTH + WIDTH) * 4
    assert peak["breakdown"]["parameter_bytes"] == parameters
    # What libraries hold of the allocator's memory for themselves (cuBLAS's workspace) is made by
    # no operation; it is there all along.
    allocated = stats["allocated_bytes.all.current"]
    theirs = allocated - stats["held"] - LARGEST  # and the last batch
    true_peak = stats["allocated_bytes.all.peak"]
    assert abs(peak["total_bytes"] + theirs - true_peak) <= LARGEST

    segments = messages["segments"]
    sizes = [segment["total_bytes"] for segment in segments["segments"]]
    assert sum(sizes) + segments["omitted_bytes"] == stats["reserved_bytes.all.current"]
    blocks = [block for segment in segments["segments"] for block in segment["blocks"]]
    assert sum(size for size, _, _ in blocks) == sum(sizes)
    of_parameters = sum(size for size, _, category in blocks if category == "parameter")
    assert of_parameters >= parameters  # blocks are rounded up


CAPTURE = """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).cuda()
optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
x = torch.randn(32, 64, device="cuda")

def step():
    optimizer.zero_grad(set_to_none=True)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss

print("ready", flush=True)
input()
side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for _ in range(200):
        step()
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    loss = step()
first = None
for _ in range(2000):
    graph.replay()
    first = loss.item() if first is None else first
assert loss.item() < first
print("trained")
"""


def test_a_graph_is_captured_under_a_viewer(start, runtime_dir, connect):  # noqa: F811
    process = start(CAPTURE)
    assert process.stdout.readline() == "ready\n"
    viewer = connect(runtime_dir, process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "trained\n"
    viewer.close()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")

"""From a training on the double to what the program ``vramtop`` prints of it."""

import json
import os
import subprocess
import sys

import pytest

from tests.fakecuda.conftest import PREAMBLE, TENSORS, Training
from tests.fakecuda.double import NAME, UUID

MIB = 1 << 20
TOTAL, CONTEXT = 232 * MIB, 16 * MIB
"""Of the GPU that NVML tells of; the double may take the rest of it."""

FRAGMENTED = f"""
import json
memory = install(capacity_bytes={TOTAL - CONTEXT})
import torch
from torch import nn

# Segments of 20 MiB, six pieces each; every other piece is given back.
pieces = [torch.empty(3 << 20, dtype=torch.uint8, device="cuda") for _ in range(60)]
del pieces[::2]
torch.cuda.reset_peak_memory_stats()
model = nn.Linear(64, 64).cuda()
optimizer = torch.optim.AdamW(model.parameters())
for line in sys.stdin:
    for _ in range(int(line)):
        x = torch.randn(128, 64, device="cuda")
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    x = None
    print(json.dumps(torch.cuda.memory_stats()), flush=True)
"""


@pytest.fixture
def shown(nvml_standin, monkeypatch, tmp_path):
    """What ``vramtop --once`` prints of a GPU on which one process runs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def shown(pid, used_bytes, *arguments):
        gpu = {
            "name": NAME,
            "uuid": f"GPU-{UUID}",
            "total_bytes": TOTAL,
            "used_bytes": used_bytes,
            "reserved_bytes": 0,
            "processes": [{"pid": pid, "used_bytes": used_bytes}],
        }
        done = subprocess.run(
            [sys.executable, "-m", "vramtop", "--once", "--backend", "nvml", *arguments],
            env={**os.environ, **nvml_standin({"gpus": [gpu]}).env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return shown


def test_a_fragmented_training_from_the_tensors_to_the_screen(start, shown, runtime_dir, connect):
    training = Training(start(PREAMBLE + FRAGMENTED))
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    training.begin(20)
    viewer.next("segments")
    stats = training.end()
    reserved = stats["reserved_bytes.all.current"]
    used = reserved + CONTEXT

    snapshot = json.loads(shown(training.pid, used, "--json"))
    assert snapshot["problems"] == []
    (process,) = [p for p in snapshot["processes"] if p["pid"] == training.pid]
    probe = process["probe"]
    assert (probe["state"], probe["problem"], probe["detail"]) == ("streaming", None, "ready")
    (device,) = [d for d in probe["devices"] if d["device"] == "cuda:0"]
    assert device["uuid"] == snapshot["devices"][0]["uuid"] == f"GPU-{UUID}"
    assert device["allocator"]["reserved_bytes"] == reserved
    assert device["allocator"]["allocated_bytes"] == stats["allocated_bytes.all.current"]

    breakdown = device["breakdown"]
    tensors = sum(breakdown[f"{name}_bytes"] for name in TENSORS)
    assert tensors == stats["allocated_bytes.all.current"]
    assert breakdown["parameter_bytes"] == 64 * 64 * 4 + 512
    assert breakdown["unknown_bytes"] == 30 * 3 * MIB  # of no model, no optimizer, no step
    assert breakdown["gradient_bytes"] == breakdown["input_bytes"] == 0
    rest = breakdown["cached_bytes"] + breakdown["fragmentation_bytes"]
    assert rest == reserved - tensors
    assert breakdown["outside_allocator_bytes"] == CONTEXT
    assert breakdown["process_bytes"] == used

    # What is free in pieces of 3 MiB serves no 4; the device has not got another segment.
    segments = device["segments"]
    assert segments["total_bytes"] == reserved
    assert segments["message"].startswith("a 4 MiB request would fail although ")

    text = shown(training.pid, used)
    assert segments["message"] in text

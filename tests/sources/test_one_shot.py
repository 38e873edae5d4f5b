"""One complete snapshot of a real training: a real probe, a real socket, no mock."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import pytest

from vramtop.core.memory import CATEGORIES
from vramtop.sources.collector import Collector

TRAINING = """
import select, sys, torch, vramtop
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
optimizer = torch.optim.AdamW(model.parameters())
vramtop.watch(model, optimizer)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    model(torch.randn(64, 256)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def training(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    runtime = tmp_path / "run"
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        yield child
        child.stdin.close()


def test_the_first_snapshot_already_has_the_detail(training):
    started = time.monotonic()
    snapshot = Collector("host").read_once()
    assert time.monotonic() - started < 6
    (process,) = [p for p in snapshot.processes if p.pid == training.pid]
    assert process.probe.detail == "ready"
    (device,) = process.probe.devices
    detail = device.detail
    assert {"forward", "backward", "step", "zero_grad"} <= {p.name for p in detail.phases}
    for before, after in itertools.pairwise(detail.phases):
        assert before.after_bytes == after.before_bytes
    for phase in detail.phases:
        assert phase.after.tensor_bytes == phase.after_bytes
    assert detail.peak.breakdown.tensor_bytes == detail.peak.total_bytes
    assert detail.peak.total_bytes == max(phase.peak_bytes for phase in detail.phases)
    assert sum(module.parameter_bytes for module in detail.modules) == 4 * (
        256 * 512 + 512 + 512 * 256 + 256
    )
    known = [device.breakdown.bytes_of(category) for category in CATEGORIES]
    assert None not in known[:8]
    assert sum(size or 0 for size in known) == device.breakdown.process_bytes

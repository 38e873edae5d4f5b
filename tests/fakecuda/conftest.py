"""Trainings on the double: skipped with the reason where it cannot be built."""

import json
from pathlib import Path

import pytest

from tests.fakecuda.build import compiled, why_not
from tests.probe.conftest import connect, run, runtime_dir, start  # noqa: F401  fixtures

ROOT = Path(__file__).parents[2]
TENSORS = (
    *("parameter", "gradient", "optimizer_state", "activation"),
    *("input", "temporary", "autograd_detail", "unknown"),
)

PREAMBLE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fakecuda.double import AllocatorConfig, install
"""

TRAINING = """
import json
memory = install({install})
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    *(nn.Sequential(nn.Linear({width}, {width}), nn.GELU()) for _ in range({layers}))
).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def steps(count):
    for _ in range(count):
        x = torch.randn({batch}, {width}, device="cuda")
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

steps(1)
ballast = torch.empty({ballast}, dtype=torch.uint8, device="cuda")
for line in sys.stdin:
    steps(int(line))
    print(json.dumps(torch.cuda.memory_stats()), flush=True)
"""
"""Stands still between the numbers of steps that it reads; then writes torch's own counters."""


class Training:
    """A process that trains on the double as it is told to."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid

    def begin(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def end(self):
        """Torch's own counters, when all is still again."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def steps(self, count):
        self.begin(count)
        return self.end()


@pytest.fixture(scope="session", autouse=True)
def device():
    """The double's library, compiled before any test's clock runs for it."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    compiled()


@pytest.fixture
def training(start):  # noqa: F811
    """``training(install="capacity_bytes=1 << 30")``: a small one on the double."""

    def begin(install="", width=64, layers=4, batch=128, ballast=0):
        """``ballast``: bytes that are held beside the training's."""
        sizes = {"width": width, "layers": layers, "batch": batch, "ballast": ballast}
        return Training(start(PREAMBLE + TRAINING.format(install=install, **sizes)))

    return begin


def told(viewer):
    """Counters and breakdown of the double, taken now."""
    (device,) = [d for d in viewer.now()["devices"] if d["device"] == "cuda:0"]
    return device["allocator"], device["breakdown"]


def adds_up(allocator, breakdown):
    """What has to hold in every sample."""
    tensors = sum(breakdown[f"{name}_bytes"] for name in TENSORS)
    assert tensors == allocator["allocated_bytes"]
    rest = breakdown["cached_bytes"] + breakdown["fragmentation_bytes"]
    assert rest == allocator["reserved_bytes"] - allocator["allocated_bytes"]

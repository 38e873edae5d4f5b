"""The double's memory ends: the allocator's observer, on the thread where it happens."""

import json
from pathlib import Path

import pytest

from tests.fakecuda.conftest import PREAMBLE
from vramtop.core import segments
from vramtop.protocol.postmortem import SUFFIX
from vramtop.sources import postmortem

MIB = 1 << 20
CAPACITY = 120 * MIB

CODE = f"""
import json, threading
memory = install(capacity_bytes={CAPACITY})
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.up = nn.Linear(64, wide)
        self.down = nn.Linear(wide, 64)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))

model = nn.Sequential(Block(128), Block(128), Block(8192), Block(128)).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def train(batch):
    loss = model(torch.randn(batch, 64, device="cuda")).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

def attempt(batch):
    global caught
    try:
        train(batch)
    except RuntimeError:
        caught = True

def told():
    stats = torch.cuda.memory_stats()
    print(json.dumps([stats["reserved_bytes.all.current"], stats["num_ooms"], caught]), flush=True)

caught = False

for _ in range(12):
    train(16)
print("trained", flush=True)
for line in sys.stdin:
    exec(line)
"""


@pytest.fixture
def training(start):
    process = start(PREAMBLE + CODE)
    assert process.stdout.readline() == "trained\n", process.communicate()[1]

    def do(line):
        process.stdin.write(line + "\n")
        process.stdin.flush()

    process.do = do
    return process


def files(directory):
    return list(directory.glob(f"*{SUFFIX}"))


def test_in_backward_on_a_thread_of_the_engines(training, runtime_dir):
    # A batch of 1024 makes tensors of 32 MiB in the third block: forward holds two of them at
    # most, backward needs a third for what goes back through the ReLU.
    training.do("train(1024)")
    _, err = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "CUDA out of memory" in err
    (path,) = files(runtime_dir)
    found = postmortem.read(path)
    failure = found.failure
    assert (failure.kind, failure.device, failure.caught) == ("oom", "cuda:0", False)
    assert (failure.phase, failure.module, failure.module_source) == ("backward", "2.up", "nearest")
    assert (failure.requested_bytes, failure.total_bytes) == (32 * MIB, CAPACITY)
    assert failure.step == 12
    assert failure.message in err
    assert "loss.backward()" in found.traceback

    (device,) = [d for d in found.process.probe.devices if d.device == "cuda:0"]
    assert failure.free_bytes == CAPACITY - device.allocator.reserved_bytes < 32 * MIB
    assert device.allocator.ooms == 1
    totals = segments.totals(device.segments.segments)
    assert totals.total_bytes == device.allocator.reserved_bytes
    assert totals.allocated_bytes == device.allocator.allocated_bytes
    assert totals.largest_free_bytes < 32 * MIB
    by_category = [
        block
        for segment in device.segments.segments
        for block in segment.blocks
        if block.category == "parameter"
    ]
    assert by_category == []  # nobody watched: no step was sampled


def test_in_forward_caught_and_tried_again(training, runtime_dir, connect):
    viewer = connect(runtime_dir, training.pid)
    viewer.now()
    training.do("attempt(4096); told()")
    _, ooms, caught = json.loads(training.stdout.readline())
    assert (ooms, caught) == (1, True)
    pending = viewer.next("oom")
    assert (pending["phase"], pending["module"]) == ("forward", "2.up")
    assert pending["caught"] is None
    assert files(runtime_dir) == [Path(pending["file"])]

    training.do("train(16); told()")
    training.stdout.readline()
    told = viewer.next("oom")
    assert (told["caught"], told["caught_ooms"], told["file"]) == (True, 1, None)
    assert files(runtime_dir) == []
    training.do("sys.exit()")
    assert training.wait(60) == 0
    assert files(runtime_dir) == []


def test_the_hooks_of_a_thread_that_ends(training, runtime_dir):
    training.do("t = threading.Thread(target=train, args=(4096,)); t.start(); t.join(); told()")
    _, ooms, _ = json.loads(training.stdout.readline())
    (path,) = files(runtime_dir)
    found = postmortem.read(path)
    assert (found.failure.phase, found.failure.module) == ("forward", "2.up")
    assert (found.failure.module_source, found.failure.caught) == ("exact", False)
    assert found.failure.requested_bytes == 128 * MIB
    assert ooms == 1
    training.do("train(16)")
    training.do("told()")
    assert json.loads(training.stdout.readline())[1] == 1
    assert files(runtime_dir) == [path]


def test_the_batch_in_the_file_is_the_one_that_failed(training, runtime_dir):
    training.do("train(4096)")
    training.communicate(timeout=60)
    (path,) = files(runtime_dir)
    (model,) = postmortem.read(path).process.probe.models
    assert model.batch_shapes == ((4096, 64),)

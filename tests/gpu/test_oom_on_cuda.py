"""A real batch over the cliff of a real card: the post-mortem says what torch itself says."""

import json

import pytest

from tests.probe.conftest import connect, run, runtime_dir, start  # noqa: F401  fixtures
from vramtop.core import segments
from vramtop.protocol.postmortem import SUFFIX
from vramtop.sources import postmortem

CODE = """
import json, sys
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.up = nn.Linear(1024, wide)
        self.down = nn.Linear(wide, 1024)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))

WIDE = 65536
model = nn.Sequential(Block(1024), Block(1024), Block(WIDE), Block(1024)).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def train(batch):
    loss = model(torch.randn(batch, 1024, device="cuda")).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

for _ in range(12):
    train(16)
torch.cuda.synchronize()
torch.cuda.empty_cache()
free, total = torch.cuda.mem_get_info()
row = WIDE * 4  # bytes of the widest tensor for each of the batch
for line in sys.stdin:
    where = line.strip()
    batch = int(free * {"forward": 1.2, "caught": 1.2, "backward": 0.4}[where] / row)
    print(json.dumps([batch * row, total]), flush=True)
    if where == "caught":
        try:
            train(batch)
        except torch.OutOfMemoryError:
            pass
        train(16)
        print(json.dumps(torch.cuda.memory_stats()["num_ooms"]), flush=True)
    else:
        train(batch)
"""


@pytest.fixture
def training(start):  # noqa: F811
    process = start(CODE)

    def tell(where):
        process.stdin.write(where + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    process.tell = tell
    return process


def only_file(directory):
    (path,) = directory.glob(f"*{SUFFIX}")
    return postmortem.read(path)


@pytest.mark.parametrize(
    ("where", "module", "source"),
    [("forward", "2.up", "exact"), ("backward", "2.up", "nearest")],
)
def test_module_phase_and_request(training, runtime_dir, where, module, source):  # noqa: F811
    # In forward the widest tensor alone is more than there is; in backward two of them fit, and
    # the third, of what goes back through the ReLU, does not.
    size, total = training.tell(where)
    _, err = training.communicate(timeout=120)
    assert "torch.OutOfMemoryError: CUDA out of memory" in err
    failure = (found := only_file(runtime_dir)).failure
    assert (failure.kind, failure.device, failure.caught) == ("oom", "cuda:0", False)
    assert (failure.phase, failure.module, failure.module_source) == (where, module, source)
    assert size <= failure.requested_bytes < size + (2 << 20)  # rounded up to a segment
    assert failure.total_bytes == total
    assert failure.free_bytes < failure.requested_bytes
    (device,) = [d for d in found.process.probe.devices if d.device == "cuda:0"]
    totals = segments.totals(device.segments.segments)
    assert totals.total_bytes + device.segments.omitted_bytes == device.allocator.reserved_bytes
    assert totals.largest_free_bytes < failure.requested_bytes
    assert device.allocator.ooms == 1
    assert found.traceback is not None


def test_caught_it_is_counted_as_torch_counts(training, runtime_dir, connect):  # noqa: F811
    viewer = connect(runtime_dir, training.pid)
    viewer.now()
    training.tell("caught")
    ooms = json.loads(training.stdout.readline())
    told = viewer.next("oom")
    while not told["caught"]:
        told = viewer.next("oom")
    assert told["caught_ooms"] == ooms == 1
    assert list(runtime_dir.glob(f"*{SUFFIX}")) == []

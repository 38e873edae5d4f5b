"""What an allocator refuses to tell, and what must not be asked of a card."""

import json

from tests.fakecuda.conftest import PREAMBLE, Training, adds_up, told

CODE = """
import json
memory = install()
import torch
from torch import nn

model = nn.Linear(64, 64).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def steps(count):
    for _ in range(count):
        x = torch.randn(128, 64, device="cuda")
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
{before}
for line in sys.stdin:
    steps(int(line))
    {after}
    print(json.dumps(memory.asked_after), flush=True)
"""


def begin(start, before="", after="pass"):
    return Training(start(PREAMBLE + CODE.format(before=before, after=after)))


def messages(viewer, until):
    """All messages until one of that type, problems included."""
    found = []
    while not found or found[-1]["type"] != until:
        found.append(viewer.read())
    return found


def test_an_allocator_without_segments_has_the_rest(start, runtime_dir, connect):
    training = begin(
        start,
        # As CUDAMallocAsyncAllocator.cpp has it.
        """
def refuse(*_):
    raise RuntimeError("Calling snapshot with backend:cudaMallocAsync is not meaningful.")
torch._C._cuda_memorySnapshot = refuse
""",
    )
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    training.begin(20)
    found = messages(viewer, "detail")
    assert [message for message in found if message["type"] in ("problem", "segments")] == []
    detail = found[-1]
    assert detail["peak"]["breakdown"]["parameter_bytes"] == 64 * 64 * 4 + 512
    assert detail["notes"] == ["no segment map: this allocator tells of none"]


def test_an_allocator_that_counts_nothing_leaves_what_is_counted_by_us(start, runtime_dir, connect):
    training = begin(
        start,
        # As CUDAPluggableAllocator.cpp has it.
        """
def refuse(*_):
    raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats.")
torch._C._cuda_memoryStats = refuse
""",
    )
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    training.begin(20)
    found = messages(viewer, "detail")
    asked = training.end()
    problems = [message["message"] for message in found if message["type"] == "problem"]
    assert len(problems) == 1
    assert "the allocator's counters" in problems[0]
    allocator, breakdown = told(viewer)
    assert allocator is None
    assert breakdown["parameter_bytes"] == 64 * 64 * 4 + 512
    assert breakdown["optimizer_state_bytes"] == 2 * breakdown["parameter_bytes"]
    assert "MemGetInfo" not in asked  # it would make a context where there is none
    reason = "how full the GPU is cannot be told, and looking at operations needs some room"
    assert found[-1]["notes"] == [f"seen from its boundaries only: {reason}"]


def test_stages_are_of_the_allocators_bytes(start, runtime_dir, connect):
    process = start(
        PREAMBLE
        + """
memory = install()
import vramtop
import torch

with vramtop.stage("load"):
    kept = torch.empty(3 << 20, dtype=torch.uint8, device="cuda")
    with vramtop.stage("spike"):
        torch.empty(5 << 20, dtype=torch.uint8, device="cuda")
print("ready", flush=True)
input()
"""
    )
    viewer = connect(runtime_dir, process.pid)
    assert process.stdout.readline() == "ready\n"
    stages = [s for s in viewer.next("stages")["stages"] if s["device"] == "cuda:0"]
    # "load" began before CUDA was in use, and so has no beginning there.
    assert [(s["path"], s["before_bytes"], s["after_bytes"], s["peak_bytes"]) for s in stages] == [
        ("load / spike", 3 << 20, 3 << 20, 8 << 20),
        ("load", 0, 3 << 20, 8 << 20),
    ]


def test_stages_go_on_without_the_allocators_bytes(start, runtime_dir, connect):
    process = start(
        PREAMBLE
        + """
install()
import vramtop
import torch

kept = torch.empty(3 << 20, dtype=torch.uint8, device="cuda")
def refuse(*_):
    raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats.")
torch._C._cuda_memoryStats = refuse
with vramtop.stage("load"):
    pass
print("ready", flush=True)
input()
"""
    )
    viewer = connect(runtime_dir, process.pid)
    assert process.stdout.readline() == "ready\n"
    (found,) = viewer.next("stages")["stages"]
    assert (found["device"], found["path"], found["calls"]) == ("cpu", "load", 1)


def test_the_history_is_of_the_fullest_moments(start, runtime_dir, connect):
    training = begin(start, after="import time; time.sleep(1.2)")
    for _ in range(3):
        training.steps(3)
    history = connect(runtime_dir, training.pid, history=True).next("history")
    assert history["device"] == "cuda:0"
    assert [point[1] for point in history["points"]] == [1, 3, 6]  # steps
    for _, _, parameters, gradients, states, *_ in history["points"]:
        assert (parameters, gradients, states) == (16896, 0, 2 * 16896)


def test_nothing_is_asked_of_the_driver_while_a_graph_is_captured(start, runtime_dir, connect):
    training = begin(
        start,
        "torch.cuda.graphs._cuda_isCurrentStreamCapturing = lambda: True\n"
        "memory.asked_after.clear()",
    )
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    asked = training.steps(30)
    assert set(asked) <= {"memoryStats", "getDeviceCount"}
    adds_up(*told(viewer))


def test_cuda_that_the_program_does_not_use_stays_untouched(start, runtime_dir, connect):
    process = start(
        PREAMBLE
        + """
import json
memory = install()
import torch
from torch import nn

model = nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)  # Adam's asks for CUDA itself
for line in sys.stdin:
    for _ in range(int(line)):
        model(torch.randn(128, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    print(json.dumps([torch.cuda.is_initialized(), memory.asked_after]), flush=True)
"""
    )
    training = Training(process)
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    training.begin(30)
    assert viewer.next("detail")["device"] == "cpu"
    initialized, asked = training.end()
    assert not initialized
    assert set(asked) <= {"getDeviceCount"}
    assert json.dumps(viewer.now()["devices"]).count("cuda") == 0

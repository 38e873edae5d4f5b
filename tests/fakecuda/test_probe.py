"""The probe on the double: every path of it that is taken beside a card only."""

import pytest

from tests.fakecuda.conftest import PREAMBLE, Training, adds_up, told

LAYERS, WIDTH, BATCH = 4, 64, 128
"""Of the training in conftest.py, as it is without being told otherwise."""


@pytest.fixture
def watched(training, runtime_dir, connect):
    """``watched(install=..)``: (a training, a viewer of it)."""

    def begin(**options):
        begun = training(**options)
        return begun, connect(runtime_dir, begun.pid)

    return begin


def recorded(training, viewer, wanted=("detail", "segments"), steps=20):
    """Messages of the double by type: of the recording that begins as soon as it is watched."""
    viewer.next("sample")
    training.begin(steps)
    found = {}
    while set(found) < set(wanted):
        message = viewer.read()
        assert message["type"] != "problem", message
        if message.get("device") == "cuda:0":
            found[message["type"]] = message
    return found


def by_category(segments):
    """Allocated bytes of a segment map by category."""
    sizes = {}
    for segment in segments["segments"]:
        assert sum(size for size, _, _ in segment["blocks"]) == segment["total_bytes"]
        for size, state, category in segment["blocks"]:
            if state == "allocated":
                sizes[category] = sizes.get(category, 0) + size
    return sizes


def test_counters_are_torchs(watched):
    training, viewer = watched()
    stats = training.steps(3)
    allocator, breakdown = told(viewer)
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
    parameters = LAYERS * (WIDTH * WIDTH * 4 + 512)  # a bias of 256 bytes takes a block of 512
    assert breakdown["parameter_bytes"] == parameters
    assert breakdown["optimizer_state_bytes"] == 2 * parameters
    assert breakdown["unknown_bytes"] == breakdown["gradient_bytes"] == 0


@pytest.mark.parametrize("config", ["", "config=AllocatorConfig(expandable_segments=True)"])
def test_every_sample_adds_up(watched, config):
    training, viewer = watched(install=config)
    training.begin(400)
    seen = 0
    while seen < 30:
        message = viewer.read()
        assert message["type"] != "problem", message
        for device in message.get("devices", ()):
            if device["device"] == "cuda:0" and device["allocator"]:
                adds_up(device["allocator"], device["breakdown"])
                seen += 1


def test_the_recorded_peak_is_the_allocators(watched):
    training, viewer = watched()
    detail = recorded(training, viewer)["detail"]
    names = [phase["name"] for phase in detail["phases"] if phase["name"] != "other"]
    assert sorted(names) == ["backward", "forward", "step", "zero_grad"]
    assert detail["notes"] == []
    peak = detail["peak"]
    assert peak["phase"] == "backward"
    # Nothing here takes memory but tensors: to the byte.
    assert peak["total_bytes"] == training.end()["allocated_bytes.all.peak"]
    assert peak["total_bytes"] == sum(
        size
        for name, size in peak["breakdown"].items()
        if name.removesuffix("_bytes") not in ("buffer", "autocast_cache", "kv_cache", "recomputed")
    )


@pytest.mark.parametrize("expandable", [False, True])
def test_the_segment_map(watched, expandable):
    training, viewer = watched(
        install=f"config=AllocatorConfig(expandable_segments={expandable})",
        width=512,
        layers=3,
        batch=640,
    )
    segments = recorded(training, viewer)["segments"]
    stats = training.end()
    assert segments["omitted_segments"] == segments["omitted_bytes"] == 0
    total = sum(segment["total_bytes"] for segment in segments["segments"])
    assert total == stats["reserved_bytes.all.current"]
    assert {segment["expandable"] for segment in segments["segments"]} == {expandable}
    assert {segment["pool"] for segment in segments["segments"]} == {"small", "large"}
    sizes = by_category(segments)
    parameters = 3 * (512 * 512 + 512) * 4
    one = 640 * 512 * 4
    assert sizes["parameter"] == parameters
    assert sizes["optimizer_state"] == 2 * parameters
    assert sizes["input"] == one
    # At the end of a forward: what each Linear and GELU has made, and the loss before this one.
    assert sizes["activation"] == 6 * one + 512
    assert set(sizes) == {"parameter", "optimizer_state", "input", "activation"}


def test_what_a_checkpoint_makes_again_is_told_apart(start, runtime_dir, connect):
    process = start(
        PREAMBLE
        + """
import json
install()
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(4)
        )

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x

model = Model().cuda()
optimizer = torch.optim.AdamW(model.parameters())
for line in sys.stdin:
    for _ in range(int(line)):
        x = torch.randn(1024, 64, device="cuda")
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    print(json.dumps(torch.cuda.memory_stats()), flush=True)
"""
    )
    training = Training(process)
    detail = recorded(training, connect(runtime_dir, training.pid))["detail"]
    peak = detail["peak"]
    assert peak["total_bytes"] == training.end()["allocated_bytes.all.peak"]
    assert peak["phase"] == "backward"
    # One block's hidden layer twice, before GELU and after it.
    assert peak["breakdown"]["recomputed_bytes"] >= 2 * 1024 * 256 * 4
    assert peak["breakdown"]["activation_bytes"] < 8 * 1024 * 64 * 4
    assert peak["module"].startswith("blocks.")


def test_a_nearly_full_device_is_not_looked_at_closely(watched):
    training, viewer = watched(install="capacity_bytes=1 << 30", ballast=990 << 20)
    messages = recorded(training, viewer)
    detail = messages["detail"]
    reason = "the GPU is nearly full, and looking at operations needs some room"
    assert detail["notes"] == [f"seen from its boundaries only: {reason}"]
    assert detail["peak"] is None
    phases = {phase["name"]: phase for phase in detail["phases"]}
    assert set(phases) >= {"forward", "backward", "step"}
    parameters = LAYERS * (WIDTH * WIDTH * 4 + 512)
    assert phases["step"]["after"]["optimizer_state_bytes"] == 2 * parameters
    # That is when the segment map is wanted most.
    sizes = by_category(messages["segments"])
    assert sizes[None] >= 990 << 20
    assert sizes["parameter"] == parameters
    assert sizes["optimizer_state"] == 2 * parameters
    assert sizes["input"] == BATCH * WIDTH * 4
    assert sizes["activation"] == 2 * LAYERS * BATCH * WIDTH * 4
    assert training.end()["num_ooms"] == 0


def test_running_out_of_memory_is_the_programs_to_see(start, runtime_dir, connect):
    process = start(
        PREAMBLE
        + """
import json
install(capacity_bytes=8 << 20)
import torch
from torch import nn

seen = []
torch._C._cuda_attach_out_of_memory_observer(lambda *args: seen.append(args))
model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8))).cuda()
optimizer = torch.optim.AdamW(model.parameters())

def step(batch):
    x = torch.randn(batch, 64, device="cuda")
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

failed = 0
for line in sys.stdin:
    for number in range(int(line)):
        try:
            step(64 if number % 5 else 1 << 15)
        except torch.OutOfMemoryError:
            failed += 1
    stats = torch.cuda.memory_stats()
    print(json.dumps([failed, len(seen), stats["num_ooms"]]), flush=True)
"""
    )
    training = Training(process)
    viewer = connect(runtime_dir, training.pid)
    viewer.next("sample")
    training.begin(100)
    kinds = set()
    while not kinds >= {"detail", "segments"} or told(viewer)[0]["ooms"] < 20:
        message = viewer.read()
        assert message["type"] != "problem", message
        kinds.add(message["type"])
        if message["type"] == "sample":
            for device in message["devices"]:
                if device["device"] == "cuda:0" and device["allocator"]:
                    adds_up(device["allocator"], device["breakdown"])
    assert training.end() == [20, 20, 20]

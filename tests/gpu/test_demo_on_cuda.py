"""The demo on a real card: NVML, the allocator and the probe's count agree."""

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "vramtop", "demo", "--once", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def process(snapshot):
    (found,) = [p for p in snapshot["processes"] if p["probe"]["state"] == "streaming"]
    return found


def test_the_devices_are_nvmls(snapshot):
    assert {d["backend"] for d in snapshot["devices"]} == {"nvml"}
    for device in snapshot["devices"]:
        memory = device["memory"]
        assert 0 < memory["used_bytes"] < memory["total_bytes"]


def test_process_holds_reserved_holds_allocated(process):
    (device,) = [d for d in process["probe"]["devices"] if d["device"].startswith("cuda")]
    (use,) = [u for u in process["devices"] if u["uuid"] == device["uuid"]]
    allocator = device["allocator"]
    assert use["used_bytes"] >= allocator["reserved_bytes"] >= allocator["allocated_bytes"] > 0


def test_the_breakdown_sums_to_the_process(process):
    (device,) = [d for d in process["probe"]["devices"] if d["device"].startswith("cuda")]
    b = device["breakdown"]
    tensors = (
        *("parameter", "gradient", "optimizer_state", "activation"),
        *("input", "temporary", "autograd_detail", "unknown"),
    )
    rest = ("cached", "fragmentation", "outside_allocator")
    allocator = device["allocator"]
    assert sum(b[f"{name}_bytes"] for name in tensors) == allocator["allocated_bytes"]
    assert b["cached_bytes"] + b["fragmentation_bytes"] == (
        allocator["reserved_bytes"] - allocator["allocated_bytes"]
    )
    assert sum(b[f"{name}_bytes"] for name in (*tensors, *rest)) == b["process_bytes"]
    # AdamW: two states of the parameters' size, and a step count for each parameter.
    parameters = b["parameter_bytes"] - b["buffer_bytes"]
    assert 2 * parameters <= b["optimizer_state_bytes"] < 2.1 * parameters

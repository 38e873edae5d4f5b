"""A leak under the caching allocator's rules, from the tensors to ``vramtop --once --json``."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.fakecuda.conftest import PREAMBLE
from tests.fakecuda.double import NAME, UUID

MIB = 1 << 20
TOTAL, CONTEXT, USED = 4096 * MIB, 16 * MIB, 1024 * MIB
"""Of the GPU that NVML tells of; the processes may take what is not its context."""

TRAINING = f"""
import time
memory = install(capacity_bytes={TOTAL - CONTEXT})
import torch
from torch import nn

torch.set_num_threads(1)
model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(4))).cuda()
optimizer = torch.optim.AdamW(model.parameters())
losses = []
while True:
    loss = model(torch.randn(256, 256, device="cuda")).square().mean()
    loss.backward(retain_graph={{leaks}})
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss if {{leaks}} else loss.item())
    del loss
    time.sleep(0.05)
"""


def shown(environment):
    """The processes by pid, and the exit code, by ``vramtop --once --json``."""
    done = subprocess.run(
        [sys.executable, "-m", "vramtop", "--once", "--json", "--backend", "nvml"],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    processes = json.loads(done.stdout)["processes"]
    return {process["pid"]: process for process in processes}, done.returncode


@pytest.mark.timeout(240)
def test_a_leak_on_a_gpu_is_forecast_and_a_healthy_training_beside_it_not(
    start, runtime_dir, nvml_standin, tmp_path
):
    leaking, healthy = (
        start(PREAMBLE + TRAINING.format(leaks=leaks), name=f"leaks_{leaks}.py")
        for leaks in (True, False)
    )
    gpu = {
        "name": NAME,
        "uuid": f"GPU-{UUID}",
        "total_bytes": TOTAL,
        "used_bytes": USED,
        "reserved_bytes": 0,
        "processes": [{"pid": p.pid, "used_bytes": USED // 2} for p in (leaking, healthy)],
    }
    environment = {
        **os.environ,
        **nvml_standin({"gpus": [gpu]}).env,
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    deadline = time.monotonic() + 180
    time.sleep(20)  # so long it takes at least
    forecast = None
    while forecast is None and time.monotonic() < deadline:
        time.sleep(3)
        processes, code = shown(environment)
        assert processes[healthy.pid]["forecast"] is None
        forecast = processes[leaking.pid]["forecast"]
    for training in (leaking, healthy):
        training.kill()
    assert code == 4
    assert forecast["kind"] == "leak"
    # Every step keeps four activations of 256 x 256 floats, its input and the loss.
    kept = 5 * 256 * 256 * 4
    assert forecast["bytes_per_step"] == pytest.approx(kept, rel=0.25)
    devices = processes[leaking.pid]["probe"]["devices"]
    (part,) = (device for device in devices if device["device"] == "cuda:0")
    left = TOTAL - USED + part["allocator"]["reserved_bytes"] - part["allocator"]["allocated_bytes"]
    assert forecast["oom_in_steps"] == pytest.approx(left / kept, rel=0.3)

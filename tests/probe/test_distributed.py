"""Two ranks over gloo: buckets and shards are counted as what this rank really holds."""

from __future__ import annotations

import json
import socket

import pytest

torch = pytest.importorskip("torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

RANK = """
import json, os, torch, torch.distributed as dist
from torch import nn
torch.set_num_threads(1)
dist.init_process_group("gloo")
world = dist.get_world_size()

def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor

def by_hand(model, optimizer):
    parameters = list(model.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    states = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    taken, sums = set(), []
    for group in (parameters + list(model.buffers()), gradients, states):
        storages = [local(tensor).untyped_storage() for tensor in group]
        new = {s.data_ptr(): s.nbytes() for s in storages if s.nbytes()}
        sums.append(sum(size for at, size in new.items() if at not in taken))
        taken.update(new)
    return sums

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

def train(name, model):
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    probe = sys.modules["_vramtop_injected.probe.session"].session()
    probe.pace.due = lambda now: True
    out = []
    for _ in range(3):
        model(torch.randn(4, 16)).pow(2).mean().backward()
        optimizer.step()
        out.append((probe.observer.totals()["cpu"][:3], by_hand(model, optimizer)))
        optimizer.zero_grad()
    job = [probe.observer.models(), probe.observer.optimizers()]
    print(json.dumps([name, out, job, probe.faults.messages]), flush=True)

train("ddp", nn.parallel.DistributedDataParallel(net(), gradient_as_bucket_view=True))
import gc; gc.collect()
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
sharded = net()
mesh = init_device_mesh("cpu", (world,))
fully_shard(sharded[0], mesh=mesh)
fully_shard(sharded, mesh=mesh)
train("fsdp", sharded)
# Gloo's threads must end before the interpreter does, or they may abort it.
del sharded, mesh; gc.collect()
dist.destroy_process_group()
"""


def test_two_ranks(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [start(RANK, name=f"rank{rank}.py", RANK=str(rank), **world) for rank in range(2)]
    for process in ranks:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
        (ddp, ddp_counts, ddp_job, ddp_faults), (fsdp, fsdp_counts, fsdp_job, fsdp_faults) = lines
        assert (ddp, fsdp) == ("ddp", "fsdp")
        assert ddp_faults == fsdp_faults == []
        elements = 16 * 32 + 32 + 32 * 16 + 16
        for wrapper, job in (("DistributedDataParallel", ddp_job), ("FSDPModule", fsdp_job)):
            (model,), (optimizer,) = job
            assert model["class"] == "Sequential"
            assert model["wrappers"] == [wrapper]
            assert (model["tensors"], model["trainable_by_dtype"]) == (4, {"float32": elements})
            assert optimizer["parameters"] == elements
            assert optimizer["state_by_dtype"] == {"float32": 2 * elements}
            assert (model["arguments"], model["batch_shapes"]) == (["0"], [[4, 16]])
        whole = 4 * elements
        for told, counted in ddp_counts:
            assert told == counted
            assert told[0] == whole
        for told, counted in fsdp_counts:
            assert told[1:] == counted[1:]
        # Each rank holds half of it; what FSDP gathered for a forward is free again by now.
        assert fsdp_counts[-1][0] == fsdp_counts[-1][1]
        assert fsdp_counts[-1][0][0] == whole // 2

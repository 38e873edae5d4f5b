"""Run as a script: what FSDP and DDP really allocate on the CPU, with ranks that are not there.

Arguments are cases: stage (2 or 3), "bf16" for torchtitan's mixed precision or "fp32", and
micro-batches, as 3:fp32:1; or "flat" for FSDP1, "flat-frozen" with some parameters of each layer
frozen, in place of the stage, and "no_sync" in place of the precision where gradients stay whole
before the last micro-batch. Printed is a line of JSON for each: for every phase of the second step
the sizes in KiB as they come (+) and go (-). A last line tells of two steps under DDP.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.profiler import profile, record_function
from torch.testing._internal.distributed.fake_pg import FakeStore

SHARDS = 4
LAYERS = 3
WIDTH = 512
HEAD = 2
"""The head is as many times as wide."""
SEEN_FROM_BYTES = 1 << 16


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(WIDTH, WIDTH, bias=False)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, HEAD * WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x).sum()


class Adapted(Layer):
    """A layer of which the larger part is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(WIDTH, WIDTH, bias=False)
        self.linear = nn.Linear(WIDTH, WIDTH // 2, bias=False)
        self.back = nn.Linear(WIDTH // 2, WIDTH, bias=False)
        self.frozen.weight.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.linear(self.frozen(x)))


def flat_case(kind: str, sync: str, micro_batches: int) -> dict[str, list[int]]:
    model: nn.Module = Small()
    if kind == "flat-frozen":
        model.layers = nn.ModuleList(Adapted() for _ in range(LAYERS))
    x = torch.zeros(4, WIDTH)
    with profile(profile_memory=True) as loading, record_function("load"):
        model = FullyShardedDataParallel(
            model,
            auto_wrap_policy=ModuleWrapPolicy({Layer, Adapted}),
            device_id=torch.device("cpu"),
            use_orig_params=kind == "flat-frozen",
        )
    model(x).backward()
    model.zero_grad()
    with profile(profile_memory=True) as seen:
        for number in range(micro_batches):
            last = number + 1 == micro_batches
            with model.no_sync() if sync == "no_sync" and not last else nullcontext():
                with record_function(f"forward {number}"):
                    loss = model(x)
                with record_function(f"backward {number}"):
                    loss.backward()
        with record_function("zero_grad"):
            model.zero_grad()
    return told(loading) | told(seen)


def case(stage: str, precision: str, micro_batches: int) -> dict[str, list[int]]:
    if stage.startswith("flat"):
        return flat_case(stage, precision, micro_batches)
    options: dict[str, Any] = {
        "mesh": init_device_mesh("cpu", (SHARDS,)),
        "reshard_after_forward": stage == "3",
    }
    if precision == "bf16":
        options["mp_policy"] = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    model = Small()
    for layer in model.layers:
        fully_shard(layer, **options)
    del options["reshard_after_forward"]
    fully_shard(model, **options)
    x = torch.zeros(4, WIDTH)
    model(x).backward()
    model.zero_grad()
    with profile(profile_memory=True) as seen:
        for number in range(micro_batches):
            with record_function(f"forward {number}"):
                loss = model(x)
            with record_function(f"backward {number}"):
                loss.backward()
        with record_function("zero_grad"):
            model.zero_grad()
    return told(seen)


def ddp() -> dict[str, list[int]]:
    layers = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(5)))
    x = torch.zeros(4, 2048)
    with profile(profile_memory=True) as seen:
        with record_function("load"):
            model = nn.parallel.DistributedDataParallel(layers)
            model.register_comm_hook(None, alone)
        for number in range(2):
            with record_function(f"forward {number}"):
                loss = model(x).sum()
            with record_function(f"backward {number}"):
                loss.backward()
            with record_function(f"zero_grad {number}"):
                model.zero_grad()
    return told(seen)


def alone(_state, bucket):
    """In place of an all-reduce, which ranks that are not there cannot answer.

    DDP looks at annotations, and takes no strings for them.
    """
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def told(seen: Any) -> dict[str, list[int]]:
    moments: list[tuple[int, int | str]] = []
    pending = list(seen.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending += event.children
        if event.typed[0] == torch._C._profiler._EventType.Allocation:
            size = event.extra_fields.alloc_size
            if abs(size) >= SEEN_FROM_BYTES:
                moments.append((event.start_time_ns, size // 1024))
        elif event.name.partition(" ")[0] in ("load", "forward", "backward", "zero_grad"):
            moments.append((event.start_time_ns, event.name))
    story: dict[str, list[int]] = {}
    for _, what in sorted(moments, key=lambda moment: moment[0]):
        if isinstance(what, str):
            story[what] = []
        else:
            story[list(story)[-1]].append(what)
    return story


if __name__ == "__main__":
    dist.init_process_group("fake", rank=0, world_size=SHARDS, store=FakeStore())
    for argument in sys.argv[1:]:
        one, two, three = argument.split(":")
        print(json.dumps(case(one, two, int(three))))
    print(json.dumps(ddp()))

"""The usual ways to spread a training over so many GPUs, and their names."""

from __future__ import annotations

import dataclasses
from typing import Final

from .config_numbers import kv_heads, number
from .workload import Parallel, Workload

GPU_COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_ZERO_NAMES: Final = ("DDP", "ZeRO-1", "ZeRO-2", "FSDP (ZeRO-3)")


def strategies(workload: Workload) -> tuple[Parallel, ...]:
    """What can be chosen for the workload's number of GPUs; its own is always among them.

    Inference divides no gradients and no optimizer, so ZeRO-1 and 2 are not there.
    """
    gpus = workload.parallel.gpus
    if gpus == 1:
        found = [Parallel()]
    else:
        stages = (0, 1, 2, 3) if workload.training else (0, 3)
        found = [Parallel(gpus=gpus, zero=stage) for stage in stages]
        if _divides(workload, gpus):
            found.append(Parallel(gpus=gpus, tensor=gpus))
            if workload.sequence % gpus == 0:
                found.append(Parallel(gpus=gpus, tensor=gpus, sequence=True))
    if workload.parallel not in found:
        found.append(workload.parallel)
    return tuple(found)


def name_of(parallel: Parallel) -> str:
    """The strategy in a few words: "FSDP (ZeRO-3)", "TP + SP", "TP 2 · PP 4 · DDP 2"."""
    if parallel.gpus == 1:
        return "single GPU"
    degrees = (
        ("TP", parallel.tensor),
        ("PP", parallel.pipeline),
        ("CP", parallel.context),
        ("EP", parallel.expert),
    )
    if parallel.tensor == parallel.gpus and parallel.expert == 1:
        return "TP + SP" if parallel.sequence else "TP"
    words = [f"{name} {degree}" for name, degree in degrees if degree > 1]
    if parallel.sequence:
        words[0] += " + SP"
    data = _ZERO_NAMES[parallel.zero]
    if not words:
        hybrid = f", shards of {parallel.shard_gpus}" if parallel.shard_gpus else ""
        return data + hybrid
    if parallel.data > 1:
        words.append(f"{data.partition(' ')[0]} {parallel.data}")
    return " · ".join(words)


def with_gpus(workload: Workload, gpus: int) -> Workload:
    """The same strategy over another number of GPUs; plain data parallel where it cannot be."""
    parallel = workload.parallel
    group = parallel.tensor * parallel.pipeline * parallel.context
    if gpus == 1:
        changed = Parallel()
    elif parallel.tensor == parallel.gpus > 1:
        sequence = parallel.sequence and workload.sequence % gpus == 0
        changed = Parallel(gpus=gpus, tensor=gpus, sequence=sequence)
        if not _divides(workload, gpus):
            changed = Parallel(gpus=gpus)
    elif gpus % group or (group > 1 and parallel.zero and gpus == group):
        changed = Parallel(gpus=gpus)
    else:
        shards = parallel.shard_gpus
        keeps = shards is not None and (gpus // group * parallel.context) % shards == 0
        changed = dataclasses.replace(parallel, gpus=gpus, shard_gpus=shards if keeps else None)
    return dataclasses.replace(workload, parallel=changed)


def _divides(workload: Workload, degree: int) -> bool:
    """Whether tensor parallelism can divide the model's heads so."""
    config = workload.model.config
    if config is None:
        return False
    heads, shared = number(config, "heads"), kv_heads(config)
    if heads is None or heads % degree:
        return False
    return shared is None or shared % degree == 0 or degree % shared == 0

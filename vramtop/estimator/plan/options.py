"""A configuration as options of ``vramtop estimate``, so that it can be looked at by itself."""

from __future__ import annotations

from ..workload import Lora, Workload


def options(workload: Workload) -> tuple[str, ...]:
    """Options beside the model and the GPU that give the same workload."""
    parallel = workload.parallel
    said = [
        f"--batch {workload.batch}",
        f"--seq {workload.sequence}",
        f"--precision {workload.precision}",
    ]
    if workload.compute_dtype is not None:
        said.append(f"--compute-dtype {workload.compute_dtype}")
    if workload.double_quantization:
        said.append("--double-quant")
    said.append(f"--optimizer {workload.optimizer}")
    if workload.optimizer_implementation is not None:
        said.append(f"--{workload.optimizer_implementation}")
    said.append(f"--attention {workload.attention}")
    if workload.checkpointing != "none":
        said.append(f"--checkpointing {workload.checkpointing}")
    if workload.lora is not None:
        said += _adapters(workload.lora)
    if workload.grad_accumulation > 1:
        said.append(f"--grad-accumulation {workload.grad_accumulation}")
    if workload.chunked_loss:
        said.append("--chunked-loss")
    if workload.stack != "plain":
        said.append(f"--stack {workload.stack}")
    if parallel.gpus > 1:
        said += _spread(workload)
    return tuple(said)


def _adapters(lora: Lora) -> list[str]:
    said = [f"--lora {lora.rank}"]
    if lora.targets:
        said.append(f"--lora-targets {','.join(lora.targets)}")
    if lora.dropout:
        said.append(f"--lora-dropout {lora.dropout:g}")
    if lora.dtype is not None:
        said.append(f"--lora-dtype {lora.dtype}")
    if not lora.prepared:
        said.append("--no-kbit-preparation")
    return said


def _spread(workload: Workload) -> list[str]:
    parallel = workload.parallel
    said = [f"--gpus {parallel.gpus}"]
    for option, value, plain in (
        ("--zero", parallel.zero, 0),
        ("--tp", parallel.tensor, 1),
        ("--pp", parallel.pipeline, 1),
        ("--vpp", parallel.virtual_pipeline, 1),
        ("--cp", parallel.context, 1),
        ("--ep", parallel.expert, 1),
    ):
        if value != plain:
            said.append(f"{option} {value}")
    if parallel.shard_gpus is not None:
        said.append(f"--shard-gpus {parallel.shard_gpus}")
    if parallel.sequence:
        said.append("--sp")
    if parallel.micro_batches is not None:
        said.append(f"--micro-batches {parallel.micro_batches}")
    return said

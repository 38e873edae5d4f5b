"""What one GPU of several holds, composed from a one-GPU timeline: data and sequence parallelism.

Taken are torch's own implementations: DistributedDataParallel, with ZeroRedundancyOptimizer for
ZeRO-1 (Rajbhandari et al. 2020, arXiv 1910.02054, stage P_os), and FSDP2 for ZeRO-2 and 3
(``fsdp``), or FSDP1 where the stack has that (``fsdp_flat``). Communication buffers of NCCL are
outside the allocator and not part of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .fsdp import fully_shard
from .fsdp_flat import fully_shard_flat
from .rewrite import Rewriter, blocks_of_steps, divided
from .stacks import FACTS
from .timeline import BlockInfo, Timeline
from .workload import Parallel, Workload

FIRST_BUCKET_BYTES: Final = 1 << 20
"""kDefaultFirstBucketBytes (torch/csrc/distributed/c10d/reducer.hpp)."""
BUCKET_BYTES: Final = 25 << 20
"""_DEFAULT_BUCKET_CAP_MB (torch/nn/parallel/distributed.py)."""
_INSIDE: Final = ("attn", "attention", "mlp", "ffn", "feed_forward", "feedforward", "moe", "expert")
"""What names the modules that tensor parallelism divides; sequence parallelism the rest."""
_NORMS: Final = ("norm", "ln_")


def shard(timeline: Timeline, workload: Workload) -> Timeline:
    """The timeline of one rank of a data-parallel group.

    Every rank is taken to load its own part only. Without data parallelism it is the same.
    """
    parallel = workload.parallel
    if parallel.data * parallel.context == 1:
        return timeline
    if parallel.zero >= 2:
        flat = FACTS[workload.stack].flat_parameters
        return (fully_shard_flat if flat else fully_shard)(timeline, workload)
    if not workload.training or FACTS[workload.stack].flat_parameters:
        # FSDP1 without shards (NO_SHARD) reduces gradients where they are: no buckets.
        return timeline
    replicated = with_buckets(timeline)
    if parallel.zero == 1:
        return divide_optimizer(replicated, parallel.shards)
    return replicated


def divide_optimizer(timeline: Timeline, shards: int) -> Timeline:
    """ZeRO-1: optimizer states and what a step allocates for a while, divided evenly."""
    in_step = blocks_of_steps(timeline)
    blocks = tuple(
        divided(block, shards) if number in in_step else block
        for number, block in enumerate(timeline.blocks)
    )
    return replace(
        timeline,
        blocks=blocks,
        notes=(*timeline.notes, f"optimizer states composed as 1/{shards} of one GPU's"),
    )


def with_buckets(timeline: Timeline) -> Timeline:
    """DDP: a copy of all gradients in flat buckets, from the model's wrapping to the end.

    ``gradient_as_bucket_view`` is False by default. At first there is one bucket; with the second
    forward it goes, and buckets come in the order in which the gradients came
    (Reducer::rebuild_buckets, torch/csrc/distributed/c10d/reducer.cpp), each closed by the
    gradient that reaches its limit (compute_bucket_assignment_by_size).
    """
    gradients: dict[str, int] = {}
    for block in timeline.blocks:
        if block.category == "gradient":
            gradients.setdefault(block.module, block.base_bytes)
    new = Rewriter(timeline.blocks)
    marks = list(timeline.marks)
    first: int | None = None
    forwards = 0
    for position in range(len(timeline.events) + 1):
        while marks and marks[0].event == position:
            mark = marks.pop(0)
            if first is None and mark.phase != "load":
                first = new.add(_bucket(sum(gradients.values())))
            new.mark(mark)
            forwards += mark.phase == "forward"
            if mark.phase == "forward" and forwards == 2 and first is not None:
                new.release(first)
                for size in _buckets([*gradients.values()]):
                    new.add(_bucket(size))
        if position < len(timeline.events):
            event = timeline.events[position]
            new.module = timeline.event_modules[position] if timeline.event_modules else ""
            if event > 0:
                new.allocate(event - 1)
            else:
                new.release(-event - 1)
    return new.finish(timeline, "DDP's gradient buckets composed: a copy of all gradients")


def _bucket(size: int) -> BlockInfo:
    return BlockInfo(size, 0, "gradient", "", None, "ddp bucket")


def _buckets(gradients: list[int]) -> list[int]:
    buckets: list[int] = []
    size = 0
    for gradient in gradients:
        size += gradient
        if size >= (BUCKET_BYTES if buckets else FIRST_BUCKET_BYTES):
            buckets.append(size)
            size = 0
    return [*buckets, size] if size else buckets


def apply_sequence_parallel(timeline: Timeline, workload: Workload) -> Timeline:
    """Megatron's sequence parallelism over the timeline of a tensor-parallel rank.

    Divided by the tensor-parallel degree is what forward and backward make outside attention and
    MLP: norms, residuals, embeddings (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2).
    The head and the loss work on the whole sequence. Left out are the gathered inputs of attention
    and MLP, which live for one matrix product.
    """
    parallel = workload.parallel
    if not parallel.sequence or parallel.tensor == 1:
        return timeline
    blocks = tuple(
        divided(block, parallel.tensor) if _along_sequence(block) else block
        for block in timeline.blocks
    )
    note = f"sequence parallelism composed: norms and residuals are 1/{parallel.tensor}"
    return replace(timeline, blocks=blocks, notes=(*timeline.notes, note))


def _along_sequence(block: BlockInfo) -> bool:
    if block.category not in ("activation", "autograd_detail") or not block.slope_bytes:
        return False
    parts = block.module.lower().split(".")
    if any(name in parts[-1] for name in _NORMS):
        return True
    if block.layer is None:
        return any("emb" in part or part in ("wte", "wpe") for part in parts)
    return not any(name in part for part in parts for name in _INSIDE)


def pipeline_in_flight(parallel: Parallel) -> tuple[float, float]:
    """Micro-batches whose activations the (first, last) stage holds at its fullest moment.

    1F1B: as many as there are stages from here on, but no more than there are (Narayanan et al.
    2021, arXiv 2104.04473, section 2.2). Interleaved with v chunks a stage, a rank warms up with
    2·(stages behind it) + (v - 1)·p chunks before it alternates (Megatron-LM,
    core/pipeline_parallel/schedules.py), each 1/v of the stage: for the first
    p·(1 + (p - 1)/(p·v)), as in Korthikanti et al. 2022, section 4.2.3.
    """
    stages, chunks = parallel.pipeline, parallel.virtual_pipeline
    if stages == 1:
        return 1, 1
    micro_batches = stages if parallel.micro_batches is None else parallel.micro_batches
    if chunks == 1:
        return min(micro_batches, stages), 1

    def held(behind: int) -> float:
        return min(2 * behind + (chunks - 1) * stages + 1, micro_batches * chunks) / chunks

    return held(stages - 1), held(0)

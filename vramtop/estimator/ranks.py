"""The fullest rank of a parallel workload, composed from the timeline of one GPU.

What a rank does with smaller matrices (tensor, expert and context parallelism) is traced as such;
composed here are the ZeRO or FSDP sharding, sequence parallelism, the stages of a pipeline, and a
KV cache of another dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .pipeline import STAGES, Side, stage
from .result import Footprint
from .sharding import apply_sequence_parallel, shard
from .steady import with_another_step
from .storages import StoragePredictor
from .timeline import BlockInfo, Timeline
from .traced import TracedPredictor
from .workload import Workload

StepPredictor = TracedPredictor | StoragePredictor
_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8}


def fullest(
    line: Timeline, exact: Mapping[int, Timeline], workload: Workload
) -> StepPredictor | Fullest:
    """The predictor of the rank that needs most; ``exact`` has timelines of single batches."""
    stages: tuple[Side | None, ...] = STAGES if workload.parallel.pipeline > 1 else (None,)
    predictors: list[StepPredictor] = []
    for which in stages:

        def part(timeline: Timeline, which: Side | None = which) -> Timeline:
            timeline = apply_sequence_parallel(_with_kv_dtype(timeline, workload), workload)
            if which is not None:
                timeline = stage(timeline, workload, which)
            return with_another_step(shard(timeline, workload))

        exactly = {batch: part(timeline) for batch, timeline in exact.items()}
        if workload.backend == "cpu":
            predictors.append(StoragePredictor(part(line), exactly))
        else:
            predictors.append(TracedPredictor(part(line), exactly, workload))
    return predictors[0] if len(predictors) == 1 else Fullest(tuple(predictors))


@dataclass(frozen=True, slots=True)
class Fullest:
    """At every batch size the one of several ranks that needs most."""

    ranks: tuple[StepPredictor, ...]

    def at(self, batch: int) -> Footprint:
        """Of the rank that needs most at this batch size."""
        return max((rank.at(batch) for rank in self.ranks), key=lambda made: made.process_bytes)

    def process_bytes(self, batch: int) -> int:
        """The same, the total alone."""
        return max(rank.process_bytes(batch) for rank in self.ranks)


def _with_kv_dtype(timeline: Timeline, workload: Workload) -> Timeline:
    if workload.kv_dtype is None:
        return timeline
    bits, traced = _BITS[workload.kv_dtype], _BITS[workload.activation_dtype]
    if bits == traced:
        return timeline

    def change(block: BlockInfo) -> BlockInfo:
        if block.category != "kv_cache":
            return block
        return replace(
            block,
            base_bytes=block.base_bytes * bits // traced,
            slope_bytes=block.slope_bytes * bits // traced,
        )

    note = f"the KV cache is composed: its traced blocks at {workload.kv_dtype}"
    return replace(timeline.map_blocks(change), notes=(*timeline.notes, note))

"""Effective batches: the largest micro-batch that fits and the accumulation that makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .workload import Workload

_ROUND: Final = (32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Accumulation:
    """One way to an effective batch."""

    effective: int
    """Samples that one optimizer step sees."""
    micro: int
    passes: int
    """Micro-batches whose gradients are accumulated."""
    gpus: int
    """Data-parallel degree."""

    @property
    def factors(self) -> str:
        """As "64 = 8 × 8 accumulation"."""
        words = f"{self.effective} = {self.micro} × {self.passes} accumulation"
        return words + (f" × {self.gpus} GPUs" if self.gpus > 1 else "")

    def __str__(self) -> str:
        """As "effective batch 64 = 8 × 8 accumulation"."""
        return f"effective batch {self.factors}"


def effective_batch(workload: Workload) -> int:
    """Samples that one optimizer step of the workload sees."""
    parallel = workload.parallel
    in_pipeline = (parallel.micro_batches or parallel.pipeline) if parallel.pipeline > 1 else 1
    return workload.batch * workload.grad_accumulation * in_pipeline * parallel.data


def accumulated(effective: int, most: int, gpus: int = 1) -> Accumulation | None:
    """An effective batch by the largest micro-batch, ``most`` or less, that divides it.

    None where the GPUs do not divide it, or no batch fits.
    """
    share, rest = divmod(effective, gpus)
    if rest or share < 1 or most < 1:
        return None
    micro = next(size for size in range(min(most, share), 0, -1) if share % size == 0)
    return Accumulation(effective, micro, share // micro, gpus)


def accumulations(workload: Workload, most: int) -> tuple[Accumulation, ...]:
    """The user's effective batch and round ones that need accumulation; none in a pipeline."""
    if not workload.training or workload.parallel.pipeline > 1 or most < 1:
        return ()
    data = workload.parallel.data
    own = effective_batch(workload)
    wanted = [size for size in dict.fromkeys((own, *_ROUND)) if size > most * data]
    ways = (accumulated(size, most, data) for size in wanted)
    return tuple(way for way in ways if way is not None)

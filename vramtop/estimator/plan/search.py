"""The search: every arithmetic × checkpointing × layout with the largest micro-batch that fits.

Memory is the predictor's that is passed in (the closed form: thousands are asked), the other
costs are formulas. What is left of them is the Pareto front over what changes of the arithmetic,
memory, recomputation, communication and passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...errors import UsageError
from ..checks import FUSED
from ..result import Footprint, Progress
from ..workload import CHECKPOINTINGS, QUANTIZED, Parallel, Workload
from .arithmetics import arithmetics
from .communication import bubble
from .layouts import layouts, nearest_batches
from .layouts import sizes as micro_batch_sizes
from .model import Numbers
from .pareto import front
from .selection import few
from .traffic import traffic
from .values import Arithmetic, Configuration, Plan, PredictorOf, Wish


@dataclass(slots=True)
class _Search:
    wish: Wish
    limit_bytes: int
    predictor_of: PredictorOf
    numbers: Numbers
    tried: int = 0
    nearest: dict[int, Configuration] = field(default_factory=dict)
    """Of each severity what came nearest to fitting."""

    def usable(self) -> tuple[list[Parallel], tuple[str, ...]]:
        """Layouts that suit the model and the effective batch, and a note of those left out.

        Raises:
            UsageError: there are none; the message says why and what would do.
        """
        able, refused = [], ""
        for parallel in layouts(self.wish):
            alone = workload_of(self.wish, arithmetics(self.wish)[0], "none", parallel, 1, 1)
            if parallel.pipeline > 1:
                alone = replace(alone, parallel=replace(alone.parallel, micro_batches=None))
            try:
                self.predictor_of(alone)
            except UsageError as error:
                refused = refused or str(error)
            else:
                able.append(parallel)
        if not able:
            raise UsageError(refused)
        found = [parallel for parallel in able if micro_batch_sizes(self.wish, parallel)]
        why = _undivided(self.wish, [parallel for parallel in able if parallel not in found])
        if not found:
            would = " or ".join(str(one) for one in nearest_batches(self.wish, able))
            raise UsageError(
                f"--effective-batch {self.wish.effective_batch} {why}, and no other layout suits "
                f"{self.wish.workload.model.name} on {self.wish.workload.parallel.gpus}; "
                f"{would} can be had"
            )
        if not why:
            return found, ()
        batch = self.wish.effective_batch
        return found, (f"an effective batch of {batch} {why}: such layouts are left out",)

    def structures(self, usable: Sequence[Parallel]) -> list[tuple[Arithmetic, str, Parallel]]:
        """Everything but the micro-batch."""
        checkpointings: Sequence[str] = CHECKPOINTINGS
        if "checkpointing" in self.wish.held:
            checkpointings = (self.wish.workload.checkpointing,)
        return [
            (arithmetic, checkpointing, parallel)
            for arithmetic in arithmetics(self.wish)
            for checkpointing in checkpointings
            for parallel in usable
        ]

    def largest(
        self, arithmetic: Arithmetic, checkpointing: str, parallel: Parallel
    ) -> Configuration | None:
        """The largest micro-batch that fits, by bisection: memory grows with the batch."""
        samples = self.wish.effective_batch // parallel.data
        sizes = micro_batch_sizes(self.wish, parallel)
        best = None
        low, high = 0, len(sizes) - 1
        while low <= high:
            middle = (low + high) // 2
            found = self._configuration(arithmetic, checkpointing, parallel, sizes[middle], samples)
            if found is None:
                return None
            if found.process_bytes <= self.limit_bytes:
                best, high = found, middle - 1
            else:
                low = middle + 1
                self._note_nearest(found)
        return best

    def _configuration(
        self,
        arithmetic: Arithmetic,
        checkpointing: str,
        parallel: Parallel,
        batch: int,
        samples: int,
    ) -> Configuration | None:
        passes = samples // batch
        workload = workload_of(self.wish, arithmetic, checkpointing, parallel, batch, passes)
        try:
            predictor = self.predictor_of(as_asked(workload))
        except UsageError:
            return None  # a layout that the model's heads or layers do not allow
        self.tried += 1
        return price(workload, arithmetic, passes, predictor.at(batch), self.numbers)

    def _note_nearest(self, found: Configuration) -> None:
        severity = found.arithmetic.severity
        known = self.nearest.get(severity)
        if known is None or found.process_bytes < known.process_bytes:
            self.nearest[severity] = found

    def least(self, found: Sequence[Configuration]) -> Configuration | None:
        """What comes nearest, of everything where nothing fits, else of the wanted arithmetic."""
        if not found:
            return min(self.nearest.values(), key=lambda one: one.process_bytes, default=None)
        if any(one.arithmetic.severity == 0 for one in found):
            return None
        return self.nearest.get(0)


def search(
    wish: Wish,
    *,
    limit_bytes: int,
    predictor_of: PredictorOf,
    numbers: Numbers,
    progress: Progress | None = None,
) -> Plan:
    """The few configurations worth choosing from.

    Raises:
        UsageError: no layout suits the model, or the effective batch cannot be divided in any.
    """
    searching = _Search(wish, limit_bytes, predictor_of, numbers)
    usable, notes = searching.usable()
    structures = searching.structures(usable)
    found = []
    for done, (arithmetic, checkpointing, parallel) in enumerate(structures):
        if progress is not None:
            progress("searching", done / len(structures))
        if (one := searching.largest(arithmetic, checkpointing, parallel)) is not None:
            found.append(one)
    return Plan(
        wish=wish,
        limit_bytes=limit_bytes,
        configurations=tuple(few(front(found, costs))),
        found=tuple(found),
        nearest=searching.least(found),
        tried=searching.tried,
        notes=notes,
    )


def _undivided(wish: Wish, left: Sequence[Parallel]) -> str:
    """Why the effective batch cannot be had in these layouts; empty where there are none."""
    held = wish.workload.batch if "batch" in wish.held else 1
    degrees = {parallel.data for parallel in left if wish.effective_batch % (parallel.data * held)}
    if degrees:
        groups = " or ".join(str(degree) for degree in sorted(degrees))
        each = f" in micro-batches of {held}" if "batch" in wish.held else ""
        return f"cannot be divided over {groups} data-parallel GPUs{each}"
    if not left:
        return ""
    stages = min(parallel.pipeline for parallel in left)
    return f"has fewer micro-batches than a pipeline of {stages} has stages"


def costs(one: Configuration) -> tuple[float, ...]:
    """What the front is of, smaller is better; a higher ZeRO stage asks more of the framework."""
    return (
        one.arithmetic.severity,
        one.recomputation,
        one.sent_bytes,
        one.bubble,
        one.passes,
        one.workload.parallel.zero,
        one.process_bytes,
    )


def workload_of(
    wish: Wish,
    arithmetic: Arithmetic,
    checkpointing: str,
    parallel: Parallel,
    batch: int,
    passes: int,
) -> Workload:
    """The workload of one configuration, with what costs nothing set: the fused optimizer."""
    base = wish.workload
    pipelined = parallel.pipeline > 1
    implementation = base.optimizer_implementation
    if implementation is None and arithmetic.optimizer in FUSED:
        implementation = "fused"
    return replace(
        base,
        batch=batch,
        precision=arithmetic.precision,
        compute_dtype=_compute_dtype(base, arithmetic),
        double_quantization=base.double_quantization and arithmetic.precision == "nf4",
        optimizer=arithmetic.optimizer,
        optimizer_implementation=implementation,
        checkpointing=checkpointing,
        lora=arithmetic.lora,
        grad_accumulation=1 if pipelined else passes,
        parallel=replace(parallel, micro_batches=passes if pipelined else None),
    )


def as_asked(workload: Workload) -> Workload:
    """The workload that a predictor is asked about: no more passes than change the memory.

    The first pass makes gradients and the second adds to them; further ones are like the second.
    """
    return replace(workload, grad_accumulation=min(workload.grad_accumulation, 2))


def _compute_dtype(base: Workload, arithmetic: Arithmetic) -> str | None:
    if arithmetic.precision not in QUANTIZED:
        return None
    return base.compute_dtype or base.activation_dtype


def price(
    workload: Workload,
    arithmetic: Arithmetic,
    passes: int,
    footprint: Footprint,
    numbers: Numbers,
) -> Configuration:
    """A configuration with its costs."""
    parallel = workload.parallel
    return Configuration(
        workload=workload,
        footprint=footprint,
        arithmetic=arithmetic,
        passes=passes,
        recomputation=numbers.effort.recomputation(workload),
        bubble=bubble(stages=parallel.pipeline, chunks=parallel.virtual_pipeline, passes=passes),
        traffic=traffic(workload, passes, numbers),
    )

"""Footprints by formula: no torch, under a millisecond.

allocated = max over the moments of a step of the sum of their components
reserved  = allocated + what the allocator's segments round up
process   = reserved + CUDA context + NCCL
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import UsageError
from .components.context import context_bytes
from .moments import Moment, moments_of
from .result import ALLOCATED_COMPONENTS, COMPONENTS, Footprint, PhaseUse
from .shape import Shape
from .sizes import Sizes, Stage, sizes_of
from .storages import PROCESS_BYTES
from .workload import Workload

_SEGMENT_BYTES: Final = 2 << 20
_PARTLY_USED_BYTES: Final = 20 << 20
"""c10/cuda/CUDACachingAllocator.h: kRoundLarge, and kLargeBuffer, of which one is partly used."""
_RESERVED_NOTE: Final = (
    "reserved is allocated plus one partly used segment, rounded up: a rule of thumb without "
    "fragmentation; --method trace replays the allocator"
)


@dataclass(frozen=True, slots=True)
class _StageMoments:
    sizes: Sizes
    moments: tuple[Moment, ...]
    peaks: tuple[tuple[float, float], ...]
    """Base and slope of each moment's total."""


class ClosedPredictor:
    """Answers by formula for one workload; see ``result.Predictor``."""

    def __init__(self, workload: Workload, outside_bytes: int | None = None) -> None:
        """``outside_bytes``: of the process outside the allocator; None: that of its device.

        Raises UsageError: the model is code, or its family has no formulas.
        """
        model = workload.model
        if model.config is None:
            raise UsageError(
                f"{model.name}: the closed form needs a configuration; --method trace can run code"
            )
        shape = Shape.from_config(model.config, model.auto_class)
        stages: tuple[Stage, ...] = ("only",)
        if workload.parallel.pipeline > 1:
            stages = ("first", "last")
        self.sizes = tuple(sizes_of(workload, shape, stage) for stage in stages)
        self._stages = tuple(_prepared(sizes) for sizes in self.sizes)
        self._peaks = tuple({peak for stage in self._stages for peak in stage.peaks})
        self._on_cpu = workload.backend == "cpu"
        if outside_bytes is not None:
            self._context_bytes = outside_bytes
        elif self._on_cpu:
            self._context_bytes = PROCESS_BYTES
        else:
            self._context_bytes = context_bytes(workload.device, workload.parallel.gpus)
        self._workload = workload

    def at(self, batch: int) -> Footprint:
        """Everything about one batch size: of the fullest stage."""
        stage = self._fullest(batch)
        totals = [base + slope * batch for base, slope in stage.peaks]
        peak = stage.moments[totals.index(max(totals))]
        components = dict.fromkeys(COMPONENTS, 0)
        components |= {name: value.at(batch) for name, value in peak.components.items()}
        allocated = sum(components[name] for name in ALLOCATED_COMPONENTS)
        reserved = self._reserved_bytes(allocated)
        components["cached"] = reserved - allocated
        components["context"] = self._context_bytes
        return Footprint(
            method="closed-form",
            components=components,
            phases=_phases(stage.moments, totals),
            peak_allocated_bytes=allocated,
            peak_reserved_bytes=reserved,
            process_bytes=reserved + self._context_bytes,
            peak_phase=peak.phase,
            peak_module=peak.where or None,
            peak_step=_peak_step(self._workload, peak),
            notes=_notes(self._workload, stage.sizes),
        )

    def process_bytes(self, batch: int) -> int:
        """The process's total alone."""
        most = max([base + slope * batch for base, slope in self._peaks])
        return self._reserved_bytes(round(most)) + self._context_bytes

    def with_outside(self, outside_bytes: int) -> ClosedPredictor:
        """The same, with so much in the process outside the allocator."""
        return ClosedPredictor(self._workload, outside_bytes)

    def ends(self, batch: int) -> list[tuple[str, dict[str, int]]]:
        """Every phase of the steady step with bytes by component at its end, in order."""
        return [
            (moment.phase, {name: size.at(batch) for name, size in moment.components.items()})
            for moment in self._fullest(batch).moments
            if moment.after and moment.phase != "load"
        ]

    def _fullest(self, batch: int) -> _StageMoments:
        return max(
            self._stages, key=lambda stage: max(base + slope * batch for base, slope in stage.peaks)
        )

    def _reserved_bytes(self, allocated: int) -> int:
        return allocated if self._on_cpu else _reserved_bytes(allocated)


def predictor(workload: Workload) -> ClosedPredictor:
    """Footprints of a workload by formula.

    Raises:
        UsageError: the model is code, or its family has no formulas.
    """
    return ClosedPredictor(workload)


def _prepared(sizes: Sizes) -> _StageMoments:
    moments = moments_of(sizes)
    totals = (moment.total() for moment in moments)
    return _StageMoments(sizes, moments, tuple((t.base, t.slope) for t in totals))


def _reserved_bytes(allocated: int) -> int:
    whole = allocated + _PARTLY_USED_BYTES
    return -(-whole // _SEGMENT_BYTES) * _SEGMENT_BYTES


def _phases(moments: tuple[Moment, ...], totals: list[float]) -> tuple[PhaseUse, ...]:
    after: dict[str, int] = {}
    most: dict[str, int] = {}
    for moment, total in zip(moments, totals, strict=True):
        most[moment.phase] = max(most.get(moment.phase, 0), round(total))
        if moment.after:
            after[moment.phase] = round(total)
    return tuple(PhaseUse(name, after[name], most[name]) for name in after)


def _peak_step(workload: Workload, peak: Moment) -> int | None:
    """The first step has no states before its end."""
    if not workload.training:
        return None
    states = peak.components.get("optimizer_state")
    early = peak.phase == "step" or states is None or states.base == 0
    return 1 if early else 2


def _notes(workload: Workload, sizes: Sizes) -> tuple[str, ...]:
    notes = [_RESERVED_NOTE] if workload.backend == "cuda" else []
    if sizes.stage != "only":
        notes.append(f"the {sizes.stage} pipeline stage is the fullest")
    if workload.parallel.gpus > 1:
        notes.append("buffers of one NCCL communicator are in the context")
    return tuple(notes)

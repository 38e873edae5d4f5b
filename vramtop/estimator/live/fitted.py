"""Any module: its real parameters and optimizer, and a line through the peaks that were seen.

Peaks are straight over the batch as long as the same moment of the step is the fullest: what is
saved for backward grows with it, the rest does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...core.breakdowns import breakdown_of, detail_of, probe_device_of
from ...core.memory import TENSOR_CATEGORIES
from ...core.model import ModelInfo, OptimizerInfo, Process
from ...core.observed import ObservedPeak, batch_and_sequence
from ...errors import UsageError
from ..components.optimizer_state import STATES
from ..expected import Expected
from ..result import COMPONENTS, Footprint, Predictor
from ..workload import Workload
from .job import parameter_bytes
from .optimizer import COUNTING, optimizer_name

_SEEN, _INSIDE, _TWICE, _BEYOND = 0.05, 0.16, 0.27, 0.70
"""How far the truth may be, as a share of the figure: at a batch size that was seen; at one below
the largest seen; up to twice that; beyond. ``python -m tests.bench.fitted_peaks`` (2026-11-21):
lines were at worst +13.5 % off below, -20.8 % at twice and -40.6 % at four times the largest batch.
There another phase has become the fullest, so the truth is more than the line says."""
_COUNT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Bytes beyond parameters, gradients and optimizer state, over the batch."""

    base_bytes: float
    slope_bytes: float
    batches: tuple[int, ...]
    """Different batch sizes that were seen, ascending."""
    error_share: float
    """The largest distance of a peak from the line, as a share of the peak."""

    def at(self, batch: int) -> int:
        """Bytes at a batch size."""
        return max(round(self.base_bytes + self.slope_bytes * batch), 0)

    def uncertainty(self, batch: int) -> float:
        """Of the peak at a batch size, as a share of it."""
        largest = self.batches[-1]
        if batch in self.batches:
            share = _SEEN
        elif batch < largest:
            share = _INSIDE
        else:
            share = _TWICE if batch <= 2 * largest else _BEYOND
        return max(share, self.error_share)


def fit(points: Sequence[tuple[int, int]], base_bytes: int) -> Line:
    """The least-squares line through (batch, peak bytes less ``base_bytes``).

    One batch size, or peaks that fall as it grows, are taken as proportional to it.

    Raises:
        UsageError: there is no point.
    """
    if not points:
        raise UsageError("the prediction waits for a step sampled in detail")
    rests = [(batch, peak - base_bytes) for batch, peak in points]
    batches = tuple(sorted({batch for batch, _ in rests}))
    mean_x = sum(x for x, _ in rests) / len(rests)
    mean_y = sum(y for _, y in rests) / len(rests)
    spread = sum((x - mean_x) ** 2 for x, _ in rests)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in rests) / spread if spread else -1.0
    base = mean_y - slope * mean_x
    if slope < 0:
        slope, base = max(mean_y, 0.0) / mean_x, 0.0
    line = Line(base, slope, batches, 0.0)
    errors = [abs(line.at(x) - y) / max(y + base_bytes, 1) for x, y in rests]
    return Line(base, slope, batches, max(errors))


class FittedPredictor:
    """Totals from a process's own figures; see ``result.Predictor``."""

    def __init__(
        self, lasting: dict[str, int], line: Line, reserved_share: float, outside_bytes: int
    ) -> None:
        """``lasting``: bytes by category; ``reserved_share``: reserved by allocated at the peak."""
        self.lasting, self.line = lasting, line
        self._reserved_share = reserved_share
        self._outside_bytes = outside_bytes

    def at(self, batch: int) -> Footprint:
        """The totals; what grows with the batch is all called activations."""
        allocated = self.peak_bytes(batch)
        reserved = self.reserved_bytes(batch)
        components = dict.fromkeys(COMPONENTS, 0) | self.lasting
        components["activation"] = self.line.at(batch)
        components["cached"] = reserved - allocated
        components["context"] = self._outside_bytes
        return Footprint(
            method="fitted",
            components=components,
            phases=(),
            peak_allocated_bytes=allocated,
            peak_reserved_bytes=reserved,
            process_bytes=reserved + self._outside_bytes,
            peak_phase="",
        )

    def process_bytes(self, batch: int) -> int:
        """The process's total alone."""
        return self.reserved_bytes(batch) + self._outside_bytes

    def peak_bytes(self, batch: int) -> int:
        """Allocated at the fullest moment."""
        return sum(self.lasting.values()) + self.line.at(batch)

    def reserved_bytes(self, batch: int) -> int:
        """Reserved as much beyond it as was seen."""
        return round(self.peak_bytes(batch) * self._reserved_share)


class FittedExpecting:
    """See ``expected.Expecting``."""

    workload: Workload | None = None

    def __init__(
        self,
        predictor: FittedPredictor,
        told: str,
        sequence: int | None,
        notes: tuple[str, ...],
        *,
        on_cpu: bool,
    ) -> None:
        self.predictor: Predictor = predictor
        self._fitted = predictor
        self._told, self._sequence, self._notes = told, sequence, notes
        self._on_cpu = on_cpu

    def at(self, batch: int) -> Expected:
        """Everything about one batch size: the peak alone, no phases."""
        made, line = self._fitted, self._fitted.line
        peak = dict.fromkeys(TENSOR_CATEGORIES, 0) | made.lasting
        peak["activation"] = line.at(batch)
        return Expected(
            source="fitted",
            told=self._told,
            batch=batch,
            sequence=self._sequence,
            phases=(),
            peak=peak,
            peak_bytes=made.peak_bytes(batch),
            peak_phase=None,
            peak_module=None,
            reserved_bytes=None if self._on_cpu else made.reserved_bytes(batch),
            uncertainty=line.uncertainty(batch),
            notes=self._notes,
        )


def fitted(
    process: Process,
    torch_device: str,
    observed: Sequence[ObservedPeak],
    why: str,
    outside_bytes: int,
) -> FittedExpecting:
    """What a process should hold by its own figures; ``why`` it is not rebuilt.

    Raises:
        UsageError: no step was sampled in detail yet, or no model is known.
    """
    models = process.probe.models
    if not models:
        raise UsageError("no model was seen yet: it is known from its first forward or step on")
    breakdown = breakdown_of(process, torch_device)
    part = probe_device_of(process, torch_device)
    if breakdown is None or part is None:
        raise UsageError(f"nothing is known of {torch_device} in this process")
    notes = [why]
    on_cpu = part.allocator is None
    lasting = {
        "parameter": sum(parameter_bytes(model.parameters_by_dtype) for model in models)
        + breakdown.buffer_bytes,
        "gradient": sum(parameter_bytes(model.trainable_by_dtype) for model in models),
        "optimizer_state": _state_bytes(process, notes, on_cpu=on_cpu),
    }
    if _is_sharded(models):
        notes.append("sharded: parameters, gradients and optimizer state are what it holds")
        lasting = {name: breakdown.bytes_of(name) or 0 for name in lasting}
    sequence = batch_and_sequence(models[0], detail_of(process, torch_device))[1]
    points = _points(observed, sequence, notes)
    line = fit(points, sum(lasting.values()))
    allocator = part.allocator
    share = 1.0
    if allocator is not None and allocator.peak_allocated_bytes:
        share = max(allocator.peak_reserved_bytes / allocator.peak_allocated_bytes, 1.0)
    names = " and ".join(dict.fromkeys(model.class_name for model in models[:3]))
    return FittedExpecting(
        FittedPredictor(lasting, line, share, outside_bytes),
        f"{names} not rebuilt: its own parameters and optimizer, and {_words(line)}",
        sequence,
        tuple(notes),
        on_cpu=on_cpu,
    )


def _words(line: Line) -> str:
    if len(line.batches) == 1:
        return f"the peak seen at batch {line.batches[0]}, taken to grow with the batch"
    shown = ", ".join(str(batch) for batch in line.batches[:4])
    more = ", …" if len(line.batches) > 4 else ""
    return f"a line through the peaks seen at batches {shown}{more}"


def _points(
    observed: Sequence[ObservedPeak], sequence: int | None, notes: list[str]
) -> list[tuple[int, int]]:
    """Of the present sequence length where there are any, else of all."""
    same = [seen for seen in observed if seen.sequence == sequence] or list(observed)
    if len({seen.sequence for seen in same}) > 1:
        notes.append("peaks of several sequence lengths are on one line")
    return [(seen.batch, seen.peak_bytes) for seen in same if seen.batch > 0]


def _state_bytes(process: Process, notes: list[str], *, on_cpu: bool) -> int:
    total = 0
    for info in process.probe.optimizers:
        total += _state_of(process.probe.models, info, notes, on_cpu=on_cpu)
    if not process.probe.optimizers:
        notes.append("no optimizer has stepped yet: its state is not in the figures")
    return total


def _state_of(
    models: Sequence[ModelInfo], info: OptimizerInfo, notes: list[str], *, on_cpu: bool
) -> int:
    """By the class: states of the dtype of the parameters; else what it has."""
    trainable: dict[str, int] = {}
    tensors = 0
    for model in models:
        tensors += model.trainable_tensors or 0
        for dtype, count in model.trainable_by_dtype.items():
            trainable[dtype] = trainable.get(dtype, 0) + count
    try:
        name = optimizer_name(info)
    except UsageError:
        name = ""
    elements = sum(trainable.values())
    if name not in STATES or (info.parameters is not None and info.parameters != elements):
        notes.append(f"the state of {info.class_name} is taken from what it holds")
        return parameter_bytes(info.state_by_dtype)
    # On CUDA the counts stay on the host, but for fused and capturable ones.
    counts = tensors * _COUNT_BYTES if on_cpu and name in COUNTING else 0
    return STATES[name] * parameter_bytes(trainable) + counts


def _is_sharded(models: Sequence[ModelInfo]) -> bool:
    return any(name.startswith(("FSDP", "FullySharded")) for m in models for name in m.wrappers)

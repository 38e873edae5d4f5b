"""What a process that ran out of memory should have needed, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from ..core.breakdowns import detail_of, probe_device_of
from ..core.fleet import Fleet
from ..core.memory import TENSOR_CATEGORIES
from ..core.model import ModelInfo, Process
from ..core.observed import ObservedPeak, batch_and_sequence
from ..core.oom_figures import Figures
from ..core.postmortem import FittingBatch
from ..core.units import format_bytes
from ..errors import UsageError, VramtopError
from ..estimator.expected import Expected, Expecting
from ..estimator.judge import Replaying, max_batch
from ..estimator.live.job import main_model
from ..estimator.result import Progress

if TYPE_CHECKING:
    from ..trace.tracer import Tracer

_TELLS_LITTLE: Final = 0.5
"""Uncertainty beyond which a prediction is none."""
_OF_TENSORS: Final = 0.65
"""Of what is left on the host, the part that tensors may take: of the largest batches that did fit
they took 0.74 of 300 MiB of address space and 0.76 of 600 (GPT-2, glibc 2.36, 2026-11-21)."""
_WATCH: Final = "that is done while vramtop watches"
_KNOWN_OF_FITTED: Final = ("parameter", "optimizer_state")
"""At the peak: whether the gradients are there too depends on its phase, which no line tells."""
_NEARBY: Final = 2
"""So far around the batch that the totals say it is looked whether the allocator, giving back what
it has cached, gets by."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The prediction of the step that failed."""

    expected: Expected
    batch: FittingBatch | None
    """None where the figures do not support one."""
    exceeds: Literal["held", "asked"] | None = None
    """What is more than any doubt about the prediction explains: what the process held, or that
    and what it asked for."""
    asked_bytes: int | None = None
    is_sampled: bool = False
    """The shapes are those of the last sampled forward: those that failed are not known."""

    @property
    def predicted(self) -> dict[str, int]:
        """Bytes at the peak: ``total``, and each category of which anything is known."""
        made = self.expected
        return _told_of(made.source, made.peak, made.peak_bytes)

    @property
    def text(self) -> str:
        """How much, of what batch, and how that is known."""
        made = self.expected
        unit = "" if made.source == "fitted" else " tokens"  # of a line it may be anything's length
        of = f"batch {made.batch}" + (f" × {made.sequence}{unit}" if made.sequence else "")
        said = f"{format_bytes(made.peak_bytes)} of tensors at the peak of {of}"
        told = f"{made.told}; ±{made.uncertainty:.0%}"
        if self.exceeds is None:
            return f"{said} ({told})"
        more, kept = "It held more than that", "something kept from step to step or made"
        if self.exceeds == "asked":
            more = f"The {format_bytes(self.asked_bytes)} that it asked for are beyond that"
            kept = "something made"
        if self.is_sampled:
            kept = f"a larger batch or longer samples than those sampled last, or {kept}"
        return f"{said} ({told}). {more}: {kept} beside the training"


def foreseen(
    fleet: Fleet,
    process: Process,
    at: Figures,
    progress: Progress | None = None,
    tracer: Tracer | None = None,
) -> Foreseen:
    """Predict the step that failed; takes seconds where a trace has to be made.

    Raises:
        UsageError: nothing can be said; one line says why.
    """
    from .live import expect

    device = at.torch_device
    if device is None:
        raise UsageError("nothing is known of its memory")
    as_failed = _as_before(fleet, _with_failed_shapes(process), device)
    observed = fleet.observed.get((process.key, device), ())
    devices = fleet.snapshot.devices
    try:
        expecting = expect(as_failed, device, devices, observed, progress, tracer)
    except UsageError as error:
        if detail_of(process, device) is not None:
            raise
        why = str(error).partition(";")[0]
        raise UsageError(f"{why}; and no step was sampled in detail: {_WATCH}") from None
    return judged(expecting, as_failed, at, observed)


def telling(
    made: Foreseen | VramtopError, prediction: Mapping[str, Any] | None
) -> tuple[Mapping[str, int] | None, str, FittingBatch | None]:
    """What is predicted, what is said of it, and the largest batch that fits.

    Args:
        made: by ``foreseen``, or why nothing could be.
        prediction: of a viewer while the process ran, as its file has it: told where nothing could.
    """
    if isinstance(made, Foreseen):
        return made.predicted, made.text, made.batch
    sizes = written(prediction)
    if sizes is None:
        return None, f"not known: {made}", None
    batch = (prediction or {}).get("batch")
    of = f" of batch {batch}" if isinstance(batch, int) else ""
    said = f"{format_bytes(sizes['total'])} of tensors at the peak{of}, predicted while it ran"
    return sizes, said, None


def written(prediction: Mapping[str, Any] | None) -> dict[str, int] | None:
    """As ``Foreseen.predicted``, of what the viewer that wrote the file had predicted."""
    moments = (prediction or {}).get("moments")
    for moment in moments if isinstance(moments, list) else []:
        if isinstance(moment, dict) and moment.get("name") == "peak":
            categories = moment.get("categories")
            pairs = dict(categories) if isinstance(categories, dict) else {}
            sizes = {
                str(name): pair["predicted_bytes"]
                for name, pair in {**pairs, "total": moment.get("total")}.items()
                if isinstance(pair, dict) and isinstance(pair.get("predicted_bytes"), int)
            }
            total = sizes.get("total")
            tensors: dict[str, int] = {
                name: sizes[name] for name in TENSOR_CATEGORIES if name in sizes
            }
            if total is not None:
                return _told_of((prediction or {}).get("source"), tensors, total)
    return None


def judged(
    expecting: Expecting, process: Process, at: Figures, observed: Sequence[ObservedPeak] = ()
) -> Foreseen:
    """The prediction at the batch that failed, and the largest one that fits.

    Args:
        expecting: for any batch size.
        process: with the shapes of the forward that failed.
        at: the figures of that moment.
        observed: what the process was seen to train with: no smaller batch is named.

    Raises:
        UsageError: the batch is not known, or what is predicted is too doubtful.
    """
    batch, sequence = batch_and_sequence(_model(process), None)
    if batch is None:
        raise UsageError("the batch that failed is not known")
    expected = expecting.at(batch)
    if expected.uncertainty > _TELLS_LITTLE:
        off = f"{expected.uncertainty:.0%}"
        raise UsageError(f"a guess for batch {batch} may be {off} off ({expected.told})")
    seen = [one for one in observed if one.batch < batch and one.sequence == sequence]
    made = replace(
        _judged(expecting, expected, batch, at, seen), is_sampled=not _is_of_failure(process)
    )
    if made.batch is None or not made.is_sampled:
        return made
    varies = any((one.batch, one.sequence) != (batch, sequence) for one in observed)
    is_sure = made.batch.is_sure and not varies
    return replace(made, batch=replace(made.batch, is_sure=is_sure, is_sampled=True))


def _is_of_failure(process: Process) -> bool:
    """Whether the shapes are of what failed: of a forward, not of what came after one."""
    failure = process.probe.failure
    return failure is not None and failure.phase == "forward" and failure.module_source == "exact"


def _judged(
    expecting: Expecting,
    expected: Expected,
    batch: int,
    at: Figures,
    seen: Sequence[ObservedPeak],
) -> Foreseen:
    capacity, asked = at.capacity_bytes, at.requested_bytes
    if capacity is None or asked is None or at.in_use_bytes is None:
        return Foreseen(expected, None)
    total = expecting.predictor.process_bytes(batch)
    # What it needed at least, however its memory lay.
    held = at.in_use_bytes - (at.idle_bytes or 0)
    needed = held + asked
    most = 1 + expected.uncertainty
    if held > total * most:
        return Foreseen(expected, None, exceeds="held")
    if needed > total * most:
        return Foreseen(expected, None, exceeds="asked", asked_bytes=asked)
    if batch <= 1 or capacity > total * most:  # by the prediction it should have fitted
        return Foreseen(expected, None)
    if at.on_cpu:
        outside = total - expected.peak_bytes
        usable = outside + int((capacity - outside) * _OF_TENSORS)
    else:  # what would surely fit; where the truth is above the prediction, more surely so
        usable = int(capacity / max(most, needed / total))
    largest = _largest(expecting, batch - 1, usable)
    # Of what has run, what would do so beside what is there now.
    room = capacity - max(total - expected.peak_bytes, 0)
    ran = max((one.batch for one in seen if one.peak_bytes <= room), default=0)
    if ran > largest:
        return Foreseen(expected, FittingBatch(ran, batch, "seen", not at.on_cpu))
    if not largest:
        return Foreseen(expected, None)
    return Foreseen(expected, FittingBatch(largest, batch, expected.source, not at.on_cpu))


def _largest(expecting: Expecting, most: int, usable_bytes: int) -> int:
    predictor = expecting.predictor
    largest = max_batch(predictor.process_bytes, usable_bytes, most)
    if isinstance(predictor, Replaying):
        for batch in range(min(largest + _NEARBY, most), largest, -1):
            if predictor.within(batch, usable_bytes) is not None:
                return batch
    return largest


def _told_of(source: object, peak: Mapping[str, int], total_bytes: int) -> dict[str, int]:
    known = peak
    if source == "fitted":
        known = {name: peak[name] for name in _KNOWN_OF_FITTED if name in peak}
    return {**known, "total": total_bytes}


def _with_failed_shapes(process: Process) -> Process:
    """The process with the shapes of the last forward in place of those of the last sampled one."""
    if not any(model.batch_shapes for model in process.probe.models):
        return process
    devices = tuple(
        replace(part, detail=replace(part.detail, batch_shapes=())) if part.detail else part
        for part in process.probe.devices
    )
    return replace(process, probe=replace(process.probe, devices=devices))


def _as_before(fleet: Fleet, process: Process, device: str) -> Process:
    """The process with what it held before the step that failed, where it was on the CPU.

    In that step RSS has grown by what no sample tells of, which is not the process's for good.
    """
    failure, part = process.probe.failure, probe_device_of(process, device)
    if device != "cpu" or failure is None or part is None or failure.step is None:
        return process
    points = [
        point
        for point in fleet.histories.get((process.key, device), ())
        if point.step and point.breakdown.process_bytes is not None
    ]
    earlier = [point for point in points if (point.step or 0) < failure.step] or points[:1]
    if not earlier:
        return process
    before = replace(part, breakdown=earlier[-1].breakdown)
    devices = tuple(before if one is part else one for one in process.probe.devices)
    return replace(process, probe=replace(process.probe, devices=devices))


def _model(process: Process) -> ModelInfo:
    try:
        return main_model(process)
    except VramtopError:  # several
        return process.probe.models[0]

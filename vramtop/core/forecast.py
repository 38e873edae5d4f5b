"""Where the memory goes from here: growth told apart from a step's own rise and fall."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Final, Literal

from .model import HistoryPoint
from .observed import ObservedPeak
from .trend import Sample, Trend, envelopes, goes_on, is_staircase, trend, value_of
from .units import format_bytes

GrowthKind = Literal["leak", "growing-input", "fragmentation", "growth"]
Confidence = Literal["high", "medium", "low"]

CAUSES: Final[Mapping[GrowthKind, str]] = {
    "leak": "a leak: what is left between steps grows; look for losses kept without .item()",
    "growing-input": "the batches grow: the longest one to come decides",
    "fragmentation": "fragmentation: reserved grows and allocated does not; try "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    "growth": "the peaks grow, what is left between steps does not",
}
"""Why, and what to do, in words."""
HORIZON_S: Final = 86400.0
"""Of what is further away than a day nothing is said: no training's growth is known so well."""
_FIRST_STEPS: Final = 3
"""By then optimizer states exist and the allocators have what a step needs."""
_SETTLING_S: Final = 3.0
"""Arenas, libraries and data loaders fill up for a little longer."""
_MIN_SPAN_S: Final = 10.0
_WINDOWS: Final = (6, 12)
"""Fewest and most windows; each must hold two points and two steps, or it would show a part of a
step's own rise and fall."""
_RISES: Final = 0.7
"""Kendall's tau of an envelope that rises; two jumps reach 0.67."""
_RISES_ALONE: Final = 0.85
"""The same where the peaks rise and the floor does not; of at least so many windows:"""
_MIN_WINDOWS_ALONE: Final = 10
_MIN_GROWTH: Final = 0.002
"""Of what was held: less is noise of libraries and of the interpreter."""
_MIN_GROWTH_BYTES: Final = 2 << 20
_SAME_SLOPE: Final = 0.5
"""Floor and peaks rise together if one's slope is at least this part of the other's."""
_STANDS: Final = 0.2
"""Of reserved's slope: what is held does not grow if it grows less."""
_REPEATED: Final = 0.9
"""The earlier part of the points that must say the same."""
_QUIET: Final = 0.1
"""Samples that differ by less than this part of a step's swing are all from one phase of it: read
once a second, a step of nearly a second seems to rise slowly."""
_MIN_SIZES: Final = 4
"""Batches of so many sizes must have been seen, each larger than the one before."""
_HIGH_WIDTH: Final = 0.25
_MEDIUM_WIDTH: Final = 0.75
"""Width of the slope's interval by the slope, up to which the confidence is that."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a process's memory ends if it goes on growing as it does."""

    kind: GrowthKind
    """``leak``: what is left between steps grows. ``growing-input``: only the peaks do, and so do
    the batches. ``fragmentation``: reserved grows and allocated does not. ``growth``: the peaks
    grow, for whatever reason."""
    bytes_per_s: float
    bytes_per_step: float | None
    limit_bytes: int
    """What the process can have before memory ends."""
    oom_in_s: float
    oom_in_steps: float | None
    confidence: Confidence
    text: str
    """In words: "OOM in ~14 min / 820 steps at this growth (12 MiB a step, high confidence)"."""


@dataclass(frozen=True, slots=True)
class _Past:
    """The history as series of bytes, from where a training has settled."""

    steps: list[int]
    held: list[Sample]
    """Allocated on a GPU, RSS on the CPU."""
    pinned: list[Sample]
    """Reserved less free whole segments, which the allocator gives back before it fails; empty on
    the CPU, as the next."""
    reserved: list[Sample]
    capacity_bytes: int
    """What these can grow to."""
    outside_bytes: int
    """What the process has beside them."""

    def part(self, start: int, end: int) -> _Past:
        """The points from ``start`` until before ``end``."""
        return replace(
            self,
            steps=self.steps[start:end],
            held=self.held[start:end],
            pinned=self.pinned[start:end],
            reserved=self.reserved[start:end],
        )


@dataclass(frozen=True, slots=True)
class _Growth:
    """Growth of one series and the room above its last peak."""

    kind: GrowthKind
    trend: Trend
    room_bytes: float
    start: int = 0
    """The first point that it was found from."""


def forecast(
    history: Iterable[HistoryPoint],
    free_bytes: int,
    observed: Sequence[ObservedPeak] = (),
    swing_bytes: int = 0,
) -> Forecast | None:
    """What the history of one process on one torch device says; None where it supports nothing.

    The whole is looked at, then its later half, then its last quarter, so that growth that began
    lately is seen too. Each is cut into windows; their highest points, the upper envelope, must
    rise nearly always, go on rising, and reach what was never reached before.

    Args:
        history: points in order of time.
        free_bytes: what the process can still have of the device's memory.
        observed: peaks by batch size, for the cause.
        swing_bytes: how much tensors rise and fall within one step, 0 where it is not known.
    """
    past = _past(history, free_bytes)
    found = _found(past, swing_bytes)
    # Said of what was a moment ago as well: chance does not say the same twice.
    if found is None or _found(past.part(0, int(_REPEATED * len(past.held))), swing_bytes) is None:
        return None
    return _forecast(found, past, observed)


def _found(past: _Past, swing_bytes: int) -> _Growth | None:
    count = len(past.held)
    for share in (1, 2, 4):
        start = count - count // share
        lately = past.part(start, count)
        windows = _windows(lately)
        if windows is None:
            return None
        found = _growth(lately, past.held[:start], windows, swing_bytes)
        found = found or _fragmentation(lately, past.reserved[:start], windows)
        if found is not None:
            return replace(found, start=start)
    return None


def _past(history: Iterable[HistoryPoint], free_bytes: int) -> _Past:
    points = _settled(history)
    of_gpu = [point for point in points if point.breakdown.cached_bytes is not None]
    return _past_of_gpu(of_gpu, free_bytes) if of_gpu else _past_of_cpu(points, free_bytes)


def _past_of_gpu(points: list[HistoryPoint], free_bytes: int) -> _Past:
    # Spelt out: this runs for a thousand points of each process at each snapshot.
    sizes = [
        (
            point.at,
            b.parameter_bytes
            + b.gradient_bytes
            + b.optimizer_state_bytes
            + (b.activation_bytes or 0)
            + (b.input_bytes or 0)
            + (b.temporary_bytes or 0)
            + (b.autograd_detail_bytes or 0)
            + (b.unknown_bytes or 0),
            b.fragmentation_bytes or 0,
            b.cached_bytes or 0,
        )
        for point in points
        if (b := point.breakdown)
    ]
    _, held, fragmentation, cached = sizes[-1]
    return _Past(
        steps=[point.step or 0 for point in points],
        held=[(at, held) for at, held, _, _ in sizes],
        pinned=[(at, held + fragmentation) for at, held, fragmentation, _ in sizes],
        reserved=[(at, held + fragmentation + cached) for at, held, fragmentation, cached in sizes],
        capacity_bytes=held + fragmentation + cached + free_bytes,
        outside_bytes=points[-1].breakdown.outside_allocator_bytes or 0,
    )


def _past_of_cpu(points: list[HistoryPoint], free_bytes: int) -> _Past:
    known = [
        (point.step or 0, point.at, size)
        for point in points
        if (size := point.breakdown.process_bytes) is not None
    ]
    return _Past(
        steps=[step for step, _, _ in known],
        held=[(at, size) for _, at, size in known],
        pinned=[],
        reserved=[],
        capacity_bytes=known[-1][2] + free_bytes if known else free_bytes,
        outside_bytes=0,
    )


def _settled(history: Iterable[HistoryPoint]) -> list[HistoryPoint]:
    """The points of the last training of the process, which have steps, once it had settled.

    Nothing is said of what comes before the steps: a model that is loaded grows too.
    """
    points = [point for point in history if point.step is not None]
    steps = [point.step or 0 for point in points]
    start = max((i for i, (a, b) in enumerate(pairwise(steps), 1) if b < a), default=0)
    points, steps = points[start:], steps[start:]
    if not points or steps[0] > _FIRST_STEPS:
        return points
    points = points[bisect_left(steps, _FIRST_STEPS) :]
    return [point for point in points if point.at >= points[0].at + _SETTLING_S]


def _windows(past: _Past) -> int | None:
    """Into how many windows to cut; None where there is too little to say anything."""
    if len(past.held) < 2 or past.held[-1][0] - past.held[0][0] < _MIN_SPAN_S:
        return None
    steps = past.steps[-1] - past.steps[0]
    count = min(len(past.held) // 2, steps // 2, _WINDOWS[1])
    return count if count >= _WINDOWS[0] else None


def _growth(
    past: _Past, before: Sequence[Sample], windows: int, swing_bytes: int
) -> _Growth | None:
    """Growth of what is held: of the floor and the peaks, or of the peaks alone."""
    lower, upper = envelopes(past.held, windows)
    peaks = _rise(upper, before, past)
    if peaks is None:
        return None
    if upper[-1][1] - upper[0][1] < swing_bytes:
        change = median(abs(b - a) for (_, a), (_, b) in pairwise(past.held))
        if change < _QUIET * swing_bytes:
            return None
    room = past.capacity_bytes - value_of(max(upper, key=value_of))
    floor = trend(lower)
    low, high = sorted((floor.slope, peaks.slope))
    if floor.tau >= _RISES and not _goes_on(lower, past, room):
        return None
    if floor.tau >= _RISES and low >= _SAME_SLOPE * high:
        both = (floor, peaks) if floor.low > 0 else (peaks,)
        return _Growth("leak", min(both, key=lambda t: t.relative_width), room)
    if windows < _MIN_WINDOWS_ALONE or peaks.tau < _RISES_ALONE:
        return None
    return _Growth("growth", peaks, room)


def _fragmentation(past: _Past, before: Sequence[Sample], windows: int) -> _Growth | None:
    """Growth of what the caching allocator has reserved and cannot give back."""
    if not past.reserved:
        return None
    _, held = envelopes(past.held, windows)
    _, pinned = envelopes(past.pinned, windows)
    _, reserved = envelopes(past.reserved, windows)
    whole, rising = _rise(reserved, before, past), trend(pinned)
    if whole is None or rising.tau < _RISES or rising.low <= 0:
        return None
    if trend(held).slope > _STANDS * whole.slope:
        return None
    return _Growth(
        "fragmentation", rising, past.capacity_bytes - value_of(max(pinned, key=value_of))
    )


def _rise(upper: list[Sample], before: Sequence[Sample], past: _Past) -> Trend | None:
    """The trend of an upper envelope that is sure to grow on, beyond all that was before."""
    whole = trend(upper)
    if whole.tau < _RISES or whole.low <= 0 or is_staircase(upper):
        return None
    top = upper[-1][1]
    grown = whole.slope * (upper[-1][0] - upper[0][0])
    if grown < max(_MIN_GROWTH_BYTES, _MIN_GROWTH * top):
        return None
    # A validation or an epoch that fills up again and again reaches what it has reached before.
    if before and top - value_of(max(before, key=value_of)) < grown / 2:
        return None
    return whole if _goes_on(upper, past, past.capacity_bytes - top) else None


def _goes_on(samples: Sequence[Sample], past: _Past, room: float) -> bool:
    """As ``goes_on``, by the second or by the step.

    Training beside others is now fast, now slow: what grows by the step is steady by the step.
    """
    if goes_on(samples, room):
        return True
    step_at = {at: step for (at, _), step in zip(past.held, past.steps, strict=True)}
    steps = {step_at[at]: value for at, value in samples}
    # A slope needs steps of their own, which a validation has not.
    return len(steps) == len(samples) and goes_on(list(steps.items()), room)


def _inputs_grow(observed: Sequence[ObservedPeak], first_step: int) -> bool:
    """Whether the batches that were sampled since that step are larger and larger."""
    sizes = sorted(
        (float(peak.step), float(peak.batch * (peak.sequence or 1)))
        for peak in observed
        if peak.step is not None and peak.step >= first_step
    )
    return len(sizes) >= _MIN_SIZES and trend(sizes).tau >= _RISES


def _forecast(growth: _Growth, past: _Past, observed: Sequence[ObservedPeak]) -> Forecast | None:
    bytes_per_s = growth.trend.slope
    oom_in_s = max(growth.room_bytes, 0.0) / bytes_per_s
    if oom_in_s > HORIZON_S:
        return None
    past = past.part(growth.start, len(past.held))
    kind = growth.kind
    if kind != "fragmentation" and _inputs_grow(observed, past.steps[0]):
        kind = "growing-input"
    seconds = past.held[-1][0] - past.held[0][0]
    steps_per_s = (past.steps[-1] - past.steps[0]) / seconds
    confidence = _confidence(growth.trend)
    step_bytes, steps = bytes_per_s / steps_per_s, oom_in_s * steps_per_s
    return Forecast(
        kind=kind,
        bytes_per_s=bytes_per_s,
        bytes_per_step=step_bytes,
        limit_bytes=past.capacity_bytes + past.outside_bytes,
        oom_in_s=oom_in_s,
        oom_in_steps=steps,
        confidence=confidence,
        text=f"OOM in {about(oom_in_s)} / {_two_digits(steps)} steps at this growth "
        f"({format_bytes(round(step_bytes))} a step, {confidence} confidence)",
    )


def _confidence(trend: Trend) -> Confidence:
    if trend.relative_width <= _HIGH_WIDTH:
        return "high"
    return "medium" if trend.relative_width <= _MEDIUM_WIDTH else "low"


def about(seconds: float) -> str:
    """A duration as exactly as such a forecast can be."""
    if seconds < 90:
        return f"~{_two_digits(seconds)} s"
    if seconds < 90 * 60:
        return f"~{_two_digits(seconds / 60)} min"
    return f"~{_two_digits(seconds / 3600)} h"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"

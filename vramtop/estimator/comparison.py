"""Predicted beside actual: pairs of bytes by category and moment, and why they part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ..core.breakdowns import category_label, probe_device_of
from ..core.memory import TENSOR_CATEGORIES, Breakdown, Detail
from ..core.model import AllocatorStats, ProbeDevice, Process
from ..core.units import format_delta
from .expected import Expected, ExpectedPhase
from .reasons import Evidence, Reason, explain

_SEGMENT_BYTES: Final = 20 << 20
"""kLargeBuffer of c10/cuda/CUDACachingAllocator.cpp."""
_LASTING: Final = ("parameter", "optimizer_state")
_TELLS_LITTLE: Final = 0.5
"""Uncertainty beyond which a prediction is none."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One category at one moment."""

    category: str
    """One of ``core.memory.TENSOR_CATEGORIES``, ``cached`` (predicted reserved - allocated), or
    ``total``."""
    predicted_bytes: int | None
    actual_bytes: int | None

    @property
    def delta_bytes(self) -> int | None:
        """Actual less predicted."""
        if self.predicted_bytes is None or self.actual_bytes is None:
            return None
        return self.actual_bytes - self.predicted_bytes

    @property
    def delta_share(self) -> float | None:
        """The delta as a share of what was predicted."""
        if self.delta_bytes is None or not self.predicted_bytes:
            return None
        return self.delta_bytes / self.predicted_bytes


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a step."""

    name: str
    """now, peak, or the phase at whose end it is."""
    pairs: tuple[Pair, ...]
    """Of every category of which either is not 0; of what is fitted, all that does not last is
    together in ``activation``."""
    total: Pair
    phase: str | None = None
    """Now: the phase that had ended last; the peak: in which it actually was."""

    def pair(self, category: str) -> Pair | None:
        """The pair of a category; None where both are 0, or nothing is known of it."""
        return next((pair for pair in self.pairs if pair.category == category), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A process's memory beside what it should be."""

    expected: Expected
    moments: tuple[Moment, ...]
    """Now, the peak, then each phase."""
    differs: bool
    """More than the stated uncertainty."""
    parted: tuple[Pair, ...]
    """Of what parts by more: each category where it does so most, ``total`` being the peak's."""
    reasons: tuple[Reason, ...]
    """Largest first; none where nothing differs."""

    @property
    def is_judged(self) -> bool:
        """Whether enough is known to say that it is as predicted.

        A line through what was seen is no judge of it.
        """
        if self.expected.source == "fitted" or self.moment("peak") is None:
            return False
        return self.expected.uncertainty <= _TELLS_LITTLE

    def moment(self, name: str) -> Moment | None:
        """The moment of that name."""
        return next((moment for moment in self.moments if moment.name == name), None)


def compare(process: Process, torch_device: str, expected: Expected) -> Comparison | None:
    """A process's memory on one torch device beside what it should be; None where nothing is told.

    Categories are held against each other at the ends of the phases, where both sides say the
    same moment; at the peak only the total is, since two peaks of nearly the same height may lie
    at different moments of backward. Now may be anywhere within a phase and decides nothing.
    """
    part = probe_device_of(process, torch_device)
    if part is None or part.breakdown is None:
        return None
    detail = part.detail
    phases = _phases(detail, expected) if detail else []
    moments = [_now(part, part.breakdown, expected)]
    if detail is not None and detail.peak is not None:
        cached = _cached(expected, expected.peak_bytes, part.allocator, detail.peak.total_bytes)
        peak = _moment("peak", expected.peak, detail.peak.breakdown, cached, detail.peak.phase)
        total = Pair("total", expected.peak_bytes, detail.peak.total_bytes)
        moments.append(Moment("peak", peak.pairs, total, peak.phase))
    for phase, after in phases:
        cached = _cached(expected, sum(phase.after.values()), part.allocator, after.tensor_bytes)
        moments.append(_moment(phase.name, phase.after, after, cached))
    if expected.source == "fitted":
        moments = [replace(moment, pairs=_folded(moment.pairs)) for moment in moments]
    slack_bytes = round(expected.uncertainty * expected.peak_bytes)
    parted = _parted(moments, slack_bytes)
    reasons: tuple[Reason, ...] = ()
    if parted:
        named = {moment.name: moment for moment in moments}
        evidence = Evidence(process.probe, part, expected, named, parted, slack_bytes)
        reasons = explain(evidence)
    return Comparison(expected, tuple(moments), bool(parted), parted, reasons)


def _now(part: ProbeDevice, breakdown: Breakdown, expected: Expected) -> Moment:
    phase = next((phase for phase in expected.phases if phase.name == part.boundary), None)
    after = phase.after if phase else {}
    cached = None
    if part.allocator is not None and phase is not None:
        held = sum(phase.after.values())
        cached = _cached(expected, held, part.allocator, part.allocator.allocated_bytes)
    return _moment("now", after, breakdown, cached, part.boundary)


def _phases(detail: Detail, expected: Expected) -> list[tuple[ExpectedPhase, Breakdown]]:
    """Each phase that was predicted with what it actually ended with, as far as that is known.

    What lies between forward and backward is the loss, which a prediction takes for forward's.
    """
    after: dict[str, Breakdown] = {}
    before = ""
    for phase in detail.phases:
        name = before if phase.name == "other" and before == "forward" else phase.name
        if phase.after is not None:
            after[name] = phase.after
        before = name
    return [(phase, after[phase.name]) for phase in expected.phases if phase.name in after]


def _cached(
    expected: Expected, held_bytes: int, allocator: AllocatorStats | None, actual_bytes: int
) -> Pair | None:
    """What the caching allocator holds beyond what is allocated at a moment."""
    if expected.reserved_bytes is None or allocator is None:
        return None
    predicted = max(expected.reserved_bytes - held_bytes, 0)
    return Pair("cached", predicted, max(allocator.reserved_bytes - actual_bytes, 0))


def _moment(
    name: str,
    predicted: Mapping[str, int],
    actual: Breakdown,
    cached: Pair | None,
    phase: str | None = None,
) -> Moment:
    """Without a prediction its side is unknown throughout."""
    pairs = [
        Pair(category, predicted.get(category), actual.bytes_of(category))
        for category in TENSOR_CATEGORIES
    ]
    held = sum(predicted.values()) if predicted else None
    return Moment(
        name,
        tuple(
            pair
            for pair in (*pairs, *([cached] if cached else []))
            if pair.predicted_bytes or pair.actual_bytes
        ),
        Pair("total", held, actual.tensor_bytes),
        phase,
    )


def _folded(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """A line through peaks tells nothing of what is beyond what lasts: there it is one sum.

    Gradients too: a peak may lie where there are none, or before the last of them are made.
    """
    kept = tuple(pair for pair in pairs if pair.category in (*_LASTING, "cached"))
    rest = [pair for pair in pairs if pair not in kept]
    known = [pair.predicted_bytes for pair in rest if pair.predicted_bytes is not None]
    actual = sum(pair.actual_bytes or 0 for pair in rest)
    return (*kept, Pair("activation", sum(known) if known else None, actual))


def _parted(moments: Iterable[Moment], slack_bytes: int) -> tuple[Pair, ...]:
    """The peak's total first, then the largest."""
    worst: dict[str, Pair] = {}
    for moment in moments:
        if moment.name == "now":
            continue
        pairs = [pair for pair in moment.pairs if pair.category != "cached"]
        if moment.name == "peak":
            pairs = [moment.total, *_parted_cached(moment, slack_bytes)]
        for pair in pairs:
            size = abs(pair.delta_bytes or 0)
            before = worst.get(pair.category)
            if size > slack_bytes and (before is None or size > abs(before.delta_bytes or 0)):
                worst[pair.category] = pair
    return tuple(
        sorted(worst.values(), key=lambda p: (p.category != "total", -abs(p.delta_bytes or 0)))
    )


def _parted_cached(peak: Moment, slack_bytes: int) -> Iterable[Pair]:
    """More than predicted, and not for the peak's being less: the allocator gives nothing back.

    By more than one segment, which a few bytes may decide; less needs no reason.
    """
    cached = peak.pair("cached")
    if cached is not None and cached.delta_bytes is not None:
        reserved = cached.delta_bytes + (peak.total.delta_bytes or 0)
        if min(reserved, cached.delta_bytes) > slack_bytes + _SEGMENT_BYTES:
            yield cached


def verdict_text(comparison: Comparison, torch_device: str) -> str:
    """One line: as predicted, or what parts and by how much."""
    within = f"{100 * comparison.expected.uncertainty:.0f} %"
    if comparison.moment("peak") is None:
        return "nothing to hold it against yet: no step was sampled in detail"
    if not comparison.parted and comparison.expected.source == "fitted":
        return "a line through what was seen: it tells of other batch sizes, not of this one"
    if not comparison.parted and not comparison.is_judged:
        return f"too uncertain to hold anything against it (±{within})"
    if not comparison.parted:
        return f"as predicted (within {within})"
    told = []
    for pair in comparison.parted:
        label = pair_label(pair, comparison.expected, torch_device)
        share = "" if pair.delta_share is None else f" ({share_text(pair.delta_share)})"
        told.append(f"{label} {format_delta(pair.delta_bytes)}{share}{_when(comparison, pair)}")
    return f"more than {within} off: " + ", ".join(told)


def pair_label(pair: Pair, expected: Expected, torch_device: str) -> str:
    """What a pair is called; the total is the peak's."""
    if pair.category == "total":
        return "peak"
    if pair.category == "activation" and expected.source == "fitted":
        return "all else"
    return category_label(pair.category, torch_device)


def _when(comparison: Comparison, pair: Pair) -> str:
    """After which phase a category parts most; of the peak it is clear."""
    for moment in comparison.moments:
        if moment.name not in ("now", "peak") and any(each is pair for each in moment.pairs):
            return f" after {moment.name}"
    return ""


def basis_text(expected: Expected) -> str:
    """How the prediction was made, and for what."""
    word = "" if expected.source == "fitted" else " tokens"  # which it may not be
    tokens = f" × {expected.sequence}{word}" if (expected.sequence or 1) > 1 else ""
    within = f"±{100 * expected.uncertainty:.0f} %"
    return f"{expected.told}; batch {expected.batch}{tokens}; {within}"


def share_text(share: float) -> str:
    """A delta as a signed percentage; what is many times the predicted says how many."""
    if share >= 100:
        return ">100×"
    if share >= 10:
        return f"{1 + share:.0f}×"
    if abs(share) < 0.0005:
        return "<0.1 %" if share else "0 %"
    return f"{100 * share:+.1f} %" if abs(share) < 0.0995 else f"{100 * share:+.0f} %"

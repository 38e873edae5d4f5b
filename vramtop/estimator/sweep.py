"""The curve over the micro-batch: its layers, the ceiling, the cliff, and what was seen live."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ..core.observed import ObservedPeak
from .judge import MOST_BATCH, uncertainty_of, usable_bytes, verdict_of
from .result import (
    ALLOCATED_COMPONENTS,
    COMPONENTS,
    Estimate,
    Footprint,
    PhaseUse,
    Predictor,
    Verdict,
)
from .workload import Workload

LAYERS: Final = (
    "context",
    "parameter",
    "gradient",
    "optimizer_state",
    "workspace",
    "input",
    "kv_cache",
    "activation",
    "temporary",
    "autograd_detail",
    "cached",
)
"""COMPONENTS from the bottom up: what no batch changes, then what grows with it."""
_KNOTS: Final = 7
"""Replays that the curve of a trace is drawn through, each some 7 to 50 ms, before those that find
where its peak moves to another phase."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An observed peak as a point of the curve."""

    batch: int
    process_bytes: int
    """What tensors held, with the cache and the context that are predicted around them."""
    same_sequence: bool


@dataclass(frozen=True, slots=True, eq=False)  # footprints are many: one is only itself
class Sweep:
    """Footprints of one workload over its micro-batch, and where they end."""

    workload: Workload
    predictor: Predictor
    knots: tuple[tuple[int, Footprint], ...]
    """Of a predictor that replays, ascending; between them footprints lie on straight lines. Empty
    for one that answers at once."""
    last: int
    """The end of the axis, which begins with 1."""
    usable_bytes: int | None
    """The ceiling: what the process can have. None without a device."""
    largest: int | None
    """The cliff is behind it: the largest batch that runs; 0 where none does."""
    safe: int | None
    """The largest that fits even with the uncertainty added."""

    @property
    def has_cliff(self) -> bool:
        """Whether the axis reaches a batch that does not run."""
        return self.largest is not None and self.largest < min(self.last, MOST_BATCH)

    def is_beyond(self, batch: int) -> bool:
        """Whether a batch does not run."""
        return self.largest is not None and batch > self.largest

    def batch_of(self, column: int, width: int) -> int:
        """The batch that a column of a picture shows."""
        return min(1 + column * self.last // width, self.last)

    def column_of(self, batch: int, width: int) -> int:
        """The first column of a batch; of those that share one, that one."""
        return min(-(-(batch - 1) * width // self.last), width - 1)

    def middle_of(self, batch: int, width: int) -> int:
        """The middle one of a batch's columns."""
        first = self.column_of(batch, width)
        behind = self.column_of(batch + 1, width) if batch < self.last else width
        return min(first + max(behind - first, 1) // 2, width - 1)

    def at(self, batch: int) -> Footprint:
        """Everything about a batch in microseconds; between the knots only its total is exact."""
        if not self.knots:
            return self.exactly(batch)
        batches = [at for at, _ in self.knots]
        right = min(max(bisect_left(batches, batch), 1), len(batches) - 1)
        (low, before), (high, after) = self.knots[right - 1], self.knots[right]
        if batch in (low, high):
            return self._given_back(before if batch == low else after, batch)
        share = (batch - low) / (high - low)
        if before.peak_phase == after.peak_phase:
            near = _between(before, after, share)
        else:  # two moments have no middle
            near = before if share < 0.5 else after
        return self._given_back(_totalling(near, self.predictor.process_bytes(batch)), batch)

    def process_bytes(self, batch: int) -> int:
        """The total of any batch, on the axis or beyond its end."""
        size = self.predictor.process_bytes(batch)
        if self.usable_bytes is None or self.is_beyond(batch):
            return size
        return min(size, self.usable_bytes)

    def exactly(self, batch: int) -> Footprint:
        """Everything about a batch as the predictor says it; of a trace a replay."""
        return self._given_back(self.predictor.at(batch), batch)

    def layers(self, batch: int) -> tuple[int, ...]:
        """Bytes at the peak by LAYERS."""
        components = self.at(batch).components
        return tuple(components[name] for name in LAYERS)

    def verdict(self, footprint: Footprint) -> Verdict | None:
        """Whether a footprint fits; None without a device."""
        if self.usable_bytes is None:
            return None
        gpus = self.workload.parallel.gpus
        sure = uncertainty_of(footprint.method, footprint.process_bytes, gpus)
        return verdict_of(sure, self.usable_bytes)

    def seen(self, observed: Sequence[ObservedPeak]) -> tuple[Seen, ...]:
        """Observed peaks that lie on the axis."""
        points = []
        for peak in observed:
            if peak.batch <= self.last:
                here = self.at(peak.batch)
                around = here.process_bytes - here.peak_allocated_bytes
                same = peak.sequence in (None, self.workload.sequence)
                points.append(Seen(peak.batch, peak.peak_bytes + around, same))
        return tuple(points)

    def _given_back(self, footprint: Footprint, batch: int) -> Footprint:
        """A batch that runs stays under the ceiling: cached memory is given back first."""
        if self.usable_bytes is None or self.is_beyond(batch):
            return footprint
        over = footprint.process_bytes - self.usable_bytes
        return footprint if over <= 0 else _totalling(footprint, self.usable_bytes)


def sweep(estimate: Estimate, predictor: Predictor) -> Sweep:
    """The curve of the workload that was estimated by this predictor."""
    workload, largest = estimate.workload, estimate.max_micro_batch
    last = estimate.curve[-1][0]
    return Sweep(
        workload,
        predictor,
        _knots(predictor, last, largest) if estimate.footprint.method == "trace" else (),
        last,
        None if estimate.device is None else usable_bytes(estimate.device),
        largest,
        estimate.safe_micro_batch,
    )


def _knots(
    predictor: Predictor, last: int, largest: int | None
) -> tuple[tuple[int, Footprint], ...]:
    """Footprints at even distances, at the cliff, and on both sides of where the peak moves."""
    batches = {1 + round(i * (last - 1) / (_KNOTS - 1)) for i in range(_KNOTS)} | {1, 2}
    batches |= {largest} if largest and largest <= last else set()
    found = {batch: predictor.at(batch) for batch in batches}
    for ends in pairwise(sorted(batches)):
        low, high = ends
        while high - low > 1 and found[low].peak_phase != found[high].peak_phase:
            middle = (low + high) // 2
            found[middle] = predictor.at(middle)
            if found[middle].peak_phase == found[low].peak_phase:
                low = middle
            else:
                high = middle
    return tuple(sorted(found.items()))


def _between(before: Footprint, after: Footprint, share: float) -> Footprint:
    def mix(low: int, high: int) -> int:
        return round(low + (high - low) * share)

    components = {n: mix(before.components[n], after.components[n]) for n in COMPONENTS}
    nearest = before if share < 0.5 else after
    phases = nearest.phases
    if [phase.name for phase in before.phases] == [phase.name for phase in after.phases]:
        phases = tuple(
            PhaseUse(a.name, mix(a.after_bytes, b.after_bytes), mix(a.peak_bytes, b.peak_bytes))
            for a, b in zip(before.phases, after.phases, strict=True)
        )
    allocated = sum(components[name] for name in ALLOCATED_COMPONENTS)
    return dataclasses.replace(
        nearest,
        components=components,
        phases=phases,
        peak_allocated_bytes=allocated,
        peak_reserved_bytes=allocated + components["cached"],
        process_bytes=allocated + components["cached"] + components["context"],
    )


def _totalling(footprint: Footprint, process_bytes: int) -> Footprint:
    """The footprint with so much in all: the cache takes up the difference, then activations."""
    components = dict(footprint.components)
    more = process_bytes - footprint.process_bytes
    for name in ("cached", "activation"):
        change = max(more, -components[name])
        components[name] += change
        more -= change
    allocated = sum(components[name] for name in ALLOCATED_COMPONENTS)
    total = sum(components.values())
    return dataclasses.replace(
        footprint,
        components=components,
        peak_allocated_bytes=allocated,
        peak_reserved_bytes=total - components["context"],
        process_bytes=total,
    )

"""The closed form, drawn to a trace: what it says of other sequences, times how far it was off."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .checks import validate
from .closed import ClosedPredictor
from .result import COMPONENTS, Footprint, PhaseUse, Predictor
from .workload import Workload


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a footprint differs from the closed form's of the same workload."""

    factor: float = 1.0
    """Of what is reserved."""
    context_bytes: int | None = None
    """Outside the allocator; None: as the closed form has it."""


class Calibrated:
    """A closed form whose reserved bytes are all multiplied by one factor."""

    def __init__(self, closed: ClosedPredictor, by: Calibration) -> None:
        self._closed, self._factor = closed, by.factor
        self._before_bytes = closed.at(1).components["context"]
        self._context_bytes = self._before_bytes if by.context_bytes is None else by.context_bytes

    def at(self, batch: int) -> Footprint:
        """Everything about one batch size."""
        footprint = self._closed.at(batch)
        components = {name: self._scaled(footprint.components[name]) for name in COMPONENTS}
        components["context"] = self._context_bytes
        reserved = sum(components.values()) - self._context_bytes
        return dataclasses.replace(
            footprint,
            components=components,
            phases=tuple(
                PhaseUse(one.name, self._scaled(one.after_bytes), self._scaled(one.peak_bytes))
                for one in footprint.phases
            ),
            peak_allocated_bytes=reserved - components["cached"],
            peak_reserved_bytes=reserved,
            process_bytes=reserved + self._context_bytes,
        )

    def process_bytes(self, batch: int) -> int:
        """The process's total alone."""
        whole = self._closed.process_bytes(batch)
        return self._scaled(whole - self._before_bytes) + self._context_bytes

    def _scaled(self, size: int) -> int:
        return round(size * self._factor)


def calibration(workload: Workload, footprint: Footprint) -> Calibration:
    """What makes the closed form say of a workload what a footprint of it says.

    Raises:
        UsageError: there are no formulas for the model.
    """
    closed = ClosedPredictor(workload).at(workload.batch)
    factor = footprint.peak_reserved_bytes / closed.peak_reserved_bytes
    return Calibration(factor, footprint.components["context"])


def calibrated(workload: Workload, by: Calibration) -> Predictor:
    """The closed form of a workload, drawn to a trace.

    Raises:
        UsageError: the workload is impossible, or there are no formulas for the model.
    """
    validate(workload)
    return Calibrated(ClosedPredictor(workload), by)

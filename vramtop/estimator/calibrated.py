"""The closed form, drawn to a trace: what it says of other sequences, times how far it was off."""

from __future__ import annotations

import dataclasses

from .checks import validate
from .closed import ClosedPredictor
from .result import COMPONENTS, Footprint, PhaseUse, Predictor
from .workload import Workload


class Calibrated:
    """A closed form whose bytes, but for the context's, are all multiplied by one factor."""

    def __init__(self, closed: ClosedPredictor, factor: float) -> None:
        self._closed, self.factor = closed, factor
        self._context_bytes = closed.at(1).components["context"]

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
        return self._scaled(whole - self._context_bytes) + self._context_bytes

    def _scaled(self, size: int) -> int:
        return round(size * self.factor)


def calibration(workload: Workload, footprint: Footprint) -> float:
    """What the closed form is to be multiplied by to say what a footprint of the workload says.

    Raises:
        UsageError: there are no formulas for the model.
    """
    closed = ClosedPredictor(workload).at(workload.batch)
    return footprint.peak_reserved_bytes / closed.peak_reserved_bytes


def calibrated(workload: Workload, factor: float) -> Predictor:
    """The closed form of a workload, multiplied.

    Raises:
        UsageError: the workload is impossible, or there are no formulas for the model.
    """
    validate(workload)
    closed = ClosedPredictor(workload)
    return closed if factor == 1.0 else Calibrated(closed, factor)

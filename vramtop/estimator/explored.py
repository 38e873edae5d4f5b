"""What the batch explorer knows of an estimate: sweeps by sequence and the map, made once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from ..errors import UsageError
from .accumulation import Accumulation, accumulations
from .calibrated import Calibration, calibrated, calibration
from .checks import validate
from .fall import Fall, fall
from .grid import Grid, batch_axis, grid, sequence_axis
from .judge import MOST_BATCH, judge
from .result import Estimate, Footprint, Predictor
from .sweep import Sweep, sweep
from .workload import Workload

_MOST_SEQUENCES: Final = 10
"""As many as the map has room for at 80 × 24, as rows or as columns."""
_GRID_BEYOND: Final = 2
"""The map goes to so many times the largest batch."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cursor is."""

    batch: int
    sequence: int


class Explored:
    """Answers about any place of one estimate.

    The present sequence is as the estimate's method says it; others are by formula, drawn to it.
    """

    def __init__(self, estimate: Estimate, predictor: Predictor) -> None:
        self.workload: Workload = estimate.workload
        self.home = sweep(estimate, predictor)
        self._sweeps: dict[int, Sweep | None] = {self.workload.sequence: self.home}
        self._grids: dict[int, Grid] = {}
        self._falls: dict[int, Fall | None] = {}
        self._exact: dict[Place, Footprint] = {}
        self._calibration: Calibration | None = None
        try:
            self._calibration = calibration(self.workload, estimate.footprint)
        except UsageError:
            self.sequences: tuple[int, ...] = (self.workload.sequence,)
        else:
            axis = sequence_axis(self.workload, _MOST_SEQUENCES)
            self.sequences = tuple(at for at in axis if self._is_possible(at))

    @property
    def has_formulas(self) -> bool:
        """Whether other sequences can be answered."""
        return self._calibration is not None

    def sweep(self, sequence: int) -> Sweep | None:
        """The curve at a sequence length; None where that is impossible."""
        if sequence not in self._sweeps:
            self._sweeps[sequence] = self._by_formula(sequence)
        return self._sweeps[sequence]

    def _is_possible(self, sequence: int) -> bool:
        try:
            validate(dataclasses.replace(self.workload, sequence=sequence))
        except UsageError:
            return False
        return True

    def _by_formula(self, sequence: int) -> Sweep | None:
        if self._calibration is None:
            return None
        workload = dataclasses.replace(self.workload, sequence=sequence)
        try:
            predictor = calibrated(workload, self._calibration)
            return sweep(judge(predictor, workload), predictor)
        except UsageError:
            return None

    def at(self, place: Place) -> Sweep:
        """The curve at a place's sequence, which is one of ``sequences``."""
        return self.sweep(place.sequence) or self.home

    def footprint(self, place: Place) -> Footprint:
        """What is known of a place at once: exactly where that was asked for before."""
        return self._exact.get(place) or self.at(place).at(place.batch)

    def is_exact(self, place: Place) -> bool:
        """Whether ``settle`` would change nothing."""
        return place in self._exact

    def settle(self, place: Place) -> Footprint:
        """The footprint as the predictor has it; of a trace a replay, some 10 to 50 ms."""
        if place not in self._exact:
            self._exact[place] = self.at(place).exactly(place.batch)
        return self._exact[place]

    def fall(self, sequence: int) -> Fall | None:
        """How the batch behind the cliff dies at a sequence length."""
        if sequence not in self._falls:
            self._falls[sequence] = fall(self.sweep(sequence) or self.home)
        return self._falls[sequence]

    def accumulations(self, place: Place) -> tuple[Accumulation, ...]:
        """The user's effective batch and round ones, by the largest micro-batch that fits there."""
        here = self.at(place)
        return accumulations(self.workload, here.safe or here.largest or 0)

    def grid(self, most: int) -> Grid | None:
        """The map with at most so many batches; None without a device."""
        if self.workload.device is None:
            return None
        if most not in self._grids:
            largest, now = self.home.largest or 0, self.workload.batch
            last = min(max(_GRID_BEYOND * largest, now, 8), MOST_BATCH)
            keep = (now, largest) if largest else (now,)
            self._grids[most] = grid(
                self.home,
                self._calibration or Calibration(),
                batch_axis(last, most, keep),
                self.sequences,
            )
        return self._grids[most]

"""Which boundaries of a training are counted, and which count stands for the others.

A sampled step runs from one boundary until the same boundary comes again, so it holds every
boundary of a cycle wherever it began: forwards, steps, several models, gradient accumulation.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable

from .accounting import Counts
from .boundaries import FORWARD_BEGINS, FORWARD_ENDS, NOWHERE, Boundary
from .pace import Pace

_FIRST_STEPS = 3
"""Sampled without a pause: by then optimizer state exists and every boundary has been seen."""
_MAX_FORWARD_COUNTS = 12
"""Forward boundaries counted in one sampled step: gradient accumulation may have hundreds."""
_MAX_COUNTS = 32
_MAX_AGE_S = 5.0
_MAX_REMEMBERED = 64


class Sampler:
    """The sampled steps of one training thread."""

    def __init__(self, pace: Pace, on_end: Callable[[], None]) -> None:
        self.current: Counts = {}
        """Bytes by device as of the last boundary."""
        self.boundary = NOWHERE
        """The last boundary."""
        self.outer: Any = None
        """The record of the root whose forward is running, inner ones are not looked at."""
        self.sampling = False
        self._pace = pace
        self._on_end = on_end
        self._by_boundary: dict[Boundary, Counts] = {}
        self._opened_by: Boundary | None = None
        self._opener: Callable[[], Any] = lambda: None
        self._opened_at = 0.0
        self._ended = 0
        self._counts = 0
        self._forward_counts = 0
        self._cost_s = 0.0

    @property
    def known(self) -> frozenset[Boundary]:
        """Where a count has been taken."""
        return frozenset(self._by_boundary)

    def forget(self, target: int) -> None:
        """The object of that id is gone; another may get its id."""
        kept = {b: counts for b, counts in list(self._by_boundary.items()) if b[1] != target}
        self._by_boundary = kept

    def counts_at(self, boundary: Boundary) -> Counts:
        """Bytes by device at that boundary, as of the last time it was counted."""
        return self.current if self.sampling else self._by_boundary.get(boundary, self.current)

    def wants(self, boundary: Boundary, target: Any, now: float) -> bool:
        """Whether to count here; if not, the last count of this boundary stands for it.

        ``target`` is the object of the boundary, ``now`` in seconds of ``time.perf_counter``.
        """
        self.boundary = boundary
        if not self.sampling:
            is_new = boundary not in self._by_boundary and self._pace.affords_news(now)
            if self._ended >= _FIRST_STEPS and not is_new and not self._pace.due(now):
                self.current = self._by_boundary.setdefault(boundary, self.current)
                return False
            self._open(boundary, target, now)
        elif boundary[0] in (FORWARD_BEGINS, FORWARD_ENDS):
            self._forward_counts += 1
            if self._forward_counts > _MAX_FORWARD_COUNTS and not self._closes(boundary, now):
                return False
        return True

    def counted(
        self, boundary: Boundary, target: Any, counts: Counts, now: float, cost_s: float
    ) -> None:
        """The count that was wanted, what it cost, and the end of the sampled step if it is one."""
        if len(self._by_boundary) >= _MAX_REMEMBERED:
            self._by_boundary.clear()
        self._by_boundary[boundary] = self.current = counts
        self._counts += 1
        self._cost_s += cost_s
        if self._counts > 1 and self._closes(boundary, now):
            self.sampling = False
            self._ended += 1
            self._pace.end(now, self._cost_s)
            self._on_end()
            if self._ended < _FIRST_STEPS:
                self._open(boundary, target, now)
                self._counts = 1

    def _open(self, boundary: Boundary, target: Any, now: float) -> None:
        self.sampling = True
        self._opened_by, self._opened_at = boundary, now
        self._opener = weakref.ref(target)
        self._counts = self._forward_counts = 0
        self._cost_s = 0.0
        self._pace.begin(now)

    def _closes(self, boundary: Boundary, now: float) -> bool:
        return (
            boundary == self._opened_by
            or self._opener() is None  # it will not come again
            or self._counts >= _MAX_COUNTS
            or now - self._opened_at > _MAX_AGE_S
        )

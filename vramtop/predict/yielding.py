"""A predictor that stops between two replays once nobody wants its answer any more."""

from __future__ import annotations

from collections.abc import Callable

from ..estimator.judge import Replaying
from ..estimator.result import Footprint, Predictor
from ..estimator.workload import AllocatorConfig
from .background import Dropped


class Yielding:
    """Asks ``is_wanted`` before every answer; raises Dropped where it is not."""

    def __init__(self, predictor: Predictor, is_wanted: Callable[[], bool]) -> None:
        """``predictor`` replays the allocator: others answer too fast to be stopped."""
        self._predictor = predictor
        self._is_wanted = is_wanted

    def at(self, batch: int) -> Footprint:
        """Everything about one batch size."""
        self._check()
        return self._predictor.at(batch)

    def process_bytes(self, batch: int) -> int:
        """The process's total alone."""
        self._check()
        return self._predictor.process_bytes(batch)

    def with_allocator(self, allocator: AllocatorConfig) -> Yielding:
        """The same with other settings of the allocator."""
        assert isinstance(self._predictor, Replaying)
        return Yielding(self._predictor.with_allocator(allocator), self._is_wanted)

    def within(self, batch: int, usable_bytes: int) -> Footprint | None:
        """Where a process may have so much; None where it dies."""
        self._check()
        assert isinstance(self._predictor, Replaying)
        return self._predictor.within(batch, usable_bytes)

    def _check(self) -> None:
        if not self._is_wanted():
            raise Dropped("nobody waits for it any more")

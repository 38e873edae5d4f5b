"""What the server reads of the training side, on its own thread."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import boundaries
from .detail import Detail
from .gate import Gate
from .records import OptimizerRecord, Record, RootRecord
from .replay import USUALLY_ENDED
from .sampling import Sampler
from .sizes import OpenSizes, add, join
from .steps import StepClock

_MAX_JOB_OBJECTS = 16


class Published:
    """The tables that the training side fills, and what they say."""

    def __init__(self) -> None:
        self.gate = Gate()
        self._roots: dict[int, RootRecord] = {}
        self._optimizers: dict[int, OptimizerRecord] = {}
        self._samplers: dict[int, Sampler] = {}
        """By training thread."""
        self._details: dict[int, Detail] = {}
        self._clock = StepClock()

    def ended_phase(self, passed: boundaries.Boundary) -> str | None:
        """The phase that had ended last at a boundary, None while that is not known."""
        for detail in list(self._details.values()):
            if passed in detail.ended_at:
                return detail.ended_at[passed]
        return USUALLY_ENDED.get(passed[0])

    def totals(self, passed: boundaries.Boundary | None = None) -> dict[str, OpenSizes]:
        """Bytes by device as of a boundary (the last one), over all training threads.

        What only a recorded step can tell is of the same boundary of the last one recorded.
        """
        owners = {r.owner for r in [*self._roots.values(), *self._optimizers.values()]}
        total: dict[str, OpenSizes] = {}
        passed = passed or self.gate.last
        for thread, sampler in list(self._samplers.items()):
            if thread in owners:  # else its models are gone, and their memory with them
                boundary = passed if thread == self.gate.thread else sampler.boundary
                for device, sizes in self._sizes_of(thread, sampler, boundary).items():
                    known = total.get(device)
                    total[device] = sizes if known is None else add(known, sizes)
        return total

    def _sizes_of(
        self, thread: int, sampler: Sampler, boundary: boundaries.Boundary
    ) -> dict[str, OpenSizes]:
        counts = sampler.counts_at(boundary)
        recorded = self._details[thread].sizes_at.get(boundary, {})
        return {
            device: join(counts.get(device, [0, 0, 0, 0]), recorded.get(device))
            for device in {**counts, **recorded}
        }

    def step(self) -> int | None:
        """The largest step count over the optimizers, None before any."""
        return max((r.steps for r in list(self._optimizers.values()) if r.steps), default=None)

    def steps_per_s(self) -> float | None:
        """Optimizer steps per second over about ten seconds, None before the second."""
        if self._clock.step > (self.step() or 0):  # that optimizer is gone: a new training
            self._clock.restart()
        return self._clock.rate(time.perf_counter())

    def models(self) -> list[dict[str, Any]]:
        """The models of a job message."""
        records = [r for r in list(self._roots.values()) if r.description and not r.inner]
        return [record.job() for record in records[:_MAX_JOB_OBJECTS]]

    def optimizers(self) -> list[dict[str, Any]]:
        """The optimizers of a job message, those with most steps first."""
        records = [r for r in list(self._optimizers.values()) if r.description]
        records.sort(key=lambda record: -record.steps)
        return [record.job() for record in records[:_MAX_JOB_OBJECTS]]

    def root_modules(self) -> list[Any]:
        """The models, on any thread."""
        return living(r for r in list(self._roots.values()) if not r.inner)

    def reap(self) -> None:
        """Take back what recordings of threads that have ended left in torch."""
        # By the kernel's list: sys._current_frames() would keep the locals of the frames it gives.
        for detail in list(self._details.values()):
            if detail.is_recording and not Path(f"/proc/self/task/{detail.thread}").exists():
                detail.stop()


def living(records: Iterable[Record]) -> list[Any]:
    """The objects that are still alive."""
    return [target for target in (record.target() for record in records) if target is not None]

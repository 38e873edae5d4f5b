"""Footprints from recorded timelines: replayed by the allocator's rules, at any batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .components.context import context_bytes, cublas_workspace_bytes
from .envelope import Envelope
from .replay import Replay
from .replay import replay as replay_timeline
from .result import ALLOCATED_COMPONENTS, Footprint, fold_phases
from .timeline import Timeline
from .workload import AllocatorConfig, Workload

_ANCHOR = 4
"""Replayed beside the least batch: this many times it. Between and beyond the two the allocator's
overhead (reserved - requested) is taken from the line through them, whatever batch is asked for."""


class TracedPredictor:
    """Answers from timelines: one affine in the batch, and exact ones of single batch sizes."""

    def __init__(
        self,
        affine: Timeline,
        exact: Mapping[int, Timeline],
        workload: Workload,
        outside_bytes: int | None = None,
    ) -> None:
        """``outside_bytes``: of the process outside the allocator; None: that of its device."""
        self._affine, self._exact, self._workload = affine, exact, workload
        self._workspace_bytes = cublas_workspace_bytes(workload.device)
        self._outside_bytes = outside_bytes
        self._context_bytes = (
            context_bytes(workload.device, workload.parallel.gpus)
            if outside_bytes is None
            else outside_bytes
        )
        self._envelope: Envelope | None = None
        self._made: dict[int, Footprint] = {}
        self._overheads: tuple[tuple[int, int], tuple[int, int]] | None = None

    def at(self, batch: int) -> Footprint:
        """The whole answer for one batch size; a replay the first time."""
        if batch not in self._made:
            self._made[batch] = self._footprint(self.replay(batch))
        return self._made[batch]

    def process_bytes(self, batch: int) -> int:
        """The process's total: the exact peak, and the allocator's overhead between replays."""
        if batch in self._made:
            return self._made[batch].process_bytes
        if self._envelope is None:
            self._envelope = Envelope(self._affine, self._workspace_bytes)
        if self._overheads is None:
            few = self._affine.least_batch
            self._overheads = (self._overhead(few), self._overhead(few * _ANCHOR))
        (batch_a, over_a), (batch_b, over_b) = self._overheads
        over = over_a + (over_b - over_a) * (batch - batch_a) // (batch_b - batch_a)
        return self._envelope.peak_bytes(batch) + max(over, 0)

    def _overhead(self, batch: int) -> tuple[int, int]:
        assert self._envelope is not None
        return batch, self.at(batch).process_bytes - self._envelope.peak_bytes(batch)

    def replay(self, batch: int, capacity_bytes: int | None = None) -> Replay:
        """What the allocator does at one batch size, with so much to reserve from."""
        return replay_timeline(
            self.timeline(batch),
            batch,
            config=self._workload.allocator,
            workspace_bytes=self._workspace_bytes,
            capacity_bytes=capacity_bytes,
        )

    def with_allocator(self, allocator: AllocatorConfig) -> TracedPredictor:
        """The same timelines under other allocator settings."""
        workload = replace(self._workload, allocator=allocator)
        return TracedPredictor(self._affine, self._exact, workload, self._outside_bytes)

    def with_outside(self, outside_bytes: int) -> TracedPredictor:
        """The same, with so much in the process outside the allocator."""
        return TracedPredictor(self._affine, self._exact, self._workload, outside_bytes)

    def timeline(self, batch: int) -> Timeline:
        """What the answer for one batch size is made of."""
        return self._exact.get(batch, self._affine)

    def within(self, batch: int, usable_bytes: int) -> Footprint | None:
        """Where a process may have so much, giving back what is cached; None where it dies."""
        done = self.replay(batch, usable_bytes - self._context_bytes)
        return None if done.death else self._footprint(done)

    def _footprint(self, done: Replay) -> Footprint:
        components = {name: done.components.get(name, 0) for name in ALLOCATED_COMPONENTS}
        components["cached"] = done.peak_reserved_bytes - done.peak_allocated_bytes
        components["context"] = self._context_bytes
        timeline = self.timeline(done.batch)
        return Footprint(
            method="trace",
            components=components,
            phases=fold_phases(
                (run.name, run.after_bytes, run.peak_bytes)
                for run in done.phases
                if run.name not in ("other", "end")
            ),
            peak_allocated_bytes=done.peak_allocated_bytes,
            peak_reserved_bytes=done.peak_reserved_bytes,
            process_bytes=done.peak_reserved_bytes + self._context_bytes,
            peak_phase=done.peak_phase,
            peak_module=done.peak_module or None,
            peak_step=done.peak_step or None,
            notes=timeline.notes,
        )

"""Footprints on the CPU, where no allocator lies between: what is allocated is what storages take.

malloc's own overhead and what it keeps for later are in the process's RSS alone, beside Python and
the libraries: all that is ``context`` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .envelope import Envelope
from .result import ALLOCATED_COMPONENTS, Footprint, fold_phases
from .timeline import Timeline
from .walk import storage_bytes, walk

PROCESS_BYTES: Final = 360 << 20
"""RSS of a process that has trained one step of a tiny GPT-2 (torch 2.13's CPU build, transformers
5.23, Linux): 354 MiB, of which its tensors are none that count."""


class StoragePredictor:
    """Answers from timelines: one affine in the batch, and exact ones of single batch sizes."""

    def __init__(
        self,
        affine: Timeline,
        exact: Mapping[int, Timeline],
        outside_bytes: int = PROCESS_BYTES,
    ) -> None:
        self._affine, self._exact, self._outside_bytes = affine, exact, outside_bytes
        self._envelope = Envelope(affine)
        self._made: dict[int, Footprint] = {}

    def at(self, batch: int) -> Footprint:
        """The whole answer for one batch size."""
        if batch not in self._made:
            self._made[batch] = self._footprint(batch)
        return self._made[batch]

    def process_bytes(self, batch: int) -> int:
        """The process's total."""
        if batch in self._exact:
            return self.at(batch).process_bytes
        return self._envelope.peak_bytes(batch) + self._outside_bytes

    def timeline(self, batch: int) -> Timeline:
        """What the answer for one batch size is made of."""
        return self._exact.get(batch, self._affine)

    def with_outside(self, outside_bytes: int) -> StoragePredictor:
        """The same, with so much in the process outside the tensors."""
        return StoragePredictor(self._affine, self._exact, outside_bytes)

    def _footprint(self, batch: int) -> Footprint:
        timeline = self.timeline(batch)
        done = walk(timeline, storage_bytes(batch))
        components = {name: done.peak.get(name, 0) for name in ALLOCATED_COMPONENTS}
        components["cached"] = 0
        components["context"] = self._outside_bytes
        return Footprint(
            method="trace",
            components=components,
            phases=fold_phases(
                (run.name, sum(run.after.values()), run.peak_bytes) for run in done.phases
            ),
            peak_allocated_bytes=done.peak_bytes,
            peak_reserved_bytes=done.peak_bytes,
            process_bytes=done.peak_bytes + self._outside_bytes,
            peak_phase=done.peak_phase,
            peak_module=done.peak_module or None,
            peak_step=done.peak_step or None,
            notes=timeline.notes,
        )

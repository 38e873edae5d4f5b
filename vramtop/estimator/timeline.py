"""A recorded timeline: every block that a workload allocates and releases, affine in the batch.

The tracer makes it (package ``trace``), ``allocator`` replays it. Sizes are ``base + slope ·
batch`` bytes as requested; rounding is the allocator's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

WORKSPACE = "workspace"
"""Blocks of this category are cuBLAS workspaces; their size is the device's (``workspace``)."""


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One storage from its allocation to its release."""

    base_bytes: int
    slope_bytes: int
    """Bytes a sample of the batch."""
    category: str
    """One of ``result.ALLOCATED_COMPONENTS``."""
    module: str
    """Path of the innermost module that made it; "" is the root or none. Of parameters, gradients
    and optimizer states the parameter's own name."""
    layer: int | None = None
    """Index of the repeated layer it belongs to, None outside them."""
    operation: str = ""
    """The operation that made it, as aten::mm."""
    stream: int = 0
    """Whose free memory it comes from and goes back to; 0 is the computation's."""
    awaited: bool = False
    """Released before the device is done with it: reusable when the program has waited
    (``Tensor.record_stream``)."""

    def size_bytes(self, batch: int) -> int:
        """Requested bytes at a batch size."""
        return self.base_bytes + self.slope_bytes * batch


@dataclass(frozen=True, slots=True)
class Mark:
    """The beginning of a phase of a step."""

    event: int
    """Index of the first event of the phase."""
    phase: str
    """load, forward, backward, step, zero_grad, generate; ``other`` between them."""
    step: int
    """0 while loading, then from 1."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Blocks in order of allocation, and the order in which they come and go."""

    blocks: tuple[BlockInfo, ...]
    events: tuple[int, ...]
    """``i + 1`` where block i is allocated, ``-(i + 1)`` where it is released."""
    marks: tuple[Mark, ...]
    event_modules: tuple[str, ...] = ()
    """The module that was running at each event; empty where not recorded."""
    least_batch: int = 2
    """Smallest batch for which the affine sizes hold."""
    notes: tuple[str, ...] = ()

    def map_blocks(self, change: Any) -> Timeline:
        """The same events with every block passed through ``change(block) -> block``."""
        return replace(self, blocks=tuple(change(block) for block in self.blocks))

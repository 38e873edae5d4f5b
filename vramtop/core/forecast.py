"""Where the memory goes from here: growth told apart from a step's own rise and fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GrowthKind = Literal["leak", "growing-input", "fragmentation", "growth"]
Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a process's memory ends if it goes on growing as it does."""

    kind: GrowthKind
    """``leak``: what is left between steps grows. ``growing-input``: only the peaks do, and so do
    the batches. ``fragmentation``: reserved grows and allocated does not."""
    bytes_per_s: float
    bytes_per_step: float | None
    limit_bytes: int
    """What the process can have before memory ends."""
    oom_in_s: float
    oom_in_steps: float | None
    confidence: Confidence
    text: str
    """In words: "OOM in ~14 min / 820 steps at this growth (12 MiB a step, high confidence)"."""

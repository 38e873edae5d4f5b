"""What a live process should hold, phase by phase: the prediction beside which the actual stands.

Categories are those of the live breakdown (``core.memory.TENSOR_CATEGORIES``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from .result import Predictor
from .workload import Workload

Source = Literal["trace", "closed-form", "fitted"]
"""``fitted``: the model could not be rebuilt; its real parameters and optimizer, and a line through
the (batch, peak) pairs that were seen."""


@dataclass(frozen=True, slots=True)
class ExpectedPhase:
    """One phase of a steady step."""

    name: str
    """forward, backward, step or zero_grad, as in ``core.memory.Phase``."""
    after: Mapping[str, int]
    """Bytes by category at its end; every one of TENSOR_CATEGORIES is there."""
    peak_bytes: int
    """The most in it, its beginning included."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one process should hold on one device at one batch size, in a steady step."""

    source: Source
    told: str
    """What it was made from, in words: "GPT2LMHeadModel rebuilt from its configuration, traced"."""
    batch: int
    sequence: int | None
    """None where samples have no tokens, or nothing is known of them."""
    phases: tuple[ExpectedPhase, ...]
    """In the order of the loop; empty where only the peak is known (fitted)."""
    peak: Mapping[str, int]
    """Bytes by category at the fullest moment; every one of TENSOR_CATEGORIES is there. Fitted:
    what the line says beyond parameters, gradients and optimizer state is all in ``activation``."""
    peak_bytes: int
    peak_phase: str | None
    peak_module: str | None
    reserved_bytes: int | None
    """What the caching allocator should reserve; None without one (cpu)."""
    uncertainty: float
    """How far the truth may be from ``peak_bytes``, as a share of it."""
    logits_bytes: int | None = None
    """Of the outputs that a language model's head makes; None where not known."""
    notes: tuple[str, ...] = ()
    """What was assumed of the process, in words."""


class Expecting(Protocol):
    """What a process should hold, for any batch size."""

    workload: Workload | None
    """As the process was rebuilt; None where it was not (fitted)."""
    predictor: Predictor
    """Process totals over the batch, for curves; its context is what the process really has outside
    its allocator, where that is known."""

    def at(self, batch: int) -> Expected:
        """Everything about one batch size."""
        ...

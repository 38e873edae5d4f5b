"""Predicted beside actual: pairs of bytes by category and moment, and why they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .expected import Expected


@dataclass(frozen=True, slots=True)
class Pair:
    """One category at one moment."""

    category: str
    """One of ``core.memory.TENSOR_CATEGORIES``, ``cached`` (predicted reserved - allocated), or
    ``total``."""
    predicted_bytes: int | None
    actual_bytes: int | None

    @property
    def delta_bytes(self) -> int | None:
        """Actual less predicted."""
        if self.predicted_bytes is None or self.actual_bytes is None:
            return None
        return self.actual_bytes - self.predicted_bytes

    @property
    def delta_share(self) -> float | None:
        """The delta as a share of what was predicted."""
        if self.delta_bytes is None or not self.predicted_bytes:
            return None
        return self.delta_bytes / self.predicted_bytes


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a step."""

    name: str
    """now, peak, or the phase at whose end it is."""
    pairs: tuple[Pair, ...]
    """Of every category of which either is not 0."""
    total: Pair


@dataclass(frozen=True, slots=True)
class Reason:
    """A likely reason for more, or less, than was predicted."""

    kind: Literal[
        "optimizer-fp32",
        "outputs-kept",
        "eager-attention",
        "gradients-kept",
        "fragmentation",
        "other",
    ]
    category: str
    text: str
    """One line: "logits kept alive: `outputs` still referenced (8.39 MB)"."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A process's memory beside what it should be."""

    expected: Expected
    moments: tuple[Moment, ...]
    """Now, the peak, then each phase."""
    differs: bool
    """More than the stated uncertainty."""
    reasons: tuple[Reason, ...]
    """Largest first; none where nothing differs."""

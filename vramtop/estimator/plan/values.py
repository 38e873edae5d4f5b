"""What a plan is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..result import Footprint, Predictor
from ..workload import Lora, Workload
from .communication import Traffic, total_bytes

TRIED_LORA: Final = Lora(rank=16)
"""Adapters that are tried where none are asked for; PEFT chooses their modules."""
PredictorOf = Callable[[Workload], Predictor]


@dataclass(frozen=True, slots=True)
class Wish:
    """A training that shall fit."""

    workload: Workload
    """Model, sequence, device, and the arithmetic that is wanted: precision and optimizer. Of
    ``parallel`` only the number of GPUs counts; what is searched over is not read."""
    effective_batch: int
    """Samples an optimizer step sees: micro-batch × accumulation × data-parallel GPUs."""
    held: frozenset[str] = frozenset()
    """Fields of Workload and Parallel that the user has set, and that are not searched over."""
    lora: Lora = TRIED_LORA
    """The adapters that are tried."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Precision, optimizer and adapters: what decides about the training's results."""

    precision: str
    optimizer: str
    lora: Lora | None
    departures: tuple[str, ...] = ()
    """What is not as it was wanted, in words; empty: nothing changes."""
    severity: int = 0
    """0: nothing; then in the order in which departures are shown."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run the training, and its price."""

    workload: Workload
    footprint: Footprint
    arithmetic: Arithmetic
    passes: int
    """Micro-batches that a GPU runs for one optimizer step."""
    recomputation: float
    """Arithmetic made again over that of a step without checkpointing."""
    bubble: float
    """A pipeline's idle time over its busy time."""
    traffic: tuple[Traffic, ...] = ()
    """Sent by one GPU for one optimizer step."""

    @property
    def process_bytes(self) -> int:
        """Of the fullest GPU."""
        return self.footprint.process_bytes

    @property
    def sent_bytes(self) -> int:
        """Everything that one GPU sends for one optimizer step."""
        return total_bytes(self.traffic)


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer: configurations that fit, or the one that comes nearest."""

    wish: Wish
    limit_bytes: int
    """What the process may take of the device."""
    configurations: tuple[Configuration, ...]
    """The front: those that leave the arithmetic alone first."""
    nearest: Configuration | None
    """Where nothing fits what needs least; where nothing fits as wanted, the least of that."""
    tried: int
    """Configurations whose memory was computed."""
    found: tuple[Configuration, ...] = field(default=(), repr=False)
    """Everything that fits, of which ``configurations`` are the few."""
    notes: tuple[str, ...] = ()

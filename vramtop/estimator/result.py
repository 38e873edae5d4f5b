"""What is answered: a footprint (where the bytes go), and the estimate made of it.

``COMPONENTS`` have the names of the live breakdown (``core.memory``), so that predicted and
actual can stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from .workload import Device, Workload

Method = Literal["trace", "closed-form", "seed", "fitted"]
"""``fitted``: from what a live process was seen to hold; no method that can be asked for."""
Verdict = Literal["fits", "tight", "oom"]
COMPONENTS: Final = (
    "parameter",
    "gradient",
    "optimizer_state",
    "activation",
    "input",
    "temporary",
    "autograd_detail",
    "kv_cache",
    "workspace",
    "cached",
    "context",
)
"""What the process's bytes are for at its peak, in the order in which they are shown; they sum to
the process's total. The first nine are allocated, ``cached`` is reserved - allocated, ``context``
the CUDA context and communication libraries. ``kv_cache`` is not part of ``activation`` here."""
ALLOCATED_COMPONENTS: Final = COMPONENTS[:9]


@dataclass(frozen=True, slots=True)
class PhaseUse:
    """Allocated bytes at the end of a phase and at its fullest moment, in a steady step."""

    name: str
    """load, forward, backward, step, zero_grad; inference: load, forward (the prompt), generate."""
    after_bytes: int
    peak_bytes: int


def fold_phases(runs: Iterable[tuple[str, int, int]]) -> tuple[PhaseUse, ...]:
    """Runs of phases (name, bytes after, peak bytes) by name, in the order of the first of each.

    What is left after the last run of a phase, and the most in any.
    """
    after: dict[str, int] = {}
    most: dict[str, int] = {}
    for name, after_bytes, peak_bytes in runs:
        after[name] = after_bytes
        most[name] = max(most.get(name, 0), peak_bytes)
    return tuple(PhaseUse(name, after[name], most[name]) for name in after)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one workload takes on the fullest GPU: three totals, never one."""

    method: Method
    components: Mapping[str, int]
    """Bytes by component at the peak; every name of ``COMPONENTS`` is there."""
    phases: tuple[PhaseUse, ...]
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    process_bytes: int
    peak_phase: str
    peak_module: str | None = None
    peak_step: int | None = None
    """Training step of the peak, from 1: the first has no optimizer state before its end."""
    notes: tuple[str, ...] = ()
    """What was assumed, or could not be taken into account, in words for the user."""


class Predictor(Protocol):
    """Footprints of one workload over its batch size; answers in microseconds once made."""

    def at(self, batch: int) -> Footprint:
        """Everything about one batch size."""
        ...

    def process_bytes(self, batch: int) -> int:
        """The process's total alone, for curves: below 0.1 ms."""
        ...


@dataclass(frozen=True, slots=True)
class Advice:
    """One change that would save memory, and its price."""

    change: str
    """In words, with the option: "full checkpointing (--checkpointing full)"."""
    options: Mapping[str, str]
    """The options of ``vramtop estimate`` that make the change."""
    saves_bytes: int
    """Of what is allocated, by the closed form; of expandable segments, what is reserved."""
    cost: str


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The range of the process's total that measured errors of the method justify."""

    low_bytes: int
    high_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The answer to ``vramtop.estimate``."""

    workload: Workload
    footprint: Footprint
    device: Device | None
    verdict: Verdict | None
    """None without a device to compare with."""
    uncertainty: Uncertainty
    max_micro_batch: int | None
    """Largest batch that runs on the device, cached memory given back where need be; 0 where none
    does, None without a device."""
    curve: tuple[tuple[int, int], ...]
    """(batch, process bytes), ascending."""
    advice: tuple[Advice, ...] = ()
    safe_micro_batch: int | None = None
    """Largest batch of which the verdict is "fits": that fits with the uncertainty added."""


Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction that is done, 0 to 1."""

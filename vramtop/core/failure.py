"""How a training ended, or failed to get memory: what a post-mortem is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureKind = Literal["oom", "lost"]
"""``oom``: an allocation failed. ``lost``: the process ended without a word (killed, crashed)."""
Limit = Literal["address_space", "cgroup", "ram"]
"""What a process's memory on the host ends at: RLIMIT_AS, its cgroup, the machine's RAM."""
ModuleSource = Literal["exact", "nearest", "last_peak"]
"""``exact``: it was running. ``nearest``: its parameter is the next one in the backward graph.
``last_peak``: where the last step sampled in detail was fullest."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed allocation, or the end of a process; bytes, unknown is None."""

    kind: FailureKind
    at: float
    device: str | None = None
    """The torch device: cuda:0, cpu."""
    step: int | None = None
    phase: str | None = None
    """forward, backward, step … as ``Phase.name``."""
    module: str | None = None
    """Path of the innermost module; "" is the root itself."""
    module_source: ModuleSource | None = None
    requested_bytes: int | None = None
    free_bytes: int | None = None
    """Free on the device when it failed, by the driver (on the CPU: below the address limit)."""
    total_bytes: int | None = None
    limited_by: Limit | None = None
    """On the CPU: what ``free_bytes`` and ``total_bytes`` are of."""
    message: str | None = None
    """The exception's own words; for ``lost`` what is known from outside."""
    caught: bool | None = None
    """The program went on; None while that is not known."""
    file: str | None = None
    """The post-mortem file, where one was written."""

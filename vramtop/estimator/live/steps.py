"""The steady step of a timeline as a probe would tell of it: live categories, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...core.memory import TENSOR_CATEGORIES
from ..expected import ExpectedPhase
from ..timeline import Timeline
from ..walk import PhaseWalk, storage_bytes, walk
from ..workload import Backend

_BLOCK_BYTES: Final[Mapping[Backend, int]] = {"cuda": 512, "cpu": 1}
"""What the probe rounds a storage up to: on CUDA as the caching allocator does (kMinBlockSize in
c10/cuda/CUDACachingAllocator.cpp). cuBLAS's workspaces are no storages and in no sampled step."""
_LIVE_CATEGORY: Final = {"kv_cache": "activation"}


@dataclass(frozen=True, slots=True)
class SteadyStep:
    """One step of many that are alike."""

    phases: tuple[ExpectedPhase, ...]
    peak: Mapping[str, int]
    """Bytes by live category."""
    peak_bytes: int
    peak_phase: str
    peak_module: str | None


def steady_step(timeline: Timeline, batch: int, backend: Backend) -> SteadyStep:
    """The last step of a timeline; micro-batches of one step are folded as the probe folds them."""
    done = walk(timeline, storage_bytes(batch, _BLOCK_BYTES[backend]), only_last_step=True)
    runs: dict[str, list[PhaseWalk]] = {}
    for phase in done.phases:
        runs.setdefault(phase.name, []).append(phase)
    return SteadyStep(
        phases=tuple(
            ExpectedPhase(name, live(same[-1].after), max(run.peak_bytes for run in same))
            for name, same in runs.items()
        ),
        peak=live(done.peak),
        peak_bytes=done.peak_bytes,
        peak_phase=done.peak_phase,
        peak_module=done.peak_module or None,
    )


def live(components: Mapping[str, int]) -> dict[str, int]:
    """From an estimate's components to the categories of the live breakdown, each of them."""
    found = dict.fromkeys(TENSOR_CATEGORIES, 0)
    for name, size in components.items():
        category = _LIVE_CATEGORY.get(name, name)
        if category in found:
            found[category] += size
    return found

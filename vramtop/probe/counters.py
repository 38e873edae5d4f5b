"""Reads the caching allocator's counters; safe on any thread, never creates a CUDA context."""

from __future__ import annotations

from typing import Any

Counters = dict[str, Any]
"""The ``allocator`` object of a sample."""


class AllocatorReader:
    """Counters of every CUDA device that this process has memory on."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._uuids: dict[int, str | None] = {}

    def read(self) -> dict[str, tuple[str | None, Counters]]:
        """(uuid as the driver writes it, counters) by torch device; empty before CUDA is in use."""
        cuda = getattr(self._torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return {}
        found = {}
        for index in range(cuda.device_count()):
            counters = read_counters(cuda, index)
            if counters is not None:
                found[f"cuda:{index}"] = (self._uuid(cuda, index), counters)
        return found

    def _uuid(self, cuda: Any, index: int) -> str | None:
        if index not in self._uuids:
            properties = cuda.get_device_properties(index)
            uuid = getattr(properties, "uuid", None)
            # CUDA gives a MIG instance's own UUID, without the prefix that NVML writes.
            prefix = "MIG-" if " MIG " in f"{properties.name} " else "GPU-"
            self._uuids[index] = None if uuid is None else prefix + str(uuid)
        return self._uuids[index]


def read_counters(cuda: Any, index: int) -> Counters | None:
    """One device's counters in bytes, None where the allocator holds nothing (20–50 µs)."""
    stats = cuda.memory_stats_as_nested_dict(index)
    reserved = _of_all(stats, "reserved_bytes", "current")
    if not reserved:
        return None
    return {
        "allocated_bytes": _of_all(stats, "allocated_bytes", "current") or 0,
        "reserved_bytes": reserved,
        "active_bytes": _of_all(stats, "active_bytes", "current") or 0,
        "requested_bytes": _of_all(stats, "requested_bytes", "current"),
        "inactive_split_bytes": _of_all(stats, "inactive_split_bytes", "current"),
        "peak_allocated_bytes": _of_all(stats, "allocated_bytes", "peak") or 0,
        "peak_reserved_bytes": _of_all(stats, "reserved_bytes", "peak") or 0,
        "segments": _of_all(stats, "segment", "current") or 0,
        "alloc_retries": stats.get("num_alloc_retries", 0),
        "ooms": stats.get("num_ooms", 0),
    }


def _of_all(stats: dict[str, Any], name: str, which: str) -> int | None:
    # "all" is the sum of the small and the large pool. Counters come and go between versions.
    value = stats.get(name, {}).get("all", {}).get(which)
    return None if value is None else int(value)

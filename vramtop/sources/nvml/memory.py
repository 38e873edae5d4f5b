"""Memory of a GPU or a MIG instance through whichever version of the call there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from ...core.model import DeviceMemory, DeviceUse
from .calls import Asker, DeviceLost, natural

UNKNOWN_MEMORY: Final = DeviceMemory(None, None, None)


def read_memory(asker: Asker, nvml: Any, handle: Any, owner: str = "") -> DeviceMemory | None:
    """Bytes as the driver counts them, None if it never tells.

    Version 2 keeps the driver's reserve out of ``used``; version 1 has counted it as used since
    driver 510, and is asked only where version 2 is missing.

    Raises:
        DeviceLost: the figure cannot be had now; without it there is nothing to show.
    """
    what = f"memory {owner}".strip()
    first, second = f"{what} v2", f"{what} v1"
    memory: DeviceMemory | None = asker.ask(
        what, _version_2, nvml, handle, read=_with_reserve, key=first, expected=True
    )
    if memory is not None:
        return memory
    if asker.is_void(first):
        call = nvml.nvmlDeviceGetMemoryInfo
        memory = asker.ask(what, call, handle, read=_without_reserve, key=second, expected=True)
        if memory is not None:
            asker.lacks(f"driver reserve {owner}".strip())
            return memory
    if what in asker.failed:
        # Also how a handle from before the GPU's reset shows: Invalid Argument.
        raise DeviceLost(f"{what}: {asker.failed.pop(what)}")
    return None if asker.is_void(second) else UNKNOWN_MEMORY


def _version_2(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)


def _without_reserve(answer: Any) -> DeviceMemory:
    if answer.total == 0:  # it shares the host's; what is free of nothing may be below it
        return replace(UNKNOWN_MEMORY, total_bytes=0)
    return DeviceMemory(natural(answer.total), natural(answer.used), natural(answer.free))


def _with_reserve(answer: Any) -> DeviceMemory:
    memory = _without_reserve(answer)
    return replace(memory, driver_reserved_bytes=natural(answer.reserved))


def host_memory() -> DeviceMemory:
    """RAM, for GPUs that have no memory of their own (GB10, Jetson): used = total - available.

    What is unattributed stays unknown: most of it is other programs' ordinary RAM.
    """
    import psutil

    memory = psutil.virtual_memory()
    return DeviceMemory(memory.total, memory.total - memory.available, memory.available)


def with_unattributed(memory: DeviceMemory, uses: Iterable[DeviceUse]) -> DeviceMemory:
    """Add used - sum over processes; unknown where one of them is, or where it is negative.

    Negative means that the two were read at different moments, or that the driver counts
    something twice; neither 0 nor the negative figure would be true.
    """
    total = 0
    for use in uses:
        if use.used_bytes is None:
            return memory
        total += use.used_bytes
    if memory.used_bytes is None or memory.used_bytes < total:
        return memory
    return replace(memory, unattributed_bytes=memory.used_bytes - total)

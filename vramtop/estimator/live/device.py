"""Where a live process runs, with what the others leave of it."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.model import Device as LiveDevice
from ...core.model import DeviceMemory, MigDevice, ProbeDevice, Process
from ...errors import UsageError
from ..catalog import find_gpu
from ..judge import HOST_RAM
from ..workload import Device


def device_of(
    process: Process, part: ProbeDevice | None, devices: Sequence[LiveDevice], notes: list[str]
) -> Device | None:
    """The device of one torch device, smaller by what others hold; None where it is not seen."""
    if part is None:
        return None
    if part.device == "cpu":
        host = next((device for device in devices if device.backend == "host"), None)
        if host is None:
            return None
        total = _left(process, host.uuid, host.memory, part)
        return None if total is None else Device(HOST_RAM, total)
    for device in devices:
        places: tuple[LiveDevice | MigDevice, ...] = (device, *device.mig)
        for place in places:
            if place.uuid == part.uuid:
                total = _left(process, place.uuid, place.memory, part)
                return None if total is None else _gpu(device, place, total, notes)
    return None


def _left(process: Process, uuid: str, memory: DeviceMemory, part: ProbeDevice) -> int | None:
    if memory.total_bytes is None:
        return None
    return max(memory.total_bytes - _others(process, uuid, memory, part), 0)


def _others(process: Process, uuid: str, memory: DeviceMemory, part: ProbeDevice) -> int:
    own = next((use.used_bytes for use in process.devices if use.uuid == uuid), None)
    if own is None:
        own = part.allocator.reserved_bytes if part.allocator else process.host_rss_bytes
    return max((memory.used_bytes or 0) - (own or 0), 0)


def _gpu(
    device: LiveDevice, place: LiveDevice | MigDevice, total_bytes: int, notes: list[str]
) -> Device:
    """``place``: the device itself, or an instance of it."""
    try:
        known = find_gpu(device.name)
    except UsageError:
        notes.append(f"{device.name} is not in the catalogue: taken for compute capability 8.0")
        return Device(place.name, total_bytes)
    name = known.name if place is device else place.name
    return Device(name, total_bytes, known.compute_capability)

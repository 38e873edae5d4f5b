"""Devices as they are shown: one row for each GPU and MIG instance, and its segmented bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .breakdowns import CATEGORY_LABELS
from .fleet import Fleet
from .memory import CATEGORIES
from .model import Device, DeviceMemory, MigDevice, ProbeDevice, Process
from .units import NOT_AVAILABLE, format_bytes, format_duration, format_percent

SEGMENT_LABELS: Final[Mapping[str, str]] = {
    **CATEGORY_LABELS,
    "other_processes": "other processes",
    "driver_reserved": "driver reserve",
    "unattributed": "unattributed",
    "free": "free",
}
"""The parts of a device's bar, in the order in which every bar shows them."""

_LIVE: Final = frozenset({"streaming", "stale"})
"""Probes whose breakdown still stands for memory in use."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One GPU, MIG instance or the host; texts show N/A for what is unknown."""

    device: Device
    """The device itself, for a MIG instance the one that it is part of."""
    mig: MigDevice | None
    short_name: str
    uuid: str
    name: str
    memory: DeviceMemory
    used_share: float | None
    """Used by total, 0 to 1, without the driver's reserve."""
    used_history: tuple[tuple[float, int | None], ...]
    """(time, used bytes), oldest first."""

    @property
    def memory_text(self) -> str:
        """Used and total."""
        return f"{format_bytes(self.memory.used_bytes)} / {format_bytes(self.memory.total_bytes)}"

    @property
    def utilization_text(self) -> str:
        """Busy share of the GPU (on the host: of the CPUs); of a MIG instance not measured."""
        return format_percent(None if self.mig else self.device.utilization_percent, 0)

    @property
    def temperature_text(self) -> str:
        """Degrees Celsius."""
        return _number(None if self.mig else self.device.temperature_c, "°C")

    @property
    def power_text(self) -> str:
        """Power and its limit in watts."""
        if self.mig or self.device.power_w is None:
            return NOT_AVAILABLE
        limit_w = self.device.power_limit_w
        return f"{self.device.power_w:.0f}" + (f"/{limit_w:.0f} W" if limit_w else " W")

    @property
    def clocks_text(self) -> str:
        """SM and memory clock in MHz."""
        if self.mig:
            return NOT_AVAILABLE
        sm, memory = self.device.sm_clock_mhz, self.device.memory_clock_mhz
        if sm is None and memory is None:
            return NOT_AVAILABLE
        return f"{_number(sm)}/{_number(memory)} MHz"

    @property
    def state_text(self) -> str:
        """What is unusual about the device; empty for one that is read as it should be."""
        said = []
        if self.device.stale_s is not None:
            said.append(f"lost, values {format_duration(self.device.stale_s)} old")
        if self.device.unified_memory:
            said.append("unified memory: figures are the host's RAM")
        return ", ".join(said)


def device_rows(fleet: Fleet) -> list[DeviceRow]:
    """Every device in the order of its index, each followed by its MIG instances."""
    rows = []
    for device in fleet.snapshot.devices:
        rows.append(_device_row(fleet, device, None))
        rows.extend(_device_row(fleet, device, mig) for mig in device.mig)
    return rows


def device_segments(fleet: Fleet, device: Device | MigDevice) -> list[tuple[str, int]]:
    """The bytes of every segment of a device's bar, in the order of ``SEGMENT_LABELS``.

    They sum to the device's total exactly and none is negative: what processes and probes say is
    cut where, read at other moments, it exceeds the device's own figure. Empty where the device
    does not know its total or its use.
    """
    memory = device.memory
    if memory.total_bytes is None or (memory.used_bytes is None and memory.free_bytes is None):
        return []
    total = max(memory.total_bytes, 0)
    reserved = _within(memory.driver_reserved_bytes, total)
    used = memory.used_bytes
    if used is None:
        used = total - reserved - (memory.free_bytes or 0)
    used = _within(used, total - reserved)
    is_host = isinstance(device, Device) and device.backend == "host"
    claims = _claims(fleet.snapshot.processes, _uuids(device), is_host)
    segments: dict[str, int] = {}
    left = used
    for key in (*CATEGORIES, "other_processes"):
        segments[key] = _within(claims[key], left)
        left -= segments[key]
    if is_host:
        # Resident sets share pages and cannot be summed; all that no probe explains is others'.
        segments["other_processes"] += left
        left = 0
    segments["driver_reserved"] = reserved
    segments["unattributed"] = left
    segments["free"] = total - reserved - used
    return list(segments.items())


def _claims(processes: tuple[Process, ...], uuids: frozenset[str], is_host: bool) -> dict[str, int]:
    """What probes and, for processes without one, the driver say about a device."""
    claims = dict.fromkeys((*CATEGORIES, "other_processes"), 0)
    for process in processes:
        explained: set[str] = set()
        if process.probe.state in _LIVE and process.state != "gone":
            for part in process.probe.devices:
                uuid = uuid_of(part, process)
                here = uuid in uuids or (is_host and part.device == "cpu")
                if not here or part.breakdown is None:
                    continue
                explained.add(uuid or "")
                for category in CATEGORIES:
                    claims[category] += part.breakdown.bytes_of(category) or 0
        if is_host:
            continue
        for use in process.devices:
            if use.uuid in uuids and use.uuid not in explained:
                claims["other_processes"] += use.used_bytes or 0
    return claims


def uuid_of(part: ProbeDevice, process: Process) -> str | None:
    """The device that a torch device is; None for the CPU and where it is not known."""
    # An old torch does not tell the uuid; a process on one device only needs none.
    if part.uuid is None and part.device != "cpu" and len(process.devices) == 1:
        return process.devices[0].uuid
    return part.uuid


def device_memory(
    devices: tuple[Device, ...], part: ProbeDevice, process: Process
) -> DeviceMemory | None:
    """Memory of the device or MIG instance that a torch device is; None where it is not known."""
    uuid = uuid_of(part, process)
    for device in devices:
        places: tuple[Device | MigDevice, ...] = (device, *device.mig)
        for place in places:
            if place.uuid == uuid:
                return place.memory
    return None


def device_short_name(device: Device, mig: MigDevice | None = None) -> str:
    """Index of a GPU, "0:1" for a MIG instance of it, "host" for the host's RAM."""
    if device.backend == "host":
        return "host"
    return str(device.index) if mig is None else f"{device.index}:{mig.index}"


def device_places(devices: tuple[Device, ...]) -> dict[str, tuple[str, str]]:
    """Short name and searchable text of every device and MIG instance by uuid."""
    places: dict[str, tuple[str, str]] = {}
    for device in devices:
        short = device_short_name(device)
        places[device.uuid] = (short, f"{short} gpu{short} {device.uuid} {device.name}")
        for mig in device.mig:
            name = device_short_name(device, mig)
            places[mig.uuid] = (name, f"{name} gpu{short} {mig.uuid} {mig.name} {device.name}")
    return places


def _device_row(fleet: Fleet, device: Device, mig: MigDevice | None) -> DeviceRow:
    shown = mig or device
    memory = shown.memory
    known = memory.used_bytes is not None and memory.total_bytes
    return DeviceRow(
        device=device,
        mig=mig,
        short_name=device_short_name(device, mig),
        uuid=shown.uuid,
        name=shown.name,
        memory=memory,
        used_share=(memory.used_bytes or 0) / (memory.total_bytes or 1) if known else None,
        used_history=fleet.device_used.get(shown.uuid, ()),
    )


def _uuids(device: Device | MigDevice) -> frozenset[str]:
    parts = device.mig if isinstance(device, Device) else ()
    return frozenset({device.uuid, *(part.uuid for part in parts)})


def _within(size_bytes: int | None, limit_bytes: int) -> int:
    return min(max(size_bytes or 0, 0), limit_bytes)


def _number(value: float | None, unit: str = "") -> str:
    return NOT_AVAILABLE if value is None else f"{value:.0f}{unit}"

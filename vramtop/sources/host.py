"""The host as a device: RAM total and used, a process's memory is its RSS."""

from __future__ import annotations

import heapq

from ..core.model import BackendName, Device, DeviceMemory, DeviceUse
from .base import DeviceReading
from .procfs import resident_bytes

HOST_UUID = "host"
_LISTED_PROCESSES = 40
_LISTED_MIN_BYTES = 10 << 20
"""A host runs hundreds of processes; those that matter for memory are the largest."""


class HostBackend:
    """RAM as device 0, for machines without an NVIDIA driver."""

    name: BackendName = "host"

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent()  # the first call only sets the reference

    def read(self) -> DeviceReading:
        """RAM as psutil gives it (used = total - available) and the largest processes by RSS."""
        memory = self._psutil.virtual_memory()
        resident = {p: size for p, size in resident_bytes().items() if size >= _LISTED_MIN_BYTES}
        largest = heapq.nlargest(_LISTED_PROCESSES, resident, key=resident.__getitem__)
        device = Device(
            index=0,
            uuid=HOST_UUID,
            name="host RAM",
            backend="host",
            memory=DeviceMemory(
                total_bytes=memory.total,
                used_bytes=memory.total - memory.available,
                free_bytes=memory.available,
            ),
            utilization_percent=self._psutil.cpu_percent(),
        )
        uses = {pid: (DeviceUse(HOST_UUID, resident[pid], "H"),) for pid in largest}
        return DeviceReading(devices=(device,), uses=uses)

    def close(self) -> None:
        """Nothing to release."""

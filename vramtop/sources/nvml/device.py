"""One GPU: its figures, its MIG instances and the processes on both, as far as it answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...core.model import Device, DeviceMemory, DeviceUse, MigDevice
from .calls import Asker, DeviceLost, SessionLost, name, natural
from .memory import UNKNOWN_MEMORY, host_memory, read_memory, with_unattributed
from .mig import OWNER, Instance, MigReader
from .processes import LISTS, Holdings, ProcessLists, read_lists

_CLOCK_SM: Final = 1
_CLOCK_MEMORY: Final = 2
_SENSOR_GPU: Final = 0
_HOTTEST_C: Final = 1000

Uses = list[tuple[int, DeviceUse]]
"""(pid, what it holds)."""


@dataclass(frozen=True, slots=True)
class _Good:
    """A reading that succeeded, kept for the time when the GPU does not answer."""

    device: Device
    uses: Uses
    at: float


class GpuReader:
    """Reads one GPU by its index.

    Attributes:
        asker: What could not be had, and why.
        trouble: Why the whole GPU could not be read in the last tick, None if it could.
        session_lost: That this was because NVML must be initialised again.
        notes: What else the user should know of the last tick.
    """

    def __init__(self, nvml: Any, lists: ProcessLists, index: int) -> None:
        self.index = index
        self.asker = Asker(nvml)
        self.trouble: str | None = None
        self.session_lost = False
        self.notes: list[str] = []
        self._nvml = nvml
        self._lists = lists
        self._mig = MigReader(nvml, self.asker)
        self._handle: Any = None
        self._uuid: str | None = None
        self._name: str | None = None
        self._opened_at = time.monotonic()
        self._good: _Good | None = None

    def inherit(self, before: GpuReader) -> None:
        """Take over the last values of this GPU's reader from before a re-initialisation."""
        self._good, self._opened_at = before._good, before._opened_at

    def read(self) -> tuple[Device, Uses]:
        """The GPU now; while it does not answer, its last values with their age."""
        self.asker.start_tick()
        self.notes.clear()
        self.trouble, self.session_lost = None, False
        try:
            device, uses = self._read()
        except (DeviceLost, SessionLost) as lost:
            self.trouble = str(lost)
            self.session_lost = isinstance(lost, SessionLost)
            self._handle = None  # drivers have crashed on a handle from before the loss
            return self.last()
        self._good = _Good(device, uses, time.monotonic())
        return device, uses

    def last(self) -> tuple[Device, Uses]:
        """The last good values, marked with their age in seconds."""
        now = time.monotonic()
        if self._good is None:
            unread = self._device(UNKNOWN_MEMORY)
            return replace(unread, stale_s=now - self._opened_at), []
        return replace(self._good.device, stale_s=now - self._good.at), self._good.uses

    def _device(self, memory: DeviceMemory) -> Device:
        return Device(
            index=self.index,
            uuid=self._uuid or f"GPU-index-{self.index}",
            name=self._name or "NVIDIA GPU",
            backend="nvml",
            memory=memory,
        )

    def _read(self) -> tuple[Device, Uses]:
        nvml, ask = self._nvml, self.asker.ask
        handle = self._handle or self._open()
        mode = ask("MIG mode", nvml.nvmlDeviceGetMigMode, handle, read=_current, expected=True)
        in_mig_mode = bool(mode)
        memory = read_memory(self.asker, nvml, handle)
        unified = memory is None or memory.total_bytes == 0
        instances = self._mig.read(handle) if in_mig_mode else []
        uses, complete = self._processes(handle, instances)
        rows = tuple(instance.row for instance in instances)
        if unified:
            memory = host_memory()
        elif complete:
            memory = self._attributed(handle, memory or UNKNOWN_MEMORY, uses)
            rows = tuple(_attributed_row(row, uses) for row in rows)
        busy = None
        if not in_mig_mode:  # no driver has it for a partitioned GPU
            call = nvml.nvmlDeviceGetUtilizationRates
            busy = ask("utilization", call, handle, read=lambda rates: natural(rates.gpu))
        power_mw = ask("power", nvml.nvmlDeviceGetPowerUsage, handle, read=natural)
        call = nvml.nvmlDeviceGetPowerManagementLimit
        limit_mw = ask("power limit", call, handle, read=natural)
        call = nvml.nvmlDeviceGetClockInfo
        device = replace(
            self._device(memory or UNKNOWN_MEMORY),
            utilization_percent=None if busy is None else float(busy),
            temperature_c=self._temperature(handle),
            power_w=None if power_mw is None else power_mw / 1000,
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            sm_clock_mhz=ask("SM clock", call, handle, _CLOCK_SM, read=natural),
            memory_clock_mhz=ask("memory clock", call, handle, _CLOCK_MEMORY, read=natural),
            unified_memory=unified,
            mig=rows,
        )
        return device, uses

    def _open(self) -> Any:
        nvml, asker = self._nvml, self.asker
        handle = asker.ask("access", nvml.nvmlDeviceGetHandleByIndex, self.index, expected=True)
        if handle is None:
            why = "no permission" if asker.denied else "not supported by the driver"
            raise DeviceLost(asker.failed.get("access", why))
        uuid = asker.ask("UUID", nvml.nvmlDeviceGetUUID, handle, read=name)
        if self._good and uuid and uuid != self._good.device.uuid:
            self._good = None  # another GPU has taken this index
        self._uuid = uuid or self._uuid
        self._name = asker.ask("name", nvml.nvmlDeviceGetName, handle, read=name) or self._name
        if not asker.failed:  # what failed for now is asked again in the next tick
            self._handle = handle
        return handle

    def _temperature(self, handle: Any) -> float | None:
        nvml, ask = self._nvml, self.asker.ask
        first = "temperature v1"
        call = nvml.nvmlDeviceGetTemperature
        celsius: float | None = ask(
            "temperature", call, handle, _SENSOR_GPU, read=_celsius, key=first, expected=True
        )
        if self.asker.is_void(first):  # NVIDIA drops it with CUDA 14; older pynvml lacks the next
            call = getattr(nvml, "nvmlDeviceGetTemperatureV", nvml.nvmlDeviceGetTemperature)
            celsius = ask("temperature", call, handle, _SENSOR_GPU, read=_celsius)
        return celsius

    def _attributed(self, handle: Any, memory: DeviceMemory, uses: Uses) -> DeviceMemory:
        held = [use for _, use in uses]
        if any(use.used_bytes is None for use in held):
            self.notes.append("the driver gives no memory figure for some processes (N/A)")
            return memory
        result = with_unattributed(memory, held)
        if result.unattributed_bytes is None and memory.used_bytes is not None:
            # A process that grew between the two calls: the device's figure, read again, has it.
            memory = read_memory(self.asker, self._nvml, handle) or memory
            result = with_unattributed(memory, held)
            if result.unattributed_bytes is None:
                self.notes.append("its processes hold more than the device says is used")
        return result

    def _processes(self, handle: Any, instances: Sequence[Instance]) -> tuple[Uses, bool]:
        """What processes hold, and whether that is all the driver can list."""
        holdings = Holdings()
        complete = True
        for instance in instances:
            given = read_lists(self.asker, self._lists, instance.handle, OWNER)
            complete &= "C" in given
            for letter, entries in given.items():
                holdings.add(letter, entries, instance.row.uuid)
        # A partitioned GPU lists the processes of all instances, but to root only.
        if not instances or not complete:
            by_ids = {
                (row.gpu_instance_id, row.compute_instance_id): row.uuid
                for row in (instance.row for instance in instances)
            }
            own = self._device(UNKNOWN_MEMORY).uuid
            given = read_lists(self.asker, self._lists, handle)
            complete = "C" in given
            for letter, entries in given.items():
                holdings.add(letter, entries, own, by_ids)
        denied, failed = self.asker.denied, self.asker.failed
        if {name for _, name, _ in LISTS} & (denied | failed.keys()):
            complete = False
        if not complete and self._good and any("processes" in what for what in failed):
            return self._good.uses, False  # rows must not vanish for a driver's hiccup
        return holdings.uses(), complete


def _current(modes: Any) -> int:
    """Of the current and the pending mode."""
    return natural(modes[0])


def _celsius(answer: Any) -> float:
    if not isinstance(answer, int) or not -_HOTTEST_C <= answer <= _HOTTEST_C:
        raise ValueError
    return float(answer)


def _attributed_row(row: MigDevice, uses: Uses) -> MigDevice:
    held = (use for _, use in uses if use.uuid == row.uuid)
    return replace(row, memory=with_unattributed(row.memory, held))

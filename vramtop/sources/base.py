"""What a source of snapshots and a device backend must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..core.model import BackendName, Device, DeviceUse, Problem, Snapshot


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What a device backend saw in one tick.

    ``uses`` maps a pid (in this process's pid namespace) to what it holds on each device.
    ``unattributed_bytes`` of the devices is the backend's to fill in.
    """

    devices: tuple[Device, ...]
    uses: Mapping[int, tuple[DeviceUse, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    driver_version: str | None = None
    cuda_driver_version: str | None = None


class DeviceBackend(Protocol):
    """Reads devices; built once, read many times from one thread.

    ``read`` never raises for a failing device: it gives what it can, with problems.
    The constructor raises ``BackendUnavailable`` with the one-line cause.
    """

    name: BackendName

    def read(self) -> DeviceReading:
        """Read all devices now."""
        ...

    def close(self) -> None:
        """Release the driver library; reading again is not allowed."""
        ...


class SnapshotSource(Protocol):
    """Delivers snapshots from a thread of its own: the collector, a replay, a fake."""

    period_s: float
    """May be set at any time; takes effect at the next tick."""

    def start(self, deliver: Callable[[Snapshot], None]) -> None:
        """Begin; ``deliver`` is called on the source's thread and must return quickly."""
        ...

    def stop(self) -> None:
        """End the thread and release everything; idempotent."""
        ...

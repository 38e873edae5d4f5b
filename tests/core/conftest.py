"""Small values to build snapshots from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vramtop.core.memory import Breakdown
from vramtop.core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    DeviceUse,
    HistoryPoint,
    Host,
    Probe,
    ProbeDevice,
    Process,
    Snapshot,
)

GIB = 1 << 30


def make_snapshot(at: float, *processes: Process, devices: tuple[Device, ...] = ()) -> Snapshot:
    return Snapshot(at, Host("box", None, None), devices, processes)


def make_breakdown(parameter: int = 4, process: int | None = 20) -> Breakdown:
    outside = None if process is None else process - parameter - 10
    return Breakdown(
        parameter_bytes=parameter,
        gradient_bytes=1,
        optimizer_state_bytes=2,
        activation_bytes=3,
        cached_bytes=4,
        outside_allocator_bytes=outside,
        process_bytes=process,
    )


def make_process(
    pid: int = 7,
    *,
    at: float = 100.0,
    state: str = "streaming",
    uuid: str | None = "GPU-0",
    breakdown: Breakdown | None = None,
    **more: object,
) -> Process:
    breakdown = breakdown or make_breakdown()
    allocated = breakdown.parameter_bytes + 6
    allocator = AllocatorStats(allocated, allocated + 4, allocated, None, None, 50, 60, 1, 0, 0)
    fields: dict[str, object] = {
        "started_at": 1.0,
        "user": "ada",
        "command": "python train.py",
        "devices": (DeviceUse("GPU-0", breakdown.process_bytes, "C"),),
        "probe": Probe(
            state=state,
            at=at,
            step=int(at),
            devices=(ProbeDevice("cuda:0", uuid, allocator, breakdown),),
        ),
    }
    return Process(pid=pid, **{**fields, **more})


def make_plain(pid: int, used: int | None, uuid: str = "GPU-0", **more: object) -> Process:
    """A process without a probe."""
    kind = "H" if uuid == "host" else "C"
    fields: dict[str, object] = {"started_at": 1.0, "devices": (DeviceUse(uuid, used, kind),)}
    return Process(pid=pid, **{**fields, **more})


def make_gpu(
    total: int | None = 100, used: int | None = 60, reserved: int | None = 5, **more: object
) -> Device:
    free = None if total is None or used is None else total - used - (reserved or 0)
    memory = DeviceMemory(total, used, free, reserved)
    return Device(index=0, uuid="GPU-0", name="Fake H100", backend="nvml", memory=memory, **more)


def make_point(at: float, parameter: int = 1) -> HistoryPoint:
    return HistoryPoint(at, None, Breakdown(parameter, 0, 0))


class Make:
    """The builders, as one fixture: test files cannot import each other."""

    snapshot: Callable[..., Snapshot] = staticmethod(make_snapshot)
    breakdown: Callable[..., Breakdown] = staticmethod(make_breakdown)
    process: Callable[..., Process] = staticmethod(make_process)
    plain: Callable[..., Process] = staticmethod(make_plain)
    gpu: Callable[..., Device] = staticmethod(make_gpu)
    point: Callable[..., HistoryPoint] = staticmethod(make_point)


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()

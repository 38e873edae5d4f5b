"""A snapshot as plain text: devices, processes, a breakdown for every probed process, problems."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime

from ..core.breakdowns import breakdown_rows, torch_devices
from ..core.devices import device_short_name
from ..core.fleet import Fleet, reduce
from ..core.model import Device, DeviceMemory, Process, Snapshot
from ..core.rows import process_rows
from ..core.units import NOT_AVAILABLE, format_bytes, format_duration, format_percent

_PIPE_WIDTH = 200
_COLUMNS = ("pid", "user", "device", "kind", "memory", "allocated", "reserved", "probe", "command")
_HEADS = ("PID", "USER", "DEV", "TYPE", "MEMORY", "ALLOC", "RESERVED", "PROBE", "COMMAND")
_DEVICE_HEADS = (
    "DEV",
    "NAME",
    "USED",
    "TOTAL",
    "FREE",
    "RESERVE",
    "UNATTR",
    "UTIL",
    "TEMP",
    "POWER",
)


def terminal_width() -> int:
    """Columns of the terminal; where there is none (a file, a pipe), enough for every column."""
    return shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns


def render(snapshot: Snapshot, width: int) -> str:
    """The snapshot as text with lines of at most ``width`` characters."""
    fleet = reduce(Fleet(), snapshot)
    return "\n".join(line[:width].rstrip() for line in _lines(fleet, snapshot))


def _lines(fleet: Fleet, snapshot: Snapshot) -> Iterator[str]:
    taken = datetime.fromtimestamp(snapshot.taken_at).astimezone()
    driver = snapshot.host.driver_version
    yield f"{snapshot.host.hostname}  {taken:%Y-%m-%d %H:%M:%S}" + (
        f"  driver {driver}, CUDA {snapshot.host.cuda_driver_version}" if driver else ""
    )
    yield ""
    yield from _table(
        _DEVICE_HEADS, [row for d in snapshot.devices for row in _device_rows(d)], {0, 1}
    )
    yield ""
    rows = process_rows(fleet)
    cells = [[row.text(column) for column in _COLUMNS] for row in rows]
    yield from _table(_HEADS, cells, {1, 2, 3, 7, 8})
    for row in rows:
        yield from _breakdown(fleet, row.process)
    if snapshot.problems:
        yield ""
    for problem in snapshot.problems:
        yield f"! {problem.source}: {problem.message}"


def _device_rows(device: Device) -> Iterator[list[str]]:
    power = NOT_AVAILABLE if device.power_w is None else f"{device.power_w:.0f} W"
    if device.power_w is not None and device.power_limit_w is not None:
        power = f"{device.power_w:.0f}/{device.power_limit_w:.0f} W"
    name = device.name
    if device.unified_memory:
        name += " (unified memory: host RAM)"
    if device.stale_s is not None:
        name += f" (stale {format_duration(device.stale_s)})"
    temperature = (
        NOT_AVAILABLE if device.temperature_c is None else f"{device.temperature_c:.0f} °C"
    )
    yield [
        device_short_name(device),
        name,
        *_memory(device.memory),
        ("cpu " if device.backend == "host" else "")
        + format_percent(device.utilization_percent, 0),
        temperature,
        power,
    ]
    for mig in device.mig:
        rest = [NOT_AVAILABLE] * 3
        yield [device_short_name(device, mig), mig.name, *_memory(mig.memory), *rest]


def _memory(memory: DeviceMemory) -> list[str]:
    return [
        format_bytes(memory.used_bytes),
        format_bytes(memory.total_bytes),
        format_bytes(memory.free_bytes),
        format_bytes(memory.driver_reserved_bytes),
        format_bytes(memory.unattributed_bytes),
    ]


def _breakdown(fleet: Fleet, process: Process) -> Iterator[str]:
    probe = process.probe
    for name in torch_devices(process):
        facts = [f"{process.pid} on {name}"]
        if probe.models:
            model = probe.models[0]
            facts.append(f"{model.class_name}, {model.parameters:,} parameters")
        if probe.step is not None:
            facts.append(f"step {probe.step}")
        yield ""
        yield "  ".join(facts)
        rows = breakdown_rows(fleet, process, name)
        yield from _table(("", "BYTES", "SHARE"), [row.texts[:3] for row in rows], {0})


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: set[int],
) -> Iterator[str]:
    """Numbers are right-aligned, the ``text_columns`` left."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        yield "  ".join(
            cell.ljust(width) if i in text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )

"""A snapshot as plain text: devices, processes, a breakdown for every probed process, problems."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from textwrap import wrap
from typing import TYPE_CHECKING

from ..core.alerts import Alert
from ..core.breakdowns import (
    BreakdownRow,
    breakdown_rows,
    detail_of,
    probe_device_of,
    torch_devices,
)
from ..core.devices import device_memory, device_short_name
from ..core.fleet import Fleet, ProcessKey, reduce
from ..core.forecast import CAUSES
from ..core.memory import Detail
from ..core.model import Device, DeviceMemory, Process, Snapshot
from ..core.outlook import foresee
from ..core.phases import peak_sentence, phase_rows
from ..core.postmortem import verdict
from ..core.postmortem_story import caught_text
from ..core.ranks import JobRow, TableRow, table_rows
from ..core.rows import ProcessRow
from ..core.segments import warning
from ..core.texts import printable
from ..core.units import NOT_AVAILABLE, format_bytes, format_duration, format_percent
from ..estimator.comparison import verdict_text

if TYPE_CHECKING:
    from ..predict.predictions import Prediction

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


def render(
    snapshot: Snapshot,
    width: int,
    alerts: Sequence[Alert] = (),
    *,
    predictions: Mapping[ProcessKey, Prediction] | None = None,
) -> str:
    """The snapshot as text with lines of at most ``width`` characters."""
    fleet = foresee(reduce(Fleet(), snapshot))
    lines = [*_lines(fleet, snapshot, width, predictions or {}), *_warnings(snapshot, alerts)]
    return "\n".join(printable(line)[:width].rstrip() for line in lines)


def _lines(
    fleet: Fleet, snapshot: Snapshot, width: int, predictions: Mapping[ProcessKey, Prediction]
) -> Iterator[str]:
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
    # Here nobody can ask for the pids of a job's ranks, so all are listed.
    rows = table_rows(fleet, unfolded={p.probe.group for p in snapshot.processes if p.probe.group})
    yield from _table(_HEADS, [_cells(row) for row in rows], {1, 2, 3, 7, 8})
    for row in rows:
        if isinstance(row, ProcessRow):
            yield from _failure(fleet, row.process, width)
        if isinstance(row, ProcessRow) and row.is_listed_rank:
            continue  # the fullest one stands for all
        yield from _breakdown(fleet, row, width)
        if (prediction := predictions.get(row.process.key)) is not None:
            yield from _prediction(prediction, row.process, width)


def _warnings(snapshot: Snapshot, alerts: Sequence[Alert]) -> Iterator[str]:
    if alerts or snapshot.problems:
        yield ""
    for alert in alerts:
        yield f"▲ {alert.text}"
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


def _cells(row: TableRow) -> list[str]:
    cells = [row.text(column) for column in _COLUMNS]
    if isinstance(row, JobRow):
        cells[-1] = f"[{row.fullest_text}] {cells[-1]}"
    elif row.is_listed_rank:
        cells[-1] = f"  r{row.process.probe.rank} {cells[-1]}"
    return cells


def _failure(fleet: Fleet, process: Process, width: int) -> Iterator[str]:
    """Why an allocation failed, or what is known of how it was lost."""
    failure = process.probe.failure
    if failure is None or failure.caught:
        return
    yield ""
    yield from wrap(f"{process.pid}: {verdict(fleet, process)}", width, subsequent_indent="  ")
    if failure.file is not None:
        yield f"  all of it: vramtop postmortem {failure.file}"


def _breakdown(fleet: Fleet, row: TableRow, width: int) -> Iterator[str]:
    process, probe = row.process, row.process.probe
    for name in torch_devices(process):
        facts = [f"{process.pid} on {name}"]
        if isinstance(row, JobRow):
            facts.append(f"rank {probe.rank}, the fullest of {len(row.ranks)} (--json has all)")
        if probe.models:
            model = probe.models[0]
            facts.append(f"{model.class_name}, {model.parameters:,} parameters")
        if probe.step is not None:
            facts.append(f"step {probe.step}")
        if probe.caught_ooms:
            facts.append(caught_text(probe.caught_ooms))
        yield ""
        yield "  ".join(facts)
        detail = detail_of(process, name)
        rows = [cells for row in breakdown_rows(fleet, process, name) for cells in _rows(row)]
        heads: tuple[str, ...] = ("", "BYTES", "SHARE", "AT PEAK")
        if detail is None or detail.peak is None:
            heads, rows = heads[:3], [cells[:3] for cells in rows]
        yield from _table(heads, rows, {0})
        if detail is not None:
            yield from _detail(detail, width)
        elif probe.detail == "pending":
            yield "phases and peak: after the next step that is sampled in detail"
        forecast = fleet.forecasts.get((process.key, name))
        if forecast is not None:
            yield f"forecast: {forecast.text}"
            yield f"  {CAUSES[forecast.kind]}"
        part = probe_device_of(process, name)
        if part is not None and part.segments is not None:
            memory = device_memory(fleet.snapshot.devices, part, process)
            warned = warning(part.segments, None if memory is None else memory.free_bytes)
            if warned is not None:
                yield warned


def _prediction(prediction: Prediction, process: Process, width: int) -> Iterator[str]:
    """Whether it is as predicted, then each likely reason why not."""
    comparison = prediction.comparison
    if comparison is None:
        yield from wrap(f"no prediction: {prediction.problem}", width, subsequent_indent="  ")
        return
    peak = comparison.expected.peak_bytes
    said = f"predicted peak {format_bytes(peak)}, {comparison.expected.source}: "
    said += verdict_text(comparison, torch_devices(process)[0])
    for text in (said, *(f"→ {reason.text}" for reason in comparison.reasons)):
        yield from wrap(text, width, subsequent_indent="  ")


def _rows(row: BreakdownRow) -> Iterator[tuple[str, ...]]:
    yield (*row.texts[:3], row.peak_text)
    for part in row.parts:
        yield ("  " + part.label, *part.texts[1:3], part.peak_text)


def _detail(detail: Detail, width: int) -> Iterator[str]:
    """The waterfall in as few lines as the width allows, and the peak."""
    steps = []
    for row in phase_rows(detail):
        if row.phase is not None and row.phase.name == "other" and not row.change_bytes:
            continue
        label, _, _, after, _ = row.texts
        steps.append(f"{after} {label}" if row.phase is None else f"→ {label} {after}")
    line = ""
    for step in steps:
        if line and len(line) + 1 + len(step) > width:
            yield line
            line = " "
        line = f"{line} {step}" if line else step
    if line:
        yield line
    if detail.peak is not None:
        yield peak_sentence(detail.peak)
    for note in detail.notes:
        yield f"note: {note}"


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

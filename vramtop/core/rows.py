"""The processes table: its columns, and rows with values to sort by and texts to show.

Texts are made when asked for: of hundreds of rows only those on the screen are formatted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from .breakdowns import breakdown_of, category_label, torch_devices
from .devices import device_places
from .fleet import Fleet, ProcessKey
from .model import AllocatorStats, ProbeDevice, Process
from .units import (
    NONE_SHOWN,
    NOT_AVAILABLE,
    format_bytes,
    format_duration,
    format_percent,
    format_rate,
)

SortValue = int | float | str | None


class Sortable(Protocol):
    """A row of the table: of a process, or of several."""

    @property
    def pid(self) -> int:
        """What rows are sorted by where they are alike."""

    def value(self, column: str) -> SortValue:
        """What one of ``PROCESS_COLUMNS`` is sorted by."""


Row = TypeVar("Row", bound=Sortable)


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process as the table shows it; sums are over its devices."""

    process: Process
    device_names: str
    """Indices of its devices, "0,1" or "0:2" for a MIG instance, "host" for the host's RAM."""
    silent_s: float | None
    """Age of the probe's last sample."""
    is_listed_rank: bool = False
    """Stands under the row of its job."""

    @property
    def pid(self) -> int:
        """The process's."""
        return self.process.pid

    @property
    def keys(self) -> tuple[ProcessKey, ...]:
        """The processes that are selected where this row is."""
        return (self.process.key,)

    @property
    def memory_bytes(self) -> int | None:
        """The driver's figure; on the host the RSS."""
        return self.process.used_bytes

    @property
    def allocated_bytes(self) -> int | None:
        """The allocator's figure; on the CPU, which has none, the storages counted."""
        allocators = self._allocators()
        if allocators:
            return sum(allocator.allocated_bytes for allocator in allocators)
        return sum_known(
            [part.breakdown.tensor_bytes if part.breakdown else None for part in self._parts()]
        )

    @property
    def reserved_bytes(self) -> int | None:
        """What the allocators took from the driver."""
        return sum_known(allocator.reserved_bytes for allocator in self._allocators())

    @property
    def peak_bytes(self) -> int | None:
        """Peak of the allocated bytes since the user last reset it."""
        return sum_known(allocator.peak_allocated_bytes for allocator in self._allocators())

    @property
    def largest(self) -> tuple[str, str] | None:
        """(category, label) with most bytes on the device that ``torch_devices`` puts first."""
        names = torch_devices(self.process) if self._parts() else ()
        breakdown = breakdown_of(self.process, names[0]) if names else None
        category = breakdown.largest() if breakdown else None
        return None if category is None else (category, category_label(category, names[0]))

    @property
    def command_text(self) -> str:
        """The command, after a word where the process is not what it seems."""
        state = "OOM" if self.is_out_of_memory else self.process.state
        command = self.process.command or NOT_AVAILABLE
        return command if state == "running" else f"({state}) {command}"

    @property
    def rank_text(self) -> str:
        """Rank and world size, "r0/8"; nothing for a process that is no rank."""
        probe = self.process.probe
        if probe.rank is None:
            return ""
        return f"r{probe.rank}" + (f"/{probe.world_size}" if probe.world_size else "")

    @property
    def is_out_of_memory(self) -> bool:
        """An allocation failed, and that ended the program or is left to it."""
        failure = self.process.probe.failure
        if failure is None or failure.kind == "lost" or failure.caught:
            return False
        if self.process.probe.has_outlived_failure:
            return False
        return failure.caught is False or self.process.probe.state == "gone"

    @property
    def state_text(self) -> str:
        """The process's state where it matters, else the probe's; with the age of old values."""
        process, state = self.process.state, self.process.probe.state
        age = "" if self.silent_s is None else f" {format_duration(self.silent_s)}"
        if self.is_out_of_memory:
            return f"OOM{age}"
        if process == "gone":
            return f"gone{age}"
        if state == "none":
            return "invisible" if process == "invisible" else "no probe"
        if state == "stale":
            return f"stale{age}"
        if state == "gone":
            return "detached" if self.process.probe.ended == "detached" else "probe gone"
        return state

    def text(self, column: str) -> str:
        """The cell of one of ``PROCESS_COLUMNS``."""
        return _COLUMNS[column].text(self)

    def value(self, column: str) -> SortValue:
        """What one of ``PROCESS_COLUMNS`` is sorted by, None where unknown."""
        return _COLUMNS[column].value(self)

    @property
    def has_figures(self) -> bool:
        """Whether a probe tells of it, or did until its end: what a detached one said is old."""
        probe = self.process.probe
        return probe.state != "none" and (probe.state != "gone" or probe.ended != "detached")

    def _parts(self) -> tuple[ProbeDevice, ...]:
        return self.process.probe.devices if self.has_figures else ()

    def _allocators(self) -> list[AllocatorStats]:
        return [part.allocator for part in self._parts() if part.allocator is not None]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the processes table; ``key`` is its sort key as well."""

    key: str
    title: str
    width: int
    """Characters that its usual values need; 0 takes what is left."""
    is_number: bool
    """Right-aligned, and largest first when sorted by it."""
    value: Callable[[ProcessRow], SortValue]
    text: Callable[[ProcessRow], str]


PROCESS_COLUMNS: Final = (
    Column("pid", "PID", 7, True, lambda row: row.process.pid, lambda row: str(row.process.pid)),
    Column(
        "user",
        "USER",
        8,
        False,
        lambda row: row.process.user,
        lambda row: row.process.user or NOT_AVAILABLE,
    ),
    Column("device", "DEV", 4, False, lambda row: row.device_names, lambda row: row.device_names),
    Column(
        "kind", "TYPE", 4, False, lambda row: _kinds(row.process), lambda row: _kinds(row.process)
    ),
    Column(
        "memory",
        "MEMORY",
        8,
        True,
        lambda row: row.memory_bytes,
        lambda row: format_bytes(row.memory_bytes),
    ),
    Column(
        "allocated",
        "ALLOC",
        8,
        True,
        lambda row: row.allocated_bytes,
        lambda row: _probed(row, format_bytes(row.allocated_bytes)),
    ),
    Column(
        "reserved",
        "RESERVED",
        8,
        True,
        lambda row: row.reserved_bytes,
        lambda row: _of_allocator(row, row.reserved_bytes),
    ),
    Column(
        "peak",
        "PEAK",
        8,
        True,
        lambda row: row.peak_bytes,
        lambda row: _of_allocator(row, row.peak_bytes),
    ),
    Column(
        "largest",
        "LARGEST",
        17,
        False,
        lambda row: row.largest[1] if row.largest else None,
        lambda row: _probed(row, row.largest[1] if row.largest else NOT_AVAILABLE),
    ),
    Column(
        "rate",
        "RATE",
        11,
        True,
        lambda row: row.process.probe.steps_per_s,
        lambda row: _probed(row, format_rate(row.process.probe.steps_per_s)),
    ),
    Column(
        "rank",
        "RANK",
        6,
        False,
        lambda row: row.process.probe.rank,
        lambda row: row.rank_text or NONE_SHOWN,
    ),
    Column("probe", "PROBE", 10, False, lambda row: row.state_text, lambda row: row.state_text),
    Column(
        "cpu",
        "CPU",
        6,
        True,
        lambda row: row.process.cpu_percent,
        lambda row: format_percent(row.process.cpu_percent, 0),
    ),
    Column(
        "rss",
        "RSS",
        8,
        True,
        lambda row: row.process.host_rss_bytes,
        lambda row: format_bytes(row.process.host_rss_bytes),
    ),
    Column(
        "command",
        "COMMAND",
        0,
        False,
        lambda row: row.process.command,
        lambda row: row.command_text,
    ),
)
"""Every column there is, in the usual order; narrow screens leave some out."""

_COLUMNS: Final = {column.key: column for column in PROCESS_COLUMNS}
SORT_KEYS: Final = tuple(_COLUMNS)


def process_rows(
    fleet: Fleet, sort_key: str = "memory", descending: bool = True, filter_text: str = ""
) -> list[ProcessRow]:
    """The processes that match every word of the filter, sorted; unknown values come last.

    Words match pid, user, command, device name, uuid or index, and probe state, in any case.

    Raises:
        KeyError: ``sort_key`` is none of ``SORT_KEYS``.
    """
    return ordered(matching(fleet, all_rows(fleet), filter_text), sort_key, descending)


def all_rows(fleet: Fleet) -> list[ProcessRow]:
    """Every process, in no order."""
    places = device_places(fleet.snapshot.devices)
    return [_row(process, places, fleet.snapshot.taken_at) for process in fleet.processes]


def matching(fleet: Fleet, rows: list[ProcessRow], filter_text: str) -> list[ProcessRow]:
    """The rows that match every word of the filter."""
    words = filter_text.lower().split()
    if not words:
        return rows
    places = device_places(fleet.snapshot.devices)
    searched = [(row, _search_text(row, places)) for row in rows]
    return [row for row, text in searched if all(word in text for word in words)]


def ordered(rows: Iterable[Row], sort_key: str, descending: bool) -> list[Row]:
    """The rows sorted by a column; unknown values come last both ways.

    Raises:
        KeyError: ``sort_key`` is none of ``SORT_KEYS``.
    """
    # Equal values keep the order of pids, so that rows do not dance between ticks.
    keyed = [(row, row.value(sort_key)) for row in sorted(rows, key=lambda row: row.pid)]
    known = [(row, key) for row, key in keyed if key is not None]
    known.sort(key=lambda pair: _comparable(pair[1]), reverse=descending)
    return [row for row, _ in known] + [row for row, key in keyed if key is None]


def _row(process: Process, places: Mapping[str, tuple[str, str]], now: float) -> ProcessRow:
    names = [places[use.uuid][0] if use.uuid in places else "?" for use in process.devices]
    if len(names) > 1:
        names = list(dict.fromkeys(names))
    at = process.probe.at
    return ProcessRow(
        process,
        device_names=",".join(names) or NONE_SHOWN,
        silent_s=None if at is None else max(0.0, now - at),
    )


def _search_text(row: ProcessRow, places: Mapping[str, tuple[str, str]]) -> str:
    """All that a filter looks at, in lower case."""
    process = row.process
    devices = [places[use.uuid][1] for use in process.devices if use.uuid in places]
    words = (str(process.pid), process.user or "", process.command or "", row.state_text)
    return " ".join((*words, *devices)).lower()


def _kinds(process: Process) -> str:
    letters = {letter for use in process.devices for letter in use.kind.replace("+", "")}
    return "+".join(letter for letter in "MCGH" if letter in letters) or NONE_SHOWN


def _probed(row: ProcessRow, text: str) -> str:
    """Without a probe there is nothing to know: no column full of N/A."""
    return text if row.has_figures else NONE_SHOWN


def _of_allocator(row: ProcessRow, size_bytes: int | None) -> str:
    """A training on the CPU alone has no allocator to ask: that is nothing, and not unknown."""
    devices = row.process.probe.devices
    if devices and all(part.device == "cpu" for part in devices):
        return NONE_SHOWN
    return _probed(row, format_bytes(size_bytes))


def sum_known(values: Iterable[int | None]) -> int | None:
    """The sum of what is known, None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _comparable(value: SortValue) -> tuple[float, str]:
    return (0.0, value.lower()) if isinstance(value, str) else (float(value or 0), "")

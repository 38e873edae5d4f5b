"""The ranks of one job as one row of the processes table: their sum, and the one that matters.

A job's ranks are alike; what decides about an OOM is the fullest of them, and how far it is above
the others. Which processes are ranks of one job their probes say (``Probe.group``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from .fleet import Fleet, ProcessKey
from .model import Process
from .rows import ProcessRow, SortValue, all_rows, matching, ordered, sum_known
from .units import NONE_SHOWN, NOT_AVAILABLE, format_bytes, format_percent, format_rate

_AS_FULL: Final = 0.98
"""A rank that holds this share of the fullest one is not worth a change of what is looked at."""
_EVEN_PERCENT: Final = 1.0
_STATES: Final = (
    "OOM",
    "gone",
    "hidden",
    "probe gone",
    "stale",
    "waiting",
    "detached",
    "no probe",
    "",
)
"""Words for what a rank may be, the worst first."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """The ranks of one job that run on this machine; sums are over those that have not ended."""

    group: str
    ranks: tuple[ProcessRow, ...]
    """In the order of their numbers; at least two."""
    fullest: ProcessRow
    """The rank with most memory, what the panes show in the job's place."""
    is_unfolded: bool = False
    """Its ranks follow as rows of their own."""
    is_filtered: bool = False
    """Of its ranks only those follow that match a filter."""

    @property
    def process(self) -> Process:
        """The fullest rank's."""
        return self.fullest.process

    @property
    def pid(self) -> int:
        """Of its first rank: that does not change with the memory."""
        return self.ranks[0].pid

    @property
    def keys(self) -> tuple[ProcessKey, ...]:
        """The processes that are selected where this row is: none where each has its row."""
        return () if self.is_unfolded else tuple(row.process.key for row in self.ranks)

    @property
    def largest(self) -> None:
        """None: where a process names its largest category, a job names its fullest rank."""
        return

    @property
    def memory_bytes(self) -> int | None:
        """All that its ranks hold here."""
        return self._sum(lambda row: row.memory_bytes)

    @property
    def count_text(self) -> str:
        """How many ranks are here, "×8", and of how many where others run elsewhere: "4 of 8"."""
        world = self.fullest.process.probe.world_size or 0
        return f"{len(self.ranks)} of {world}" if world > len(self.ranks) else f"×{len(self.ranks)}"

    @property
    def excess_percent(self) -> float | None:
        """How far the fullest rank is above the mean of the ranks; None where that is unknown."""
        known = [row.memory_bytes for row in _present(self.ranks) if row.memory_bytes]
        most = self.fullest.memory_bytes
        if len(known) < 2 or most is None:
            return None
        return 100 * max(most * len(known) / sum(known) - 1, 0.0)

    @property
    def fullest_text(self) -> str:
        """The fullest rank, its memory, how far that is above the mean: "r3 78.1 GiB +12%"."""
        words = [_rank_name(self.fullest), format_bytes(self.fullest.memory_bytes)]
        excess = self.excess_percent
        if excess is not None:
            is_even = excess < _EVEN_PERCENT
            words.append("even" if is_even else f"+{format_percent(excess, 0)}")
        return " ".join(words)

    @property
    def state_text(self) -> str:
        """The state of the ranks that are worst off, and which or how many they are."""
        states = [_state(row) for row in self.ranks]
        worst = min(states, key=_STATES.index)
        there = [row for row, state in zip(self.ranks, states, strict=True) if state == worst]
        if len(there) == len(self.ranks):
            return worst or "streaming"
        return f"{_rank_name(there[0]) if len(there) == 1 else len(there)} {worst}"

    @property
    def is_well(self) -> bool:
        """Every rank is there and heard of."""
        return not any(_state(row) for row in self.ranks)

    def value(self, column: str) -> SortValue:
        """What one of ``PROCESS_COLUMNS`` is sorted by, None where unknown."""
        if column in _SUMS:
            return self._sum(_SUMS[column][0])
        if column == "cpu":
            percents = [row.process.cpu_percent for row in _present(self.ranks)]
            known = [percent for percent in percents if percent is not None]
            return sum(known) if known else None
        if column == "rate":
            return self._slowest()
        if column == "probe":
            return self.state_text
        first = self.fullest if column == "largest" else self.ranks[0]
        return first.value(column)

    def text(self, column: str) -> str:
        """The cell of one of ``PROCESS_COLUMNS``."""
        if column in _SUMS:
            value, is_of_allocator = _SUMS[column]
            shown = self.fullest.text(column)
            if is_of_allocator and shown == NONE_SHOWN:
                return shown
            return format_bytes(self._sum(value))
        if column in _TEXTS:
            return _TEXTS[column](self)
        return self.ranks[0].text(column)

    def _command(self) -> str:
        """The command, after the state of the ranks where that is not as it should be."""
        command = self.ranks[0].process.command or NOT_AVAILABLE
        return command if self.is_well else f"({self.state_text}) {command}"

    def _sum(self, value: Callable[[ProcessRow], int | None]) -> int | None:
        return sum_known(value(row) for row in _present(self.ranks))

    def _slowest(self) -> float | None:
        rates = [row.process.probe.steps_per_s for row in _present(self.ranks)]
        return min((rate for rate in rates if rate is not None), default=None)


TableRow = ProcessRow | JobRow

_SUMS: Final[Mapping[str, tuple[Callable[[ProcessRow], int | None], bool]]] = {
    "memory": (lambda row: row.memory_bytes, False),
    "allocated": (lambda row: row.allocated_bytes, True),
    "reserved": (lambda row: row.reserved_bytes, True),
    "peak": (lambda row: row.peak_bytes, True),
    "rss": (lambda row: row.process.host_rss_bytes, False),
}
"""Columns that are added up, and whether there may be nothing to ask for them."""
_TEXTS: Final[Mapping[str, Callable[[JobRow], str]]] = {
    "pid": lambda job: job.count_text,
    "rank": lambda job: job.count_text,
    "device": lambda job: _devices_text(job.ranks),
    "largest": lambda job: job.fullest_text,
    "probe": lambda job: job.state_text,
    "rate": lambda job: format_rate(job._slowest()),
    "cpu": lambda job: _percent_text(job.value("cpu")),
    "command": lambda job: job._command(),
}


def table_rows(
    fleet: Fleet,
    sort_key: str = "memory",
    descending: bool = True,
    filter_text: str = "",
    *,
    unfolded: Collection[str] = (),
    preferred: ProcessKey | None = None,
) -> list[TableRow]:
    """The rows of the processes table: as ``rows.process_rows``, with the ranks of a job in one.

    Where a filter matches some of a job's ranks only, these are listed under the job's row.

    Args:
        fleet: what is shown.
        sort_key: one of ``SORT_KEYS``.
        descending: the largest first.
        filter_text: words that a row must match.
        unfolded: groups whose ranks are listed.
        preferred: the process looked at; of two ranks about as full it stands for the job.

    Raises:
        KeyError: ``sort_key`` is none of ``SORT_KEYS``.
    """
    rows = all_rows(fleet)
    found = matching(fleet, rows, filter_text)
    jobs = _jobs(rows)
    if not jobs:
        return list(ordered(found, sort_key, descending))
    group_of = {row.process.key: group for group, ranks in jobs.items() for row in ranks}
    singles: list[TableRow] = []
    matched: dict[str, list[ProcessRow]] = {}
    for row in found:
        group = group_of.get(row.process.key) if row.process.probe.group else None
        if group is None:
            singles.append(row)
        else:
            matched.setdefault(group, []).append(row)
    folded = [
        JobRow(
            group,
            jobs[group],
            _fullest(jobs[group], preferred),
            is_unfolded=group in unfolded or len(members) < len(jobs[group]),
            is_filtered=len(members) < len(jobs[group]),
        )
        for group, members in matched.items()
    ]
    shown: list[TableRow] = []
    for entry in ordered([*singles, *folded], sort_key, descending):
        shown.append(entry)
        if isinstance(entry, JobRow) and entry.is_unfolded:
            listed = [replace(row, is_listed_rank=True) for row in matched[entry.group]]
            shown += ordered(listed, sort_key, descending)
    return shown


def _jobs(rows: list[ProcessRow]) -> dict[str, tuple[ProcessRow, ...]]:
    """The ranks of each job of which there are two or more, by group, in order.

    Of two processes with the same number the one that lives is the rank; the other is one of an
    earlier start of the same job, or a helper that has inherited the number. An earlier start
    may have had more ranks.
    """
    members: dict[str, dict[int, ProcessRow]] = {}
    for row in rows:
        probe = row.process.probe
        if probe.group is None or probe.rank is None:
            continue
        ranks = members.setdefault(probe.group, {})
        known = ranks.get(probe.rank)
        if known is None or _claim(row) > _claim(known):
            ranks[probe.rank] = row
    jobs = {
        group: _of_one_start(tuple(ranks[number] for number in sorted(ranks)))
        for group, ranks in members.items()
    }
    return {group: ranks for group, ranks in jobs.items() if len(ranks) > 1}


def _of_one_start(ranks: tuple[ProcessRow, ...]) -> tuple[ProcessRow, ...]:
    worlds = {row.process.probe.world_size for row in _present(ranks)}
    return tuple(row for row in ranks if row.process.probe.world_size in worlds)


def _claim(row: ProcessRow) -> tuple[int, float]:
    """Which of two processes is more likely the rank whose number both have."""
    return (_STATES.index(_state(row)), row.process.started_at or 0.0)


def _state(row: ProcessRow) -> str:
    """One of ``_STATES``; "" for a rank that is well."""
    process, probe = row.process, row.process.probe
    if row.is_out_of_memory:
        return "OOM"
    if process.state == "gone" or probe.ended in {"exit", "lost"}:
        return "gone"
    if process.state == "invisible":
        return "hidden"
    if probe.state == "gone":  # the process runs on
        return "detached" if probe.ended == "detached" else "probe gone"
    return {"streaming": "", "none": "no probe"}.get(probe.state, probe.state)


def _present(ranks: tuple[ProcessRow, ...]) -> tuple[ProcessRow, ...]:
    """The ranks that have not ended; all where all have."""
    return tuple(row for row in ranks if _state(row) not in {"OOM", "gone"}) or ranks


def _fullest(ranks: tuple[ProcessRow, ...], preferred: ProcessKey | None) -> ProcessRow:
    present = _present(ranks)
    fullest = max(present, key=lambda row: row.memory_bytes or -1)
    enough = (fullest.memory_bytes or 0) * _AS_FULL
    for row in present:
        if row.process.key == preferred and (row.memory_bytes or 0) >= enough:
            return row
    return fullest


def _rank_name(row: ProcessRow) -> str:
    return f"r{row.process.probe.rank}"


def _devices_text(ranks: tuple[ProcessRow, ...]) -> str:
    """The devices of all ranks: "0,1", and from three numbers in a row on "0–7"."""
    names = list(dict.fromkeys(name for row in ranks for name in row.device_names.split(",")))
    if not all(name.isdigit() for name in names):
        return ",".join(names)
    numbers = sorted(int(name) for name in names)
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ",".join(map(str, numbers))


def _percent_text(value: SortValue) -> str:
    return format_percent(value if isinstance(value, float) else None, 0)

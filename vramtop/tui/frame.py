"""What the panes are given to show: the fleet, what the user chose, and the ink to paint with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..core.alerts import Alert, alerts
from ..core.breakdowns import probe_device_of, torch_devices
from ..core.fleet import Fleet, ProcessKey
from ..core.memory import Detail
from ..core.model import Device, DeviceMemory, MigDevice, ProbeDevice, Problem, Process
from ..core.ranks import JobRow, TableRow, table_rows
from ..sources.recording.playback import Playback
from .theme import Ink

if TYPE_CHECKING:
    from ..predict.predictions import Prediction

Predict = Callable[[Process, str, Fleet], "Prediction | None"]
"""What a process should hold on a torch device, as far as that is known by now."""


@dataclass(frozen=True, slots=True)
class View:
    """What the user chose; ``selected`` is None until the first training that is watched."""

    selected: ProcessKey | None = None
    torch_device_turn: int = 0
    """How often the user asked for the process's next torch device."""
    sort_key: str = "memory"
    descending: bool = True
    filter_text: str = ""
    unfolded: frozenset[str] = frozenset()
    """Groups whose ranks have rows of their own."""
    paused: bool = False
    period_s: float = 1.0
    can_act: bool = True
    """Whether signals and attach are there: neither in a replay nor with --readonly."""
    alert_at_percent: float | None = None
    """How full a device may be before the screen warns; None: as full as it likes."""
    seen: frozenset[str] = frozenset()
    """Keys of the failures whose story was opened: of them nobody is warned any more."""
    message: str = ""
    """The answer to the last key, until the next one."""
    is_recording: bool = False
    playback: Playback | None = None
    """Where the replay is; None on a live screen."""
    problem: Problem | None = None
    """Of a recording, written or replayed; those of sources are in the snapshot."""


@dataclass(frozen=True, eq=False)  # comparing fleets would cost more than painting them
class Frame:
    """One picture; what several panes need for it is worked out once."""

    fleet: Fleet
    view: View
    ink: Ink
    predict: Predict | None = None
    """Asked only by panes that show predictions: it takes seconds of another process's work."""

    @cached_property
    def rows(self) -> list[TableRow]:
        """The processes that match the filter, sorted; the ranks of a job in one row."""
        return self._rows(self.view.filter_text)

    @cached_property
    def row_count(self) -> int:
        """How many rows there are without the filter."""
        return len(self._rows("") if self.view.filter_text else self.rows)

    def _rows(self, filter_text: str) -> list[TableRow]:
        view = self.view
        return table_rows(
            self.fleet,
            view.sort_key,
            view.descending,
            filter_text,
            unfolded=view.unfolded,
            preferred=view.selected,
        )

    @cached_property
    def cursor(self) -> int:
        """Index of the selected row; 0 if there is none."""
        for index, row in enumerate(self.rows):
            if self.view.selected in row.keys:
                return index
        watched = (
            index
            for index, row in enumerate(self.rows)
            if row.keys and row.process.probe.state == "streaming"
        )
        return next(watched, 0)

    @property
    def row(self) -> TableRow | None:
        """The selected row; None when no row is shown."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def process(self) -> Process | None:
        """The selected process, of a folded job the fullest rank; None when no row is shown."""
        return self.row.process if self.row else None

    @property
    def job(self) -> JobRow | None:
        """The row of the job whose rank is selected, folded or not."""
        group = self.process.probe.group if self.process else None
        jobs = (row for row in self.rows if isinstance(row, JobRow) and row.group == group)
        return None if group is None else next(jobs, None)

    @cached_property
    def alerts(self) -> tuple[Alert, ...]:
        """What the user is to be warned of."""
        return alerts(self.fleet, self.view.alert_at_percent, self.view.seen)

    @cached_property
    def torch_device(self) -> str | None:
        """Of the selected process, the torch device to explain."""
        names = torch_devices(self.process) if self.process else ()
        return names[self.view.torch_device_turn % len(names)] if names else None

    @cached_property
    def part(self) -> ProbeDevice | None:
        """What the selected process's probe says of that torch device."""
        if self.process is None or self.torch_device is None:
            return None
        return probe_device_of(self.process, self.torch_device)

    @property
    def place_text(self) -> str:
        """Which process and torch device the panes about them show, and if that is of the past."""
        row = self.row
        if row is None:
            return ""
        one = row.fullest if isinstance(row, JobRow) else row
        which = f"{one.process.pid}"
        if isinstance(row, JobRow):
            which = f"fullest r{one.process.probe.rank} {which}"
        if self.torch_device is None:
            return which
        names = torch_devices(one.process)
        many = f" {names.index(self.torch_device) + 1}/{len(names)}" if len(names) > 1 else ""
        past = f"{one.state_text} · " if one.process.probe.state in {"stale", "gone"} else ""
        return f"{past}{which} {self.torch_device}{many}"

    @property
    def detail(self) -> Detail | None:
        """What the last step sampled in detail has told of it."""
        return self.part.detail if self.part else None

    @cached_property
    def prediction(self) -> Prediction | None:
        """What the selected process should hold on that torch device; asking begins the work."""
        if self.process is None or self.torch_device is None or self.predict is None:
            return None
        return self.predict(self.process, self.torch_device, self.fleet)

    @cached_property
    def device_memory(self) -> DeviceMemory | None:
        """The memory of the device or MIG instance that the torch device is."""
        process, part = self.process, self.part
        if process is None or part is None or part.device == "cpu":
            return None
        uuid = part.uuid
        if uuid is None and len(process.devices) == 1:
            uuid = process.devices[0].uuid
        for device in self.fleet.snapshot.devices:
            places: tuple[Device | MigDevice, ...] = (device, *device.mig)
            for place in places:
                if place.uuid == uuid:
                    return place.memory
        return None

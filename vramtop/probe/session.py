"""The probe of this process: puts observer, counters, history and server together, once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..protocol.messages import BREAKDOWN_FIELDS, HISTORY_POINTS_A_LINE, TENSOR_FIELDS
from ..protocol.postmortem import HISTORY_S
from . import boot, describe
from .counters import AllocatorReader, Counters
from .detail import PART as DETAIL
from .faults import Faults
from .greeting import command_line, hello
from .history import MAX_POINTS, History, Point
from .host_limits import resident_bytes
from .observer import Observer
from .oom import OomWatch
from .pace import Pace
from .presence import PRESENCE
from .replay import DeviceDetail
from .segments import message
from .segments import read as read_segments
from .sizes import breakdown
from .stages import STAGES
from .updates import Updates, detail_message
from .waiting import SOON_S

_LAUNCHERS = frozenset(
    {
        *("torchrun", "torch.distributed.run", "torch.distributed.launch"),
        *("accelerate", "accelerate-launch", "accelerate.commands.launch", "deepspeed"),
    }
)
_SEARCH = "the search for models and optimizers"
_STAYING = frozenset({"parameter", "optimizer_state"})

_session: Session | None = None


def session() -> Session:
    """The session of this process, made on the first call; torch must be loaded.

    Raises:
        KeyError: it is not.
    """
    global _session
    if _session is None:
        made = Session(sys.modules["torch"])
        if _session is None:  # an attach may have come between
            _session = made
    return _session


class Session:
    """What the server sends (``server.Content``), and the life of the server."""

    def __init__(self, torch: Any) -> None:
        self.faults = Faults()
        self.pace = Pace()
        self.observer = Observer(
            torch,
            self.faults,
            self.pace,
            self.serve,
            self._counted,
            self._sampled,
            self._detailed,
        )
        self._torch = torch
        self._allocator = AllocatorReader(torch)
        self.updates = Updates()
        self.ooms = OomWatch(
            torch, self.faults, self.observer, self.updates, self.last_words, PRESENCE.directory
        )
        self._category_at: dict[str, dict[int, str]] = {}
        """By device, of the blocks that stay where they are."""
        self._stage_changes = 0
        self._history = History()
        self._fullest: dict[str, Point] = {}
        self._installed = False
        self._to_adopt = self._to_leave = False

    def install_hooks(self) -> None:
        """Begin to hear of training; idempotent, faults are for the viewers."""
        if self._installed:
            return
        self._installed = True
        os.register_at_fork(after_in_child=self._forked)
        PRESENCE.before_exit = self.ooms.ends
        try:
            self.observer.install_hooks()
            self.ooms.install()
        except Exception as error:
            self.faults.report(_SEARCH, error)

    def attach(self, directory: Path) -> None:
        """Listen there, and hear of what trains already; not on a training thread.

        Raises:
            RendezvousRefused: the directory is not safely ours.
            OSError: nothing can be bound there.
        """
        if not self._installed:
            self._installed = self._to_adopt = True
            os.register_at_fork(after_in_child=self._forked)
        PRESENCE.listen(self, self.faults, directory)

    def announce(self) -> None:
        """Listen before anything trains: a model that loads for minutes is worth watching too.

        Not in launchers, which only start ranks, nor in a worker of multiprocessing: such a one
        listens from its first forward or step on, if it has one.
        """
        try:
            processes = sys.modules.get("multiprocessing.process")
            is_worker = processes is not None and processes.parent_process() is not None
            if not is_worker and not _is_launcher():
                self.serve()
        except Exception as error:
            self.faults.report("the server", error)

    def serve(self) -> bool:
        """Listen for viewers from now on; False in a process that only feeds a training."""
        if _is_data_worker():
            return False
        if not self.faults.off("the server"):
            try:
                PRESENCE.listen(self, self.faults)
            except Exception as error:
                self.faults.report("the server", error)
        return True

    def _forked(self) -> None:
        try:
            self.pace.watched_period_s = None
            self._history = History()
            self.ooms.forked()
            self.observer.forked()
        except Exception as error:
            self.faults.report("the probe of a forked process", error)

    # On the training thread.

    def _counted(self) -> None:
        if not self._history.due(time.time()) or self.faults.off("the history"):
            return
        try:
            for device, point in self._points().items():
                if _total(point) >= _total(self._fullest.get(device)):
                    self._fullest[device] = point
        except Exception as error:
            self.faults.report("the history", error)

    def _sampled(self) -> None:
        # Of a sampled step the fullest moment is kept: it is what has to fit.
        if self._fullest:
            self._history.add(time.time(), self._fullest)
            self._fullest = {}

    def _detailed(
        self, details: dict[str, DeviceDetail], notes: list[str], shapes: list[list[int]]
    ) -> None:
        step = self.observer.step()
        for device, detail in details.items():
            told = detail_message(device, step, detail, notes, shapes)
            self.updates.put(f"detail {device}", told)
            if detail.segments is not None:
                self._category_at[device] = {
                    address: category
                    for address, category in detail.category_at.items()
                    if category in _STAYING
                }
                found = message(device, time.time(), detail.segments, detail.category_at.get)
                self.updates.put(f"segments {device}", found)

    def _points(self) -> dict[str, Point]:
        now = time.time()
        step, passed = self.observer.step(), self.observer.gate.last
        counts, allocators = self.observer.totals(passed), self._allocators()
        points = {}
        for device in {**counts, **allocators}:
            counters = allocators.get(device, (None, None))[1]
            row = breakdown(counts.get(device), counters, passed[0])
            sizes = [row[f"{field}_bytes"] for field in BREAKDOWN_FIELDS]
            points[device] = [now, step, *sizes, resident_bytes() if device == "cpu" else None]
        return points

    def last_words(self, cuda_index: int | None) -> list[dict[str, Any]]:
        """What a viewer would have been sent by now; of one CUDA device the segments of now.

        On any thread, where there may be little memory left, and none of the GPU's is taken.
        """
        now = {device: [point] for device, point in self._points().items()}
        since = time.time() - HISTORY_S
        past = {line["device"]: line["points"] for line in self._history.lines(MAX_POINTS)}
        beside = {name: self.updates.last(name) for name in self.updates.names() if name != "oom"}
        if cuda_index is not None:
            device = f"cuda:{cuda_index}"
            beside[f"segments {device}"] = self._segments(device, cuda_index)
        return [
            self.hello(),
            self.job(),
            *(
                {
                    "type": "history",
                    "device": device,
                    "points": [p for p in past.get(device, []) if p[0] >= since] + points,
                }
                for device, points in now.items()
            ),
            *(message for message in beside.values() if message is not None),
            {**self._sample(), "dropped": 0},
        ]

    def _segments(self, device: str, index: int) -> dict[str, Any] | None:
        """The allocator's map of now, else the last one."""
        try:
            segments = read_segments(self._torch, index)
        except Exception:  # an allocator that tells of none
            segments = None
        if not segments:
            return self.updates.last(f"segments {device}")
        return message(device, time.time(), segments, self._category_at.get(device, {}).get)

    # On the server's thread.

    def hello(self) -> dict[str, Any]:
        """The hello message."""
        return hello()

    def job(self) -> dict[str, Any]:
        """The job message."""
        return {
            "type": "job",
            **describe.environment(self._torch),
            "models": self.observer.models(),
            "optimizers": self.observer.optimizers(),
        }

    def sample(self) -> dict[str, Any]:
        """A sample of now, without ``dropped``."""
        began = time.thread_time()
        self.observer.reap()
        if STAGES.changes != self._stage_changes:
            self._stage_changes = STAGES.changes
            self.updates.put("stages", STAGES.message())
        message = self._sample()
        self.pace.spend(time.perf_counter(), time.thread_time() - began)
        return message

    def _sample(self) -> dict[str, Any]:
        passed = self.observer.gate.last
        counts, ended = self.observer.totals(passed), self.observer.ended_phase(passed)
        allocators = self._allocators()
        devices = []
        for device in {**allocators, **counts}:
            uuid, counters = allocators.get(device, (None, None))
            devices.append(
                {
                    "device": device,
                    "uuid": uuid,
                    "allocator": counters,
                    "breakdown": breakdown(counts.get(device), counters, passed[0]),
                    "boundary": ended,
                }
            )
        overhead = self.pace.overhead(time.perf_counter()) + self.observer.detail_pace.overhead
        return {
            "type": "sample",
            "at": time.time(),
            "step": self.observer.step(),
            "steps_per_s": self.observer.steps_per_s(),
            "overhead_percent": round(100 * overhead, 4),
            "devices": devices,
            "detail": self._detail_state(),
        }

    def history(self) -> Iterator[dict[str, Any]]:
        """The history messages."""
        return self._history.lines(HISTORY_POINTS_A_LINE)

    def watched(self, period_s: float | None) -> None:
        """How closely somebody watches."""
        self.pace.watched_period_s = period_s
        self.observer.detail_pace.watched = period_s is not None
        self.observer.gate.wanted_at = 0.0

    def detach(self) -> None:
        """Out of this process, as soon as nothing of ours is being run; at once without effect."""
        self._to_leave = True

    def chores(self) -> float | None:
        """What training threads may not do or not now; in how many seconds again."""
        try:
            if self._to_leave:
                return self._leave()
            if self._to_adopt:
                if not self.observer.adopt():
                    return SOON_S
                self._to_adopt = False
                PRESENCE.before_exit = self.ooms.ends
                self.ooms.install()
        except Exception as error:
            self._to_adopt = False
            self.faults.report(_SEARCH, error)
        return None

    def _leave(self) -> float | None:
        global _session
        try:
            if not self.observer.leave():
                return SOON_S
        except Exception as error:  # whatever is left in torch does nothing any more
            self.faults.report("leaving", error)
        self.ooms.close()
        boot.remove()
        if _session is self:
            _session = None
        PRESENCE.leave()
        return None

    def _detail_state(self) -> str:
        pace = self.observer.detail_pace
        if pace.recorded:
            return "ready"
        return "off" if self.faults.off(DETAIL) else "pending"

    def _allocators(self) -> dict[str, tuple[str | None, Counters]]:
        if self.faults.off("the allocator's counters"):
            return {}
        try:
            return self._allocator.read()
        except Exception as error:
            self.faults.report("the allocator's counters", error)
            return {}


def _total(point: Point | None) -> int:
    return -1 if point is None else sum(value or 0 for value in point[2 : 2 + len(TENSOR_FIELDS)])


def _is_data_worker() -> bool:
    worker = sys.modules.get("torch.utils.data._utils.worker")
    return getattr(worker, "_worker_info", None) is not None


def _is_launcher() -> bool:
    # The command is the interpreter, perhaps -m, and the module or script that runs.
    return any(Path(word).name in _LAUNCHERS for word in command_line()[:4])

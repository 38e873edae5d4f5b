"""The probe of this process: puts observer, counters, history and server together, once."""

from __future__ import annotations

import atexit
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..protocol import PROTOCOL_VERSION
from ..protocol.messages import BREAKDOWN_FIELDS, HISTORY_POINTS_A_LINE, TENSOR_FIELDS
from ..protocol.rendezvous import start_ticks
from . import describe
from .counters import AllocatorReader, Counters
from .detail import PART as DETAIL
from .faults import Faults
from .history import History, Point
from .observer import Observer
from .pace import Pace
from .replay import DeviceDetail
from .segments import message
from .server import Server
from .sizes import breakdown
from .stages import STAGES
from .updates import Updates, detail_message

_LAUNCHERS = frozenset(
    {
        *("torchrun", "torch.distributed.run", "torch.distributed.launch"),
        *("accelerate", "accelerate-launch", "accelerate.commands.launch", "deepspeed"),
    }
)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MAX_ARGUMENTS = 64
_MAX_TEXT = 300

_session: Session | None = None


def session() -> Session:
    """The session of this process, made on the first call; torch must be loaded.

    Raises:
        KeyError: it is not.
    """
    global _session
    if _session is None:
        _session = Session(sys.modules["torch"])
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
        self._stage_changes = 0
        self._history = History()
        self._fullest: dict[str, Point] = {}
        self._server: Server | None = None
        self._installed = False

    def install_hooks(self) -> None:
        """Begin to hear of training; idempotent, faults are for the viewers."""
        if self._installed:
            return
        self._installed = True
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._exit)
        try:
            self.observer.install_hooks()
        except Exception as error:
            self.faults.report("the search for models and optimizers", error)

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
        if self._server is None and not self.faults.off("the server"):
            try:
                server = Server(self, self.faults)
                self._server = server
                server.start()
            except Exception as error:
                self.faults.report("the server", error)
        return True

    def _forked(self) -> None:
        try:
            server, self._server = self._server, None
            if server is not None:
                server.abandon()
            self.pace.watched_period_s = None
            self._history = History()
            self.observer.forked()
        except Exception as error:
            self.faults.report("the probe of a forked process", error)

    def _exit(self) -> None:
        try:
            if self._server is not None:
                self._server.stop()
        except Exception:  # the process ends; nobody is left to tell
            pass

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
            points[device] = [now, step, *sizes, _resident_bytes() if device == "cpu" else None]
        return points

    # On the server's thread.

    def hello(self) -> dict[str, Any]:
        """The hello message."""
        return {
            "type": "hello",
            "protocol": PROTOCOL_VERSION,
            "version": _version(),
            "pid": os.getpid(),
            "start_time": _start_time(),
            "python": platform.python_version(),
            "argv": _command_line(),
        }

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
        now = time.perf_counter()
        overhead = self.pace.overhead(now) + self.observer.detail_pace.overhead
        message = {
            "type": "sample",
            "at": time.time(),
            "step": self.observer.step(),
            "steps_per_s": self.observer.steps_per_s(),
            "overhead_percent": round(100 * overhead, 4),
            "devices": devices,
            "detail": self._detail_state(),
        }
        self.pace.spend(now, time.thread_time() - began)
        return message

    def history(self) -> Iterator[dict[str, Any]]:
        """The history messages."""
        return self._history.lines(HISTORY_POINTS_A_LINE)

    def watched(self, period_s: float | None) -> None:
        """How closely somebody watches."""
        self.pace.watched_period_s = period_s
        self.observer.detail_pace.watched = period_s is not None
        self.observer.gate.wanted_at = 0.0

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


def _resident_bytes() -> int:
    """RSS of this process (proc(5), statm field 2)."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  on the training thread
        return int(file.read().split()[1]) * _PAGE_BYTES


def _is_data_worker() -> bool:
    worker = sys.modules.get("torch.utils.data._utils.worker")
    return getattr(worker, "_worker_info", None) is not None


def _is_launcher() -> bool:
    # The command is the interpreter, perhaps -m, and the module or script that runs.
    return any(Path(word).name in _LAUNCHERS for word in _command_line()[:4])


def _command_line() -> list[str]:
    raw = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    return [part.decode(errors="replace")[:_MAX_TEXT] for part in raw[:_MAX_ARGUMENTS]]


def _start_time() -> float:
    """Start of this process in seconds since the epoch (proc(5), stat and btime)."""
    boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    seconds = start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return int(boot.group(1)) + seconds if boot else time.time()


def _version() -> str:
    # Read, not imported: injected, the package's root module is never run.
    try:
        text = (Path(__file__).parents[1] / "__init__.py").read_text()
    except OSError:  # replaced or out of sight since; no reason to refuse a viewer
        return "unknown"
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return found.group(1) if found else "unknown"

"""One thread that reads devices, processes and probes at a fixed period and joins them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from ..core.model import (
    DeviceUse,
    Host,
    Probe,
    Problem,
    Process,
    Snapshot,
)
from ..errors import BackendUnavailable
from .base import DeviceBackend, DeviceReading
from .figures import with_process_figures
from .host import HOST_UUID, HostBackend
from .probes import ProbeClients
from .procfs import ProcessFacts, ProcessTable

_ONE_SHOT_WAIT_S = 1.5
"""How long one-shot output waits for the probes' first samples."""
_ONE_SHOT_DETAIL_WAIT_S = 3.0
"""The same with their first detail, where one is to be expected."""
_ONE_SHOT_PERIOD_S = 0.25
"""The figures of a step sampled in detail are in the sample after it, which should not be far."""
_ONE_SHOT_CPU_S = 0.1
"""CPU shares need two readings."""


def open_backend(name: str) -> tuple[DeviceBackend, tuple[Problem, ...]]:
    """The backend of that name; ``auto`` falls back to the host and says why in a problem.

    Raises:
        BackendUnavailable: ``nvml`` was asked for and cannot be had; the message is the cause.
    """
    if name == "host":
        return HostBackend(), ()
    from .nvml import NvmlBackend

    try:
        return NvmlBackend(), ()
    except BackendUnavailable as error:
        if name == "nvml":
            raise
        return HostBackend(), (Problem("nvml", f"{error}; showing the host"),)


class Collector:
    """Joins the driver's, /proc's and the probes' views into snapshots (a ``SnapshotSource``).

    The backend is opened on the thread that reads: loading a driver may take a second.
    """

    def __init__(self, backend: str = "auto", period_s: float = 1.0) -> None:
        self.period_s = period_s
        self._backend_name = backend
        self._backend: DeviceBackend | None = None
        self._lasting: tuple[Problem, ...] = ()
        self._table = ProcessTable()
        self._clients = ProbeClients(period_s)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Callable[[Snapshot], None]) -> None:
        """Deliver a snapshot every ``period_s`` from a thread until ``stop``."""
        self._thread = threading.Thread(
            target=self._loop, args=(deliver,), name="vramtop-collector", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread (waiting for the reading under way, 2 s at most) and close everything."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            if self._thread.is_alive():
                return  # stuck in the driver; the daemon thread dies with the process
        self._close()

    def read_once(self, pid: int | None = None, wait_s: float = 0.0) -> Snapshot:
        """One complete snapshot: waits for the probes' samples, detail and a CPU share.

        For those of process ``pid`` it waits up to ``wait_s`` where that is longer.

        Raises:
            BackendUnavailable: see ``open_backend``.
        """
        self._open()
        started = time.monotonic()
        self._clients.set_period(min(self.period_s, _ONE_SHOT_PERIOD_S))
        self._read()
        if pid is not None:
            self._clients.wait_for_samples(wait_s, wait_s, pid)
        self._clients.wait_for_samples(_ONE_SHOT_WAIT_S, _ONE_SHOT_DETAIL_WAIT_S)
        time.sleep(max(0.0, _ONE_SHOT_CPU_S - (time.monotonic() - started)))
        return self._read()

    def _open(self) -> DeviceBackend:
        if self._backend is None:
            self._backend, self._lasting = open_backend(self._backend_name)
        return self._backend

    def _close(self) -> None:
        self._clients.close()
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _loop(self, deliver: Callable[[Snapshot], None]) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._clients.set_period(self.period_s)
                deliver(self._read())
            except Exception as error:  # a fault must reach the screen, not end it
                deliver(_failed(error, self.period_s))
            # Missed ticks are skipped: a slow driver must not be asked faster than it answers.
            due = max(due + self.period_s, time.monotonic())
            self._sleep_until(due)

    def _sleep_until(self, due: float) -> None:
        """Sleep, yet notice a shorter period at once and a stop at once."""
        period_s = self.period_s
        while (left := due - time.monotonic()) > 0:
            if self._stopping.wait(min(left, 0.25)) or self.period_s < period_s:
                return

    def _read(self) -> Snapshot:
        taken_at = time.time()
        reading = self._open().read()
        probes, problems = self._clients.read()
        pids = set(reading.uses) | {pid for pid in probes if pid > 0}
        facts = {pid: self._table.describe(pid) for pid in pids}
        self._table.forget_all_but(pids)
        on_host = any(device.backend == "host" for device in reading.devices)
        snapshot = Snapshot(
            taken_at=taken_at,
            host=_host(reading),
            devices=reading.devices,
            processes=tuple(
                _process(pid, facts.get(pid), reading, probes.get(pid), on_host)
                for pid in sorted(pids | set(probes))
            ),
            problems=self._lasting + reading.problems + problems,
            period_s=self.period_s,
        )
        self._clients.lost.see(snapshot)
        return snapshot


def _failed(error: Exception, period_s: float) -> Snapshot:
    problem = Problem("collector", f"{type(error).__name__}: {error}")
    host = Host(socket.gethostname(), None, None)
    return Snapshot(time.time(), host, (), (), (problem,), period_s)


def _host(reading: DeviceReading) -> Host:
    import psutil

    memory = psutil.virtual_memory()
    on_host = [d.utilization_percent for d in reading.devices if d.backend == "host"]
    return Host(
        hostname=socket.gethostname(),
        ram_total_bytes=memory.total,
        ram_used_bytes=memory.total - memory.available,
        # psutil measures since the last call: two calls a tick would measure nothing.
        cpu_percent=on_host[0] if on_host else psutil.cpu_percent(),
        driver_version=reading.driver_version,
        cuda_driver_version=reading.cuda_driver_version,
    )


def _process(
    pid: int,
    facts: ProcessFacts | None,
    reading: DeviceReading,
    probe: Probe | None,
    on_host: bool,
) -> Process:
    facts = facts or ProcessFacts(state="invisible")
    uses = reading.uses.get(pid, ())
    if on_host and facts.rss_bytes is not None:  # one figure, read once, in every column
        uses = (DeviceUse(HOST_UUID, facts.rss_bytes, "H"),)
    return Process(
        pid=pid,
        started_at=facts.started_at,
        state=facts.state,
        user=facts.user,
        command=facts.command,
        devices=uses,
        host_rss_bytes=facts.rss_bytes,
        cpu_percent=facts.cpu_percent,
        container=facts.container,
        probe=Probe(state="none")
        if probe is None
        else with_process_figures(probe, uses, facts.rss_bytes),
    )

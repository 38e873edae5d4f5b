"""The socket client: finds the probes' sockets, subscribes, keeps each probe's last state."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.model import Probe, Problem
from ..errors import ProtocolError, RendezvousRefused
from ..protocol import PROTOCOL_VERSION, rendezvous
from ..protocol.framing import LineReader, encode
from .last_words import LastWords
from .lost import Lost, Marks
from .told import Told

_PEERCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_RECEIVE_BYTES = 1 << 18
_MAX_BYTES_A_READ = 8 << 20
"""A probe that floods is read no further than this in one tick; the rest waits."""
_GONE_KEPT_S = 60.0
_BANNED_S = 30.0
_STARTING_S = 5.0
_STALE_PERIODS = 3.0
_STALE_MIN_S = 3.0
_MAX_PROBES = 1024


@dataclass(slots=True)
class _Connection:
    """One probe's socket, and all that it has said."""

    path: Path
    socket: socket.socket
    pid: int
    told: Told = field(default_factory=Told)
    words: LastWords = field(default_factory=LastWords)
    reader: LineReader = field(default_factory=LineReader)
    heard_at: float = 0.0
    marks: Marks = field(init=False)

    def __post_init__(self) -> None:
        self.marks = Marks.of(self.pid)

    @property
    def waits_for_detail(self) -> bool:
        """A step is still to be sampled in detail, or its figures are not in a sample yet."""
        detail = self.told.probe.detail
        return detail == "pending" or (detail == "ready" and not self.told.details)


class ProbeClients:
    """All probes of this user on this machine; used from one thread."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self.lost = Lost()
        self._open: dict[Path, _Connection] = {}
        self._gone: dict[int, tuple[float, Probe]] = {}
        self._banned: dict[Path, tuple[float, Problem]] = {}
        self._problems: list[Problem] = []

    def set_period(self, period_s: float) -> None:
        """Ask every probe for samples at another period (seconds)."""
        if period_s != self._period_s:
            self._period_s = period_s
            for connection in list(self._open.values()):
                self._subscribe(connection, history=False)

    def read(self) -> tuple[dict[int, Probe], tuple[Problem, ...]]:
        """Connect to what is new, take in what has arrived; probes by pid as we see it."""
        self._problems.clear()
        now = time.monotonic()
        self._connect_new(now)
        for connection in list(self._open.values()):
            self._drain(connection)
        self.lost.settle(self._settled)
        self.lost.look()
        self._gone = {p: g for p, g in self._gone.items() if now - g[0] < _GONE_KEPT_S}
        probes = {pid: probe for pid, (_, probe) in self._gone.items()}
        for connection in self._open.values():
            probes[connection.pid] = self._state_of(connection, now)
            problem = connection.told.probe.problem
            if problem:
                self._problems.append(Problem(f"probe {connection.pid}", problem))
        self._problems.extend(problem for _, problem in self._banned.values())
        return probes, tuple(self._problems)

    def wait_for_samples(
        self, timeout_s: float, detail_timeout_s: float, pid: int | None = None
    ) -> None:
        """Wait until every connected probe, or that of ``pid``, has sent a sample.

        For those that say that a step is still to be sampled in detail, wait for it as well, until
        ``detail_timeout_s`` from now.
        """
        started = time.monotonic()
        self._connect_new(started)
        while True:
            waited_s = time.monotonic() - started
            asked = [c for c in self._open.values() if pid in {None, c.pid}]
            missing = [c for c in asked if not c.told.has_sample]
            left = timeout_s - waited_s
            if not missing or left <= 0:
                missing = [c for c in asked if c.waits_for_detail]
                left = detail_timeout_s - waited_s
            if not missing or left <= 0:
                return
            poll = select.poll()
            for connection in missing:
                poll.register(connection.socket, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(left * 1000)}
            for connection in missing:
                if connection.socket.fileno() in ready:
                    self._drain(connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.socket.close()
        self._open.clear()

    def _connect_new(self, now: float) -> None:
        self._banned = {p: b for p, b in self._banned.items() if now - b[0] < _BANNED_S}
        for directory in rendezvous.scan_directories():
            try:
                rendezvous.check_directory(directory)
                names = os.listdir(directory)  # noqa: PTH208
            except RendezvousRefused as error:
                self._problems.append(Problem("probes", str(error)))
                continue
            except OSError:
                continue  # nobody has bound there yet
            for name in names:
                path = directory / name
                known = path in self._open or path in self._banned
                if known or rendezvous.parse_socket_name(name) is None:
                    continue
                if len(self._open) < _MAX_PROBES:
                    self._connect(path)

    def _connect(self, path: Path) -> None:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            client.connect(os.fspath(path))
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        except ConnectionRefusedError:
            client.close()
            _remove_stale(path)
            return
        except OSError:
            client.close()  # its backlog is full, or it is just going: the next tick tries again
            return
        pid, uid, _ = _PEERCRED.unpack(credentials)
        if uid not in {os.getuid(), 0}:
            client.close()
            self._ban(path, f"{path.name} belongs to uid {uid}; not read")
            return
        if pid == 0:  # the peer's pid namespace is not below ours
            named = rendezvous.parse_socket_name(path.name)
            pid = -named[0] if named else 0
        connection = _Connection(path, client, pid, heard_at=time.monotonic())
        self._open[path] = connection
        self._gone.pop(pid, None)
        self._subscribe(connection, history=True)

    def _subscribe(self, connection: _Connection, *, history: bool) -> None:
        request = {
            "type": "subscribe",
            "protocol": PROTOCOL_VERSION,
            "period_s": self._period_s,
            "history": history,
        }
        try:
            connection.socket.send(encode(request))
        except OSError:
            self._close(connection)

    def _drain(self, connection: _Connection) -> None:
        received = 0
        try:
            while received < _MAX_BYTES_A_READ:
                data = connection.socket.recv(_RECEIVE_BYTES)
                if not data:
                    self._close(connection)
                    return
                received += len(data)
                for message in connection.reader.feed(data):
                    connection.told.take(message)
                    connection.words.take(message)
                connection.heard_at = time.monotonic()
        except BlockingIOError:
            return
        except ProtocolError as error:
            self._close(connection, is_lost=False)
            self._ban(connection.path, f"probe of pid {connection.pid} is not read: {error}")
        except OSError:
            self._close(connection)

    def _ban(self, path: Path, message: str) -> None:
        self._banned[path] = (time.monotonic(), Problem("probes", message))

    def _close(self, connection: _Connection, *, is_lost: bool = True) -> None:
        connection.socket.close()
        if self._open.pop(connection.path, None) is not None:
            probe = connection.told.probe
            ended = probe.ended or ("lost" if is_lost else None)
            last = replace(probe, state="gone", ended=ended, steps_per_s=None, history=None)
            self._gone[connection.pid] = (time.monotonic(), last)
            failure = probe.failure
            if ended == "exit" and failure is not None and not failure.caught:
                self.lost.add_machine(connection.path, connection.pid)
            if ended == "lost":
                self.lost.closed(connection.path, connection.marks, last, connection.words)

    def _settled(self, pid: int, probe: Probe) -> None:
        if pid in self._gone:
            self._gone[pid] = (self._gone[pid][0], probe)

    def _state_of(self, connection: _Connection, now: float) -> Probe:
        silent_s = now - connection.heard_at
        if not connection.told.probe.devices:
            state = connection.told.probe  # it listens; nothing has been counted yet
        elif silent_s > max(_STALE_PERIODS * self._period_s, _STALE_MIN_S):
            state = replace(connection.told.probe, state="stale")
        else:
            state = replace(connection.told.probe, state="streaming")
        if connection.told.history and connection.told.has_sample:
            # Given once: whoever shows it keeps it.
            history = {d: tuple(points) for d, points in connection.told.history.items()}
            connection.told.history = {}
            return replace(state, history=history)
        return state


def _remove_stale(path: Path) -> None:
    """Remove a socket whose process was killed before it could; a new one may not listen yet."""
    with suppress(OSError):
        if time.time() - path.lstat().st_mtime > _STARTING_S:
            path.unlink()

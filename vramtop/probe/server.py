"""The probe's one thread: listens, and sends samples to whoever watches; never touches tensors.

While nobody watches it is blocked, but for one look every few seconds whether its socket file is
still there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

from ..errors import ProtocolError, RendezvousRefused
from ..protocol import rendezvous
from .faults import Faults
from .updates import Updates
from .viewer import Viewer

MAX_VIEWERS = 64
SOCKET_CHECK_S = 5.0
_FAREWELL_S = 0.5
"""What all viewers together may take to read what is left and the last line."""
_JOIN_S = 2.0
Ending = Optional[Literal["exit", "detached"]]
_PEER = struct.Struct("3i")  # pid, uid, gid: struct ucred


class Content(Protocol):
    """What the server sends; called on its thread."""

    def hello(self) -> dict[str, Any]:
        """The message on connect."""
        ...

    def job(self) -> dict[str, Any]:
        """The job as it is now."""
        ...

    def sample(self) -> dict[str, Any]:
        """A sample of now, without ``dropped``."""
        ...

    def history(self) -> Iterator[dict[str, Any]]:
        """The history messages."""
        ...

    @property
    def updates(self) -> Updates:
        """What is told whenever it has changed."""
        ...

    def watched(self, period_s: float | None) -> None:
        """The shortest period that any viewer wants, None when the last one left."""
        ...

    def detach(self) -> None:
        """A viewer wants the probe out of this process."""
        ...

    def chores(self) -> float | None:
        """What else there is to do; in how many seconds again, None: when there is news."""
        ...


class Server:
    """Listens from ``start`` to ``stop``; after a fork the child calls ``abandon``.

    In ``directory``, or where probes of this user meet.
    """

    def __init__(self, content: Content, faults: Faults, directory: Path | None = None) -> None:
        self.directory = directory or rendezvous.bind_directory()
        self._content = content
        self._faults = faults
        self._is_ending = False
        self._why: Ending = None
        self._closing = threading.Lock()
        self._listener: socket.socket | None = None
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._viewers: dict[int, Viewer] = {}
        self._poll = select.poll()
        self._checked_at = 0.0
        self._paused_until = 0.0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="vramtop-probe", daemon=True)

    def start(self) -> None:
        """Bind and begin to listen.

        Raises:
            RendezvousRefused: the directory is not safely ours.
            OSError: nothing can be bound there.
        """
        self._poll.register(self._wake_read, select.POLLIN)
        try:
            self._bind()
        except BaseException:
            self.abandon()
            raise
        self._thread.start()

    def stop(self, why: Ending = "exit") -> None:
        """Tell viewers why, end the thread, remove the socket file; None tells them nothing."""
        self._why, self._is_ending = why, True
        self.wake()
        self._thread.join(_JOIN_S)
        self._unlink()

    def end(self) -> None:
        """On the server's own thread: the same because the probe leaves the process."""
        self._why, self._is_ending = "detached", True

    def hand_over(self, content: Content, faults: Faults) -> None:
        """Send that from now on; viewers stay connected."""
        if faults is not self._faults:
            self._faults = faults
            for viewer in list(self._viewers.values()):
                viewer.problems_told = 0
        self._content = content
        self._told_period()
        self.wake()

    def wake(self) -> None:
        """Have the thread look what there is to do."""
        with self._closing, contextlib.suppress(OSError):  # full, so that it wakes anyway
            if self._wake_write >= 0:
                os.write(self._wake_write, b"x")

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: close what was inherited."""
        for viewer in self._viewers.values():
            viewer.connection.close()
        if self._listener is not None:
            self._listener.close()
        for descriptor in (self._wake_read, self._wake_write):
            if descriptor >= 0:
                os.close(descriptor)

    def _bind(self) -> None:
        rendezvous.ensure_directory(self.directory)
        path = rendezvous.socket_path(self.directory, os.getpid())
        # Under another name until it listens: viewers take a socket that refuses for a dead one.
        # The names are this process's alone; what bears them is from before an exec.
        unready = path.with_name("." + path.name)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            unready.unlink(missing_ok=True)
            listener.bind(str(unready))
            unready.chmod(0o600)  # not through the umask, which belongs to all threads
            listener.listen(MAX_VIEWERS)
            listener.setblocking(False)
            status = unready.lstat()
            unready.rename(path)
        except BaseException:
            listener.close()
            raise
        self._listener, self._path = listener, path
        self._identity = (status.st_dev, status.st_ino)
        self._poll.register(listener, select.POLLIN)

    def _unlink(self) -> None:
        if self._path is not None and self._still_bound():
            self._path.unlink(missing_ok=True)

    def _still_bound(self) -> bool:
        try:
            status = os.lstat(str(self._path))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    # The thread.

    def _run(self) -> None:
        try:
            # Signals are for the program's own threads to be woken by.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                again_s = self._content.chores()
                events = self._poll.poll(self._timeout_ms(again_s))
                if self._is_ending:
                    break
                for descriptor, event in events:
                    self._handle(descriptor, event)
                self._send_samples()
                self._check_socket()
        except Exception as error:
            self._faults.report("the server", error)
        finally:
            self._close()

    def _close(self) -> None:
        self._unlink()
        if self._why is not None:
            deadline = time.monotonic() + _FAREWELL_S
            for viewer in list(self._viewers.values()):
                news = self._content.updates.since(viewer.told)
                viewer.farewell([*news, {"type": "bye", "why": self._why}], deadline)
        for viewer in list(self._viewers.values()):
            self._drop(viewer)
        if self._listener is not None:
            self._listener.close()
        with self._closing:
            for descriptor in (self._wake_read, self._wake_write):
                os.close(descriptor)
            self._wake_read = self._wake_write = -1

    def _timeout_ms(self, again_s: float | None) -> float:
        if self._is_ending:
            return 0.0
        now = time.monotonic()
        due = [v.next_at for v in self._viewers.values() if v.period_s is not None]
        longest_s = SOCKET_CHECK_S if again_s is None else min(again_s, SOCKET_CHECK_S)
        wait_s = min([longest_s, *(at - now for at in due)])
        return max(wait_s, 0.0) * 1000 + 1

    def _handle(self, descriptor: int, event: int) -> None:
        viewer = self._viewers.get(descriptor)
        if viewer is not None:
            with self._dropping(viewer):
                if event & select.POLLOUT:
                    viewer.flush()
                if event & ~select.POLLOUT:
                    self._read(viewer)
                self._listen_to(viewer)
        elif descriptor == self._wake_read:
            os.read(descriptor, select.PIPE_BUF)
        elif self._listener is not None and descriptor == self._listener.fileno():
            self._accept(self._listener)

    @contextlib.contextmanager
    def _dropping(self, viewer: Viewer) -> Iterator[None]:
        """A viewer that breaks the protocol or is gone is dropped; the others notice nothing."""
        try:
            yield
        except (ProtocolError, OSError):
            self._drop(viewer)
        except Exception as error:
            # A fault of ours, but one that this viewer's request has found: the server goes on.
            self._faults.report("a viewer's request", error)
            self._drop(viewer)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of file descriptors: the program's trouble, which asking again at once worsens.
            self._poll.unregister(listener)
            self._paused_until = time.monotonic() + 1.0
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, uid, _ = _PEER.unpack(credentials)
        if uid not in (0, os.getuid()) or len(self._viewers) >= MAX_VIEWERS:
            connection.close()
            return
        connection.setblocking(False)
        viewer = self._viewers[connection.fileno()] = Viewer(connection)
        with self._dropping(viewer):
            viewer.send(self._content.hello())
            self._listen_to(viewer)

    def _read(self, viewer: Viewer) -> None:
        for request in viewer.requests():
            if request["type"] == "detach":
                self._content.detach()
                continue
            viewer.subscribe(request, self._content.history(), time.monotonic())
            viewer.flush()
            self._told_period()

    def _listen_to(self, viewer: Viewer) -> None:
        if viewer.connection.fileno() in self._viewers:
            wanted = select.POLLIN | (select.POLLOUT if viewer.waiting else 0)
            self._poll.register(viewer.connection, wanted)

    def _drop(self, viewer: Viewer) -> None:
        descriptor = viewer.connection.fileno()
        if self._viewers.pop(descriptor, None) is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)
            viewer.connection.close()
            self._told_period()

    def _told_period(self) -> None:
        viewers = list(self._viewers.values())
        periods = [v.period_s for v in viewers if v.period_s is not None]
        self._content.watched(min(periods, default=None))

    def _send_samples(self) -> None:
        now = time.monotonic()
        due = [
            v for v in list(self._viewers.values()) if v.period_s is not None and v.next_at <= now
        ]
        if not due:
            return
        job, sample = self._content.job(), self._content.sample()
        for viewer in due:
            viewer.next_at = now + (viewer.period_s or 0.0)
            if viewer.full:
                viewer.dropped += 1
                continue
            with self._dropping(viewer):
                self._send_to(viewer, job, sample)
                self._listen_to(viewer)

    def _send_to(self, viewer: Viewer, job: dict[str, Any], sample: dict[str, Any]) -> None:
        for message in self._faults.messages[viewer.problems_told :]:
            viewer.problems_told += 1
            viewer.send({"type": "problem", "message": message})
        if _without_steps(job) != viewer.job:
            viewer.job = _without_steps(job)
            viewer.send(job)
        for update in self._content.updates.since(viewer.told):
            viewer.send(update)
        viewer.send({**sample, "dropped": viewer.dropped})

    def _check_socket(self) -> None:
        now = time.monotonic()
        if self._paused_until and now >= self._paused_until and self._listener is not None:
            self._paused_until = 0.0
            self._poll.register(self._listener, select.POLLIN)
        if now - self._checked_at < SOCKET_CHECK_S:
            return
        self._checked_at = now
        if self._still_bound():
            return
        if self._listener is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._listener)
            self._listener.close()
            self._listener = None
        # Tried again at the next look if the directory cannot be had now.
        with contextlib.suppress(RendezvousRefused, OSError):
            self._bind()


def _without_steps(job: dict[str, Any]) -> dict[str, Any]:
    # The steps change all the time and are in the samples as well.
    optimizers = [{**optimizer, "steps": 0} for optimizer in job["optimizers"]]
    return {**job, "optimizers": optimizers}

"""The server of this process: begun by whoever comes first, handed over, ended with the process."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path
from typing import Callable

from .faults import Faults
from .server import Content, Server


class Presence:
    """At most one server a process, in one directory; every method on any thread."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._directory: Path | None = None
        """Where an attach has asked it to be; a forked child meets its viewers there as well."""
        self.before_exit: Callable[[], None] | None = None
        """Called when the process ends in order, while there still is a server."""
        self._lock = threading.Lock()
        self._registered = False

    def listen(self, content: Content, faults: Faults, directory: Path | None = None) -> None:
        """Send this content to viewers from now on; ``directory``: there, else where it is.

        Raises:
            RendezvousRefused: the directory is not safely ours.
            OSError: nothing can be bound there.
        """
        with self._lock:
            server = self._server
            if server is not None:
                if directory in (None, server.directory):
                    server.hand_over(content, faults)
                    return
                server.stop(None)
                self._server = None
            self._directory = directory or self._directory
            server = Server(content, faults, self._directory)
            server.start()
            self._server = server
            self._register()

    def directory(self) -> Path | None:
        """Where viewers and this process meet; None while nobody listens."""
        return None if self._server is None else self._server.directory

    def wake(self) -> None:
        """Have the server's thread do its chores."""
        if self._server is not None:
            self._server.wake()

    def leave(self) -> None:
        """On the server's thread: end it, the probe leaves this process."""
        server, self._server = self._server, None
        self.before_exit = None
        atexit.unregister(self._exit)
        if server is not None:
            server.end()

    def _register(self) -> None:
        atexit.unregister(self._exit)
        atexit.register(self._exit)
        util = sys.modules.get("multiprocessing.util")
        processes = sys.modules.get("multiprocessing.process")
        if util is not None and processes is not None and processes.parent_process() is not None:
            # Such a process ends without atexit, but in order.
            util.Finalize(None, self._exit, exitpriority=-100)
        if not self._registered:
            self._registered = True
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        server, self._server = self._server, None
        try:
            if server is not None:
                server.abandon()
        except OSError:  # closed already
            pass

    def _exit(self) -> None:
        try:
            if self._server is not None and self.before_exit is not None:
                self.before_exit()
            server, self._server = self._server, None
            if server is not None:
                server.stop("exit")
        except Exception:  # the process ends; nobody is left to tell
            pass


PRESENCE = Presence()

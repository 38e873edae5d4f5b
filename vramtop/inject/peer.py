"""A word with the probe of a process: is it there, what does it run, and please leave."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ProtocolError, RendezvousRefused
from ..protocol import PROTOCOL_VERSION, rendezvous
from ..protocol.framing import LineReader, encode
from .target import Target

_PEERCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_RECEIVE_BYTES = 1 << 16
_POLL_S = 0.1
_QUIET_PERIOD_S = 60.0


class Peer:
    """A connection to one probe; its messages come by ``messages``."""

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self.directory = directory
        self._socket = connection
        self._socket.settimeout(_POLL_S)
        self._reader = LineReader()
        self.is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a request."""
        try:
            self._socket.sendall(encode({"type": kind, "protocol": PROTOCOL_VERSION, **fields}))
        except OSError:
            self.is_open = False

    def messages(self) -> list[dict[str, Any]]:
        """What has come within a moment; closes at the probe's end or nonsense."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            self.is_open = bool(data)
            return self._reader.feed(data)
        except TimeoutError:
            return []
        except (OSError, ProtocolError):
            self.is_open = False
            return []

    def versions(self, limit_s: float) -> tuple[str | None, str | None]:
        """Of Python and torch (None without it); twice None if the probe says nothing in time."""
        self.send("subscribe", period_s=_QUIET_PERIOD_S, history=False)
        said: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + limit_s
        while self.is_open and time.monotonic() < until and "job" not in said:
            said.update((message["type"], message) for message in self.messages())
        if "job" not in said:  # comes after the hello
            return None, None
        found = said.get("hello", {}).get("python"), said["job"].get("torch")
        python, torch = (value if isinstance(value, str) else None for value in found)
        return python, torch


def connect(target: Target, directories: Iterable[Path]) -> Peer | None:
    """A connection to the probe of the target; None where it has none."""
    # In a container the probe names its socket by the pid that it has there.
    names = {
        f"{pid}-{target.ticks}{rendezvous.SUFFIX}"
        for pid in (target.pid, *target.status.get("NSpid", "").split())
    }
    for directory in directories:
        with suppress(RendezvousRefused, OSError):
            rendezvous.check_directory(directory)
            for name in sorted(names & set(os.listdir(directory))):  # noqa: PTH208
                if peer := _connect(target, directory / name):
                    return peer
    return None


def _connect(target: Target, path: Path) -> Peer | None:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(_POLL_S)
    with suppress(OSError):
        client.connect(os.fspath(path))
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid, uid, _ = _PEERCRED.unpack(credentials)
        if pid == target.pid and uid == target.uid:
            return Peer(client, path.parent)
    client.close()
    return None

"""One running process as /proc shows it, told by its start time from a later one of its pid."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import AttachRefused
from ..protocol import rendezvous

_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ..(.). ([0-9a-f]+) \S+ \d+ +(/.*)$", re.MULTILINE)
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A part of a file that the process has in its memory."""

    start: int
    end: int
    file_offset: int
    path: str
    """As the process sees it; ends in " (deleted)" where the file has gone."""
    is_code: bool


class Target:
    """A process, from a look at it to the end of the attach.

    Raises:
        AttachRefused: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.proc = Path(f"/proc/{pid}")
        try:
            self.ticks = rendezvous.start_ticks(pid)
            self.status = self._status()
        except (OSError, ValueError, IndexError):
            raise AttachRefused(
                f"there is no process {pid}; `vramtop` lists those that use a device"
            ) from None
        leader = self.status.get("Tgid", str(pid))
        if leader != str(pid):  # /proc does not list threads, but has them
            raise AttachRefused(f"{pid} is a thread of process {leader}; attach to {leader}")

    def is_alive(self) -> bool:
        """Whether it still is the same process, and no zombie."""
        try:
            is_same = rendezvous.start_ticks(self.pid) == self.ticks
            return is_same and self._status()["State"][:1] not in {"Z", "X"}
        except (OSError, KeyError, ValueError, IndexError):
            return False

    def refresh(self) -> None:
        """Read the status again.

        Raises:
            AttachRefused: the process has ended.
        """
        with suppress(OSError):
            if rendezvous.start_ticks(self.pid) == self.ticks:
                self.status = self._status()
                return
        raise AttachRefused(f"process {self.pid} has ended")

    @property
    def state(self) -> str:
        """R, S, D, T (stopped), t (stopped by a tracer), Z …: proc(5), status."""
        return self.status.get("State", "?")[:1]

    def state_now(self) -> str:
        """The state of its main thread at this moment."""
        with suppress(OSError):
            self.status = self._status()
        return self.state

    @property
    def tracer(self) -> int:
        """Pid of the debugger that holds it, 0 without one."""
        return int(self.status.get("TracerPid", "0"))

    @property
    def uid(self) -> int:
        """Its effective user: what it may do, and to whom its files belong."""
        return int(self.status["Uid"].split()[1])

    @property
    def executable(self) -> str:
        """Path of its program as it sees it itself.

        Raises:
            OSError: it may not be read, or the process is a kernel thread.
        """
        return self._as_seen(os.readlink(self.proc / "exe")).removesuffix(_DELETED)  # noqa: PTH115

    def name(self) -> str:
        """A word for messages: its command's name."""
        return self.status.get("Name", "?")

    def mappings(self) -> Iterator[Mapping]:
        """Its mapped files, by address.

        Raises:
            OSError: it may not be read.
        """
        text = (self.proc / "maps").read_bytes()
        for start, end, executable, offset, path in _MAPPING.findall(text):
            seen = self._as_seen(os.fsdecode(path))
            is_code = executable == b"x"
            yield Mapping(int(start, 16), int(end, 16), int(offset, 16), seen, is_code)

    def environment(self) -> dict[str, str]:
        """What it was started with; empty where it may not be read."""
        return dict(
            os.fsdecode(entry).split("=", 1) for entry in self._words("environ") if b"=" in entry
        )

    def arguments(self) -> list[str]:
        """Its command line."""
        return [os.fsdecode(word) for word in self._words("cmdline")]

    def _as_seen(self, path: str) -> str:
        """A path of /proc as the process sees it: for us it begins with the root of its chroot."""
        root = os.readlink(self.proc / "root")  # noqa: PTH115
        return path.removeprefix(root) if root != "/" and path.startswith(f"{root}/") else path

    def _words(self, name: str) -> list[bytes]:
        try:
            return (self.proc / name).read_bytes().split(b"\0")[:-1]
        except OSError:
            return []

    def _status(self) -> dict[str, str]:
        lines = (self.proc / "status").read_text(errors="replace").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

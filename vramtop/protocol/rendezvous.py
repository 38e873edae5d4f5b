"""Where probes listen and viewers look: one private directory, one socket a process.

XDG_RUNTIME_DIR is scanned but never bound in by choice: it disappears at logout and would strand
a training that lives on in tmux.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import RendezvousRefused

SUFFIX = ".sock"

_elsewhere: list[Path] = []
"""Where this viewer has attached to processes that see other folders than it does."""


def bind_directory() -> Path:
    """The directory in which a probe of this user binds."""
    # Where the user names one it is the only one, for probes and viewers alike: to meet silently
    # somewhere else would help nobody.
    own = os.environ.get("VRAMTOP_RUNTIME_DIR")
    return Path(own) if own else Path(f"/tmp/vramtop-{os.getuid()}")  # noqa: S108


def scan_directories() -> list[Path]:
    """The directories in which a viewer of this user looks; some may not exist."""
    found = [bind_directory()]
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if xdg and not os.environ.get("VRAMTOP_RUNTIME_DIR"):
        found.append(Path(xdg) / "vramtop")
    return [*found, *_elsewhere]


def look_in(directory: Path) -> None:
    """Have the viewers of this process look there too, as in a container's own /tmp."""
    if directory not in scan_directories():
        _elsewhere.append(directory)


def ensure_directory(path: Path) -> None:
    """Create the directory with mode 0700 if it is missing, then check it.

    Raises:
        RendezvousRefused: it exists and is not safely ours, or cannot be created.
    """
    try:
        path.mkdir(mode=0o700, parents=False)
    except FileExistsError:
        pass
    except OSError as error:
        raise RendezvousRefused(f"cannot create {path}: {error.strerror}") from None
    check_directory(path)


def check_directory(path: Path) -> None:
    """Check without following links that this is a real directory that only we can enter.

    Raises:
        RendezvousRefused: and why.
        FileNotFoundError: there is none.
    """
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise RendezvousRefused(f"{path} is not a directory; remove it")
    if status.st_uid != os.getuid():
        raise RendezvousRefused(f"{path} belongs to uid {status.st_uid}; remove it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise RendezvousRefused(f"{path} is open to others; run: chmod 700 {path}")
    around = path.parent
    mode = os.stat(around).st_mode  # noqa: PTH116  half the cost of pathlib, at every tick
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        # Anybody could put another directory in its place once this one was looked at.
        raise RendezvousRefused(f"others may replace {path}; run: chmod +t {around}")


def socket_path(directory: Path, pid: int) -> Path:
    """The socket of a process; the start time in ticks tells reused pids apart."""
    return directory / f"{pid}-{start_ticks(pid)}{SUFFIX}"


def parse_socket_name(name: str) -> tuple[int, int] | None:
    """(pid, start ticks) in the probe's own pid namespace; None if it is no socket of ours."""
    if not name.endswith(SUFFIX):
        return None
    pid, _, ticks = name[: -len(SUFFIX)].partition("-")
    if not (pid.isdigit() and ticks.isdigit()):
        return None
    return int(pid), int(ticks)


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22)."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  half the cost of pathlib
        return int(file.read().rpartition(b")")[2].split()[19])

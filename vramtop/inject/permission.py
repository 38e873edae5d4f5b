"""Whether this process may debug another one, and what to change where it may not."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ..errors import AttachRefused
from .target import Target

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_CAP_SYS_PTRACE = 19  # capabilities(7)
_INSTEAD = "or start it with: vramtop run -- python …"


def check_user(target: Target) -> None:
    """A probe listens to its own user only, so only that user can attach.

    Raises:
        AttachRefused: it is another user's.
    """
    if target.uid != os.getuid():
        try:
            owner = pwd.getpwuid(target.uid).pw_name
        except KeyError:
            owner = f"'#{target.uid}'"  # quoted: the shell takes # for a comment
        raise AttachRefused(
            f"process {target.pid} belongs to {owner}; run as that user: "
            f"sudo -u {owner} vramtop attach {target.pid}"
        )


def check_ptrace(target: Target, yama: Path = YAMA) -> None:
    """Ask the kernel, by the permission check that attaching makes; nothing is touched.

    Raises:
        AttachRefused: with the setting or the capability that is missing.
    """
    if ptrace_scope(yama) and not has_capability():
        raise AttachRefused(how_to_permit(target, yama))
    try:
        (target.proc / "mem").open("rb").close()
    except PermissionError:
        raise AttachRefused(how_to_permit(target, yama)) from None
    except OSError:
        raise AttachRefused(f"process {target.pid} has ended") from None


def how_to_permit(target: Target, yama: Path = YAMA) -> str:
    """What stands in the way of debugging the process, as one sentence."""
    said = f"the kernel does not let you debug process {target.pid}"
    scope = ptrace_scope(yama)
    if scope == 3:
        return f"{said}: kernel.yama.ptrace_scope is 3 until the next boot; {_INSTEAD[3:]}"
    if scope and not has_capability():
        return (
            f"{said} (kernel.yama.ptrace_scope is {scope}); allow it with: "
            f"sudo sysctl kernel.yama.ptrace_scope=0 — {_INSTEAD}"
        )
    if in_container():
        return (
            f"{said}: this container lacks CAP_SYS_PTRACE; start it with: "
            f"docker run --cap-add=SYS_PTRACE — {_INSTEAD}"
        )
    return (
        f"{said}: it has capabilities that you lack, is private (PR_SET_DUMPABLE), or a seccomp "
        f"filter forbids ptrace; try as root (CAP_SYS_PTRACE) — {_INSTEAD}"
    )


def ptrace_scope(yama: Path = YAMA) -> int:
    """Yama's setting (Documentation/admin-guide/LSM/Yama.rst); 0 on a kernel without it."""
    try:
        return int(yama.read_text())
    except (OSError, ValueError):
        return 0


def has_capability() -> bool:
    """Whether this process has CAP_SYS_PTRACE, which Yama's 1 and 2 let through."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_PTRACE & 1)
    return False


def in_container() -> bool:
    """Whether this looks like the inside of a container."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()

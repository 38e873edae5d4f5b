"""Python 3.14 and newer take code by themselves: their own interpreter hands it over (PEP 768)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ..errors import AttachFailed, AttachRefused
from .permission import how_to_permit
from .place import is_seen
from .target import Target
from .ticket import Ticket

_LIMIT_S = 20.0
_CODE = "import sys; sys.remote_exec(int(sys.argv[1]), sys.argv[2])"
# Without site, nothing of the environment's packages runs; -P and -B leave no trace.
_OPTIONS = ("-S", "-P", "-B", "-c", _CODE)
_ITS_OWN = ("LD_LIBRARY_PATH", "PYTHONHOME")
"""What an interpreter may need to be started at all."""
_MAX_WORDS = 300


def ask(target: Target, ticket: Ticket) -> None:
    """Have the target's interpreter run the ticket's line when it can; it does not stand still.

    It has to be that interpreter: both ends must be of one version, and it looks up the files
    that the target has mapped by their paths.

    Raises:
        AttachRefused: that interpreter cannot be run from here, or the target takes no code.
        AttachFailed: it could not hand the line over.
    """
    ticket.write_script()
    known = target.environment()
    environment = {"LC_ALL": "C.UTF-8", **{n: known[n] for n in _ITS_OWN if n in known}}
    try:
        done = subprocess.run(
            [*_interpreter(target), *_OPTIONS, _pid_there(target), ticket.script_seen],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise AttachFailed(
            f"the interpreter of process {target.pid} did not hand the code over in {_LIMIT_S:g} s"
        ) from None
    except OSError as error:
        raise _cannot_run(target, error.strerror or str(error)) from None
    if done.returncode:
        raise _explain(target, done.stdout.decode(errors="replace"))


def _interpreter(target: Target) -> list[str]:
    """How its program is started among the files that it sees."""
    program = target.executable
    if is_seen(target, Path(program)):
        return [program]
    enter = shutil.which("nsenter")
    if enter is None:
        raise _cannot_run(target, "it lies in a container, and nsenter is not installed")
    spaces = ["--mount", *(["--pid"] if _has_own_pids(target) else [])]
    return [enter, f"--target={target.pid}", *spaces, "--root", "--wd=/", program]


def _has_own_pids(target: Target) -> bool:
    return os.readlink("/proc/self/ns/pid") != os.readlink(target.proc / "ns/pid")  # noqa: PTH115


def _pid_there(target: Target) -> str:
    numbers = target.status.get("NSpid", "").split()
    return numbers[-1] if numbers and _has_own_pids(target) else str(target.pid)


def _explain(target: Target, output: str) -> AttachRefused | AttachFailed:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = (lines[-1] if lines else "it said nothing")[:_MAX_WORDS]
    if re.search(r"not enabled in the remote", output):
        return AttachRefused(
            f"process {target.pid} does not take remote code: it is built or started with remote "
            "debugging switched off; start the training with: vramtop run -- python …"
        )
    if "PermissionError" in output or "Operation not permitted" in output:
        if "nsenter" in said:
            return _cannot_run(target, "it lies in a container that only root may enter")
        return AttachRefused(how_to_permit(target))
    if not re.search(r"^Traceback|Error:", output, re.MULTILINE) or "nsenter" in said:
        return _cannot_run(target, said)
    return AttachFailed(f"sys.remote_exec failed for process {target.pid}: {said}")


def _cannot_run(target: Target, why: str) -> AttachRefused:
    return AttachRefused(
        f"the interpreter of process {target.pid} cannot be run from here ({why}); run vramtop "
        "where it runs, or start the training with: vramtop run -- python …"
    )

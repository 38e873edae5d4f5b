"""``vramtop doctor``: what works here, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import importlib.util
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import EXIT_FAILURE, EXIT_OK, BackendUnavailable, RendezvousRefused
from . import monitor

NAME = "doctor"
HELP = "Check driver, permissions, rendezvous directory, ptrace, torch and terminal."
EXAMPLE = "vramtop doctor"

_TORCH_TIMEOUT_S = 60
_ASK_TORCH = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result; ``advice`` says what to do where it is not PASS."""

    level: Literal["PASS", "WARN", "FAIL"]
    subject: str
    message: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001
    """Print every finding as it comes; exit code 1 if one is FAIL."""
    worst = EXIT_OK
    for check in CHECKS:
        for finding in check():
            print(f"{finding.level}  {finding.subject:<12} {finding.message}", flush=True)
            if finding.advice:
                print(f"      {'':<12} → {finding.advice}", flush=True)
            if finding.level == "FAIL":
                worst = EXIT_FAILURE
    return worst


def check_driver() -> Iterator[Finding]:
    """NVML can be loaded and every device and process list be read."""
    from ..sources.nvml import NvmlBackend

    try:
        backend = NvmlBackend()
    except BackendUnavailable as error:
        yield Finding("WARN", "driver", str(error), "without it the host's RAM is shown instead")
        return
    try:
        reading = backend.read()
    finally:
        backend.close()
    yield Finding(
        "PASS", "driver", f"NVIDIA {reading.driver_version}, {len(reading.devices)} device(s)"
    )
    for problem in reading.problems:
        yield Finding("WARN", problem.source, problem.message)


def check_rendezvous() -> Iterator[Finding]:
    """The directory in which probes bind is safely ours."""
    from ..protocol import rendezvous

    directory = rendezvous.bind_directory()
    advice = "or set VRAMTOP_RUNTIME_DIR to a directory of your own"
    try:
        rendezvous.ensure_directory(directory)
    except RendezvousRefused as error:
        yield Finding("FAIL", "rendezvous", str(error), advice)
        return
    if os.access(directory, os.W_OK | os.X_OK):
        yield Finding("PASS", "rendezvous", f"probes and viewers meet in {directory}")
    else:
        yield Finding("FAIL", "rendezvous", f"{directory} is not writable", advice)


def check_ptrace() -> Iterator[Finding]:
    """Whether `vramtop attach` may look into a running process, and with which debugger."""
    from ..inject import permission

    scope = permission.ptrace_scope()
    if scope == 0 or (scope < 3 and permission.has_capability()):
        yield Finding("PASS", "ptrace", f"allowed (ptrace_scope {scope})")
    else:
        yield Finding(
            "WARN",
            "ptrace",
            f"restricted (ptrace_scope {scope}): no `vramtop attach`; `vramtop run` and "
            "vramtop.watch need none",
            "sysctl kernel.yama.ptrace_scope=0 as root" if scope < 3 else "needs a reboot",
        )
    debugger = next(filter(shutil.which, ("gdb", "lldb")), None)
    if debugger == "gdb":
        yield Finding("PASS", "debugger", "gdb is here for `vramtop attach`")
    else:
        yield Finding(
            "WARN",
            "debugger",
            f"{'only lldb' if debugger else 'neither gdb nor lldb'} is here; `vramtop attach` "
            + (
                "holds a process for seconds with it, and for 0.1 s with gdb"
                if debugger
                else "needs one, but for Python 3.14 and newer"
            ),
            "apt install gdb, or dnf install gdb",
        )


def check_torch() -> Iterator[Finding]:
    """Torch and transformers in this environment (trainings may use another one)."""
    install = "pip install -e '.[torch]' in the checkout; only `vramtop demo` needs it here"
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            yield Finding("WARN", package, "not installed in this environment", install)
            return
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_TIMEOUT_S,
            check=True,
        ).stdout.split()
    except subprocess.TimeoutExpired:
        yield Finding("FAIL", "torch", f"did not import within {_TORCH_TIMEOUT_S} s")
        return
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding("FAIL", "torch", f"cannot be imported: {last}", "reinstall torch")
        return
    version, cuda, available = answer
    if cuda == "None":
        yield Finding("PASS", "torch", f"{version}, CPU build")
    elif available == "True":
        yield Finding("PASS", "torch", f"{version}, CUDA {cuda}")
    else:
        yield Finding(
            "WARN", "torch", f"{version} is built for CUDA {cuda} but finds no usable GPU"
        )


def check_terminal() -> Iterator[Finding]:
    """The live screen can be shown."""
    if reason := monitor.why_no_screen():
        yield Finding("WARN", "terminal", reason, "the live screen needs one; --once does not")
        return
    columns, rows = shutil.get_terminal_size()
    shown = f"{os.environ['TERM']}, {columns}×{rows}"
    if columns < 60 or rows < 20:
        yield Finding("WARN", "terminal", shown, "make it at least 60×20")
    elif "UTF" not in (locale.getencoding() or "").upper():
        yield Finding("WARN", "terminal", f"{shown}, {locale.getencoding()}", "set LANG=C.UTF-8")
    else:
        colours = "no colour (NO_COLOR)" if os.environ.get("NO_COLOR") else "colour"
        yield Finding("PASS", "terminal", f"{shown}, {colours}")


CHECKS = (check_driver, check_rendezvous, check_ptrace, check_torch, check_terminal)

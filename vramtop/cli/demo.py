"""``vramtop demo``: watch a small real training, started for the purpose and ended afterwards."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ..core.model import Snapshot
from ..errors import EXIT_OK, VramtopError
from ..inject import launcher
from . import monitor

NAME = "demo"
HELP = "Start a small GPT training and watch it; needs torch and transformers."
EXAMPLE = "vramtop demo --once --json"

_SCRIPT = Path(__file__).with_name("demo_training.py")
_STEPS_SHOWN = 2  # after the second step gradients and optimizer state have been there
_WAIT_LIMIT_S = 180.0
_POLL_S = 0.2
_END_LIMIT_S = 5.0
_LOG_LINES = 15
_PR_SET_PDEATHSIG = 1  # prctl(2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo shows what ``vramtop`` shows, and takes the same options."""
    monitor.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Start the training, show it, end it.

    Raises:
        VramtopError: torch is missing, or the training failed; the message says what to do.
    """
    options = monitor.read_options(args)
    _require_torch()
    once = options.once
    if not once and (reason := monitor.why_no_screen()):
        print(f"vramtop: {reason}; printing one snapshot (--once)", file=sys.stderr)
        once = True
    with Training() as training:
        if once:
            snapshot = _wait_for_steps(training, options.backend)
            monitor.print_snapshot(snapshot, as_json=options.json)
            return EXIT_OK
        code = monitor.show(options, select_pid=training.pid)
        if not training.was_ended_by_signal():  # as the user may do from the screen
            training.check()
        return code


def _require_torch() -> None:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise VramtopError(
            f"the demo trains a real model and needs {' and '.join(missing)}; in the checkout "
            "run: pip install -e '.[torch]'"
        )


class Training:
    """The demo's training process: in a group of its own, its output in a log, never orphaned."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="vramtop-demo-"))
        self.log = self._directory / "training.log"
        self._log_named = False
        parent = os.getpid()
        libc = ctypes.CDLL(None)  # loaded before the fork: nothing may be loaded after it

        def die_with_parent() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where a script runs us with &
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we asked to be told
                os._exit(1)

        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    # -P: the script's own folder must not be searched for modules.
                    [sys.executable, "-P", str(_SCRIPT)],
                    env=launcher.environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,  # Ctrl-C is for the viewer, which then ends the training
                    preexec_fn=die_with_parent,  # noqa: PLW1509  no thread has been started yet
                )
        except BaseException:  # Ctrl-C too; a child already there dies with this process
            self._remove_log()
            raise
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        if not self._log_named:
            self._remove_log()

    def was_ended_by_signal(self) -> bool:
        """Whether somebody asked it to end."""
        return self._process.poll() in {-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL}

    def check(self) -> None:
        """Raise if the training has ended.

        Raises:
            VramtopError: with the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise self.failure(f"the demo training ended by itself ({how})")

    def failure(self, what: str) -> VramtopError:
        """An error that shows the end of the log and names it."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        self._log_named = True  # so it has to outlive us
        tail = "".join(f"\n  {line}" for line in lines) or " is empty"
        return VramtopError(f"{what}; the log {self.log}{':' if lines else ''}{tail}")

    def _remove_log(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self) -> None:
        self._process.send_signal(signal.SIGINT)  # so that its probe says that it ends in order
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _wait_for_steps(training: Training, backend: str) -> Snapshot:
    """The first snapshot in which the probe has seen the training make its second step."""
    from ..sources.collector import Collector

    deadline = time.monotonic() + _WAIT_LIMIT_S
    collector = Collector(backend, _POLL_S)
    progress = _Progress()
    try:
        while time.monotonic() < deadline:
            snapshot = collector.read_once()
            training.check()
            step = _step_of(snapshot, training.pid)
            if step is not None and step >= _STEPS_SHOWN:
                return snapshot
            progress.show(step)
            time.sleep(_POLL_S)
    finally:
        progress.clear()
        collector.stop()
    raise training.failure(
        f"the probe saw no {_STEPS_SHOWN} steps of the demo training in {_WAIT_LIMIT_S:.0f} s"
    )


def _step_of(snapshot: Snapshot, pid: int) -> int | None:
    for process in snapshot.processes:
        if process.pid == pid:
            return process.probe.step
    return None


class _Progress:
    """One line on standard error while a person waits there; nothing in a log."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def show(self, step: int | None) -> None:
        doing = "starting (importing torch takes a while)" if step is None else f"at step {step}"
        self._write(f"vramtop: the demo training is {doing} …")

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

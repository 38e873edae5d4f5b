"""Targets of the attach benchmark and what is done to them, each attach seen from outside too."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("attach_target.py")
SITUATIONS = ("busy", "c-call", "sleep", "dataloader", "malloc")
NEEDS_TORCH = ("dataloader",)
ENDLESS = 10**9
START_LIMIT_S = 120.0
# One name for all: an interpreter in another root directory has other folders.
MEMRAY_FILE = "/tmp/vramtop-bench-memray.bin"
STEP_LIMIT_S = 60.0
"""A target that makes no step for this long is hung; a step of the slowest takes some 2 s."""


class Target:
    """A training in one of the situations, as its own process that nobody has prepared."""

    def __init__(self, python, situation, folder, steps=ENDLESS, environment=None):
        self.situation = situation
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.out, self.err = self.folder / "out", self.folder / "err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*python, "-c", SOURCE.read_text(), situation, str(steps)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
            )
        self.pid = self.process.pid

    def steps(self):
        """How many steps it has made so far."""
        return self.out.read_bytes().count(b"\n")

    def goes_on(self, more=1, limit_s=STEP_LIMIT_S):
        """Whether it makes more steps within the limit; False where it died or hangs."""
        aim, until = self.steps() + more, time.monotonic() + limit_s
        while self.process.poll() is None and time.monotonic() < until:
            if self.steps() >= aim:
                return True
            time.sleep(0.02)
        return False

    def end(self):
        """Tell it to end; its exit code, None where it did not within the limit and was killed."""
        self.process.stdin.close()
        try:
            return self.process.wait(STEP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.backtrace()
            self.process.kill()
            self.process.wait()
            return None

    def backtrace(self):
        """Write down where each thread of a hung target is."""
        with suppress(OSError, subprocess.TimeoutExpired):
            found = subprocess.run(
                ["gdb", "-nx", "-batch", "-p", str(self.pid), "-ex", "thread apply all bt 40"],
                capture_output=True,
                timeout=120,
            )
            (self.folder / "backtrace").write_bytes(found.stdout + found.stderr)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def losses(self):
        """Of every step made, exactly."""
        lines = [line.split() for line in self.out.read_text().splitlines()]
        return [words[1] for words in lines if len(words) == 2 and words[0].isdigit()]

    def gaps(self):
        """When its clock thread was not run on time: (from, until), CLOCK_MONOTONIC seconds."""
        last = self.out.read_text().rpartition("gaps ")[2]
        with suppress(ValueError):
            return json.loads(last)
        return []


class StandStill:
    """Watches from outside how long a process is stopped by a tracer."""

    def __init__(self, pid):
        self._stat = Path(f"/proc/{pid}/stat")
        self._ended = threading.Event()
        self._first = self._last = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self):
        """From the first sight of it stopped to the last; None where it never was."""
        return None if self._first is None else self._last - self._first

    def _watch(self):
        while not self._ended.wait(0.002):
            try:
                state = self._stat.read_bytes().rpartition(b")")[2].split()[0]
            except (OSError, IndexError):
                return
            if state == b"t":
                self._last = time.monotonic()
                self._first = self._first or self._last


@dataclass
class Attempt:
    """One attach and detach."""

    began: float
    ended: float = 0.0
    """When the attach was over, by CLOCK_MONOTONIC."""
    left: float = 0.0
    """When the detach was."""
    fault: str = ""
    """died, hung, given up, refused, no breakdown, wrong breakdown …; empty: all was well."""
    detail: str = ""
    method: str = ""
    said_s: float | None = None
    """The pause that the tool has told."""
    seen_s: float | None = None
    """How long a tracer held it, as seen from outside."""
    waited_s: float | None = None


@dataclass
class Case:
    """All attempts on one target."""

    python: str
    situation: str
    attempts: list = field(default_factory=list)
    fault: str = ""
    folder: Path | None = None
    losses: list = field(default_factory=list)
    gaps: list = field(default_factory=list)

    def own_gaps(self):
        """Of each attempt, the longest that the target's own clock stood still, seconds."""
        longest = []
        for attempt in self.attempts:
            inside = [b - a for a, b in self.gaps if a < attempt.ended and b > attempt.began]
            longest.append(max(inside, default=0.0))
        return longest

    def gap_otherwise(self):
        """The longest that it stood still when nobody attached, seconds."""
        free = [
            b - a
            for a, b in self.gaps
            if all(a > attempt.left or b < attempt.began for attempt in self.attempts)
        ]
        return max(free, default=0.0)


def play(python, situation, folder, attempts, attempt, environment=None):
    """A target, attached to and detached from several times, then told to end."""
    case = Case(python.name, situation)
    target = Target(python.command, situation, folder, environment=environment)
    case.folder = target.folder
    if not target.goes_on(2, START_LIMIT_S):
        case.fault = "did not start"
    for _ in range(0 if case.fault else attempts):
        done = attempt(target.pid)
        done.left = time.monotonic()
        case.attempts.append(done)
        if not target.goes_on():
            died = target.process.poll() is not None
            case.fault = f"died ({target.process.poll()})" if died else "hung"
            break
    code = target.end()
    if code != 0 and not case.fault:
        case.fault = "hung at its end" if code is None else f"ended with {code}"
    case.losses, case.gaps = target.losses(), target.gaps()
    return case


def undisturbed(python, steps, folder):
    """The losses of as many steps with nothing beside the training."""
    target = Target(python.command, "none", folder, steps)
    code = target.process.wait()
    target.process.stdin.close()
    if code:
        sys.exit(f"{python.name}: the undisturbed training ended with {code}: {target.err}")
    return target.losses()


def memray_attempt(python, folder):
    """An attempt that has memray attach with a file and detach."""

    def attempt(pid):
        done = Attempt(time.monotonic())
        with StandStill(pid) as stood:
            for words in (("attach", "-f", "-o", MEMRAY_FILE), ("detach",)):
                began = time.monotonic()
                done.fault, done.detail = _memray(python, [*words, str(pid)], folder)
                if words[0] == "attach":
                    done.waited_s = time.monotonic() - began
                    done.ended, done.seen_s = time.monotonic(), stood.seconds
                if done.fault:
                    break
        Path(f"/proc/{pid}/root{MEMRAY_FILE}").unlink(missing_ok=True)
        return done

    return attempt


def _memray(python, words, folder):
    with tempfile.TemporaryFile("w+", dir=folder) as said:
        process = subprocess.Popen(
            [*python.command, "-m", "memray", *words], stdout=said, stderr=said
        )
        try:
            code = process.wait(STEP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            code = None
        said.seek(0)
        text = said.read().strip()
    if code == 0:
        return "", ""
    return (f"{words[0]} hung" if code is None else f"{words[0]} failed"), text[-300:]

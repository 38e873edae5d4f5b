"""A program in a pseudo-terminal, with what it costs: time to first paint, CPU, RSS."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

import psutil

_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-9;?<>=$]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|.)"
)
_WHERE_IS_THE_CURSOR = b"\x1b[6n"
_WORD = re.compile(rb"[A-Za-z]{3}")


class Terminal:
    """One program under a pty of the given size; use as a context manager."""

    def __init__(self, argv, env, columns=160, rows=50):
        self.started_at = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.process = psutil.Process(self.pid)
        self.output = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.kill(self.pid, signal.SIGTERM)
            self.read_for(1.0)
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self._fd)
        os.waitpid(self.pid, 0)

    def type(self, keys):
        """Send what a terminal would send for keys."""
        os.write(self._fd, keys)

    def read_for(self, seconds, until=None):
        """Read output for a time, or until ``until(output)`` holds; returns whether it held."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            try:
                data = os.read(self._fd, 1 << 16)
                if _WHERE_IS_THE_CURSOR in data:  # gpustat's library waits for the answer
                    os.write(self._fd, b"\x1b[1;1R")
            except OSError:
                break  # the program has ended
            self.output += data
            if until and until(self.output):
                return True
        return False

    def seconds_until(self, condition, limit_s=20.0):
        """Seconds from start until the output fulfils a condition, None if it never does."""
        held = condition(self.output) or self.read_for(limit_s, condition)
        return time.perf_counter() - self.started_at if held else None

    def cpu_percent(self, seconds):
        """CPU of the program and its children over a time, in percent of one core."""
        before = self._cpu_s()
        started = time.perf_counter()
        self.read_for(seconds)
        return 100 * (self._cpu_s() - before) / (time.perf_counter() - started)

    def peak_rss_mib(self):
        """Peak RSS of the program (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def _cpu_s(self):
        times = self.process.cpu_times()
        return times.user + times.system


def has_painted(output):
    """There is a readable word outside escape sequences."""
    return bool(_WORD.search(_ESCAPE.sub(b"", output)))


def shows(text):
    """A condition: this text stands on the screen."""
    wanted = text.encode()
    return lambda output: wanted in _ESCAPE.sub(b"", output)

"""The real app in a real pseudo-terminal, its screen read back through a terminal emulator."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

import pyte


class Screen:
    """``vramtop`` with arguments under a pty of the given size; a context manager."""

    def __init__(self, *arguments, env=None, columns=160, rows=50, module="vramtop"):
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.received = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
            os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    @property
    def text(self):
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def send(self, keys):
        """Type."""
        os.write(self._fd, keys.encode())

    def read(self, seconds):
        """Take in what the app draws for a time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                try:
                    data = os.read(self._fd, 1 << 16)
                except OSError:
                    return  # the app has ended
                self.received += data
                # pyte does not know XTGETTCAP and the kitty keyboard's answers; nor need it.
                self._stream.feed(data)

    def wait_until(self, condition, what, timeout_s=60.0):
        """Read until ``condition(text)`` holds for the screen's text; returns that text."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.read(0.1)
            if condition(self.text):
                return self.text
            assert time.monotonic() < deadline, f"not {what}:\n{self.text}"

    def wait_for(self, *texts, without=(), timeout_s=60.0):
        """Read until all texts stand on the screen, and none of ``without``; returns its text."""
        return self.wait_until(
            lambda shown: (
                all(text in shown for text in texts) and not any(text in shown for text in without)
            ),
            f"{texts} without {without}",
            timeout_s,
        )

    def exit_code(self, timeout_s=30.0):
        """Wait for the app to end."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running\n{self.text}")

"""The tracer's process as its parent sees it: asked in JSON lines, it answers with progress.

Imports neither torch nor transformers: its process does, which takes most of a first answer's time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

from ..errors import UsageError, VramtopError
from ..estimator.result import Progress


class TracerFailed(VramtopError):
    """The tracer's process ended without an answer; the message has its last words."""


class Tracer:
    """A process that traces, started when it is first asked and kept for what is asked next.

    Not for several threads at once, but for ``kill``.
    """

    def __init__(self) -> None:
        self._running: tuple[subprocess.Popen[bytes], _Drain] | None = None
        self._starting = Lock()
        self._is_dead = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._running is not None:
            process, _ = self._running
            self._running = None
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:  # reaped, its pipes closed
                pass

    def kill(self) -> None:
        """End the process for good, from any thread; who waits for an answer gets TracerFailed."""
        with self._starting:
            self._is_dead = True
            if self._running is not None:
                self._running[0].kill()

    def ask(self, request: dict[str, Any], progress: Progress) -> list[dict[str, Any]]:
        """The answer to one request, see ``__main__``.

        A question that is given up (by an exception of ``progress``, Ctrl-C) ends the process, and
        so does one about code of the user's: what that changed, and its modules, go with it.

        Raises:
            UsageError: the workload cannot be traced.
            TracerFailed: the process died.
        """
        keep = False
        try:
            answer = self._answer(request, progress)
            keep = request["workload"]["model"]["entry"] is None
        finally:
            if not keep:
                self.close()
        if "error" in answer:
            raise UsageError(answer["error"])
        traces: list[dict[str, Any]] = answer["traces"]
        return traces

    def _answer(self, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
        process, errors = self._running or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        for line in process.stdout:
            value: dict[str, Any] = json.loads(line)
            if "progress" not in value:
                return value
            progress(value["progress"], value["done"])
        raise TracerFailed(f"the tracer stopped without an answer: {errors.last_line()}")

    def _start(self) -> tuple[subprocess.Popen[bytes], _Drain]:
        with self._starting:
            if self._is_dead:
                raise TracerFailed("the tracer was ended")
            process = subprocess.Popen(
                [sys.executable, "-m", "vramtop.trace"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Few threads: it computes nothing, and idle pools cost start-up time and memory.
                env=dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
                start_new_session=True,  # Ctrl-C is for us to hear; we stop the tracer ourselves
            )
            self._running = process, _Drain(process.stderr)
            return self._running


class _Drain:
    """Reads a pipe to its end in the background, so that the writer never blocks."""

    def __init__(self, pipe: Any) -> None:
        self._text = b""
        self._pipe = pipe
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for chunk in iter(lambda: self._pipe.read1(65536), b""):
                self._text = (self._text + chunk)[-10_000:]

    def last_line(self) -> str:
        """The last words, once the writer has ended."""
        self._thread.join(timeout=1)
        lines = self._text.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

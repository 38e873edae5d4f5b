"""Questions that take seconds, answered one after another on a thread with a tracer of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, Final

from ..errors import VramtopError
from ..estimator.result import Progress
from ..trace.tracer import Tracer

Work = Callable[[Tracer, Progress], Any]
"""What answers a question; runs on the thread, raises VramtopError where there is no answer."""

_IDLE_S: Final = 30.0
"""After which the tracer's process, some hundred MiB, is not worth keeping."""
_SWITCH_S: Final = 0.0005
"""How long the thread may keep the interpreter once the screen's thread wants it: Python's 5 ms,
at each of the dozen waits between a key and its picture, would be seen."""
_KEPT_ANSWERS: Final = 8
_EXIT_S: Final = 0.5
"""How long leaving waits for the thread to see that its tracer is dead."""


class Dropped(VramtopError):
    """Raised by work that has seen that nobody wants its answer any more."""


class Background:
    """One thread and one tracer; only the newest question counts.

    A question that runs is let finish, but its answer is kept only if nothing else was asked in
    the meantime. ``notify`` is called on the thread, after every change of ``progress`` and every
    answer; it must not block.
    """

    def __init__(self, notify: Callable[[], object], *, idle_s: float = _IDLE_S) -> None:
        self._notify = notify
        self._idle_s = idle_s
        self._changed = Condition()
        self._tracer = Tracer()
        self._thread: Thread | None = None
        self._wanted: str | None = None
        """Key of the newest question, until it is answered."""
        self._waiting: tuple[str, Work] | None = None
        self._running: str | None = None
        self._progress = ""
        self._answers: dict[str, Any] = {}
        self._closed = False

    def ask(self, key: str, work: Work) -> None:
        """Ask for ``work``'s answer, in place of whatever is still waiting.

        Nothing is done where the key's answer is there or on its way.
        """
        with self._changed:
            if self._closed:
                return
            known = key in self._answers
            self._wanted = None if known else key
            self._waiting = None if known or key == self._running else (key, work)
            if self._waiting is not None and self._thread is None:
                self._thread = Thread(target=self._serve, name="vramtop-background", daemon=True)
                sys.setswitchinterval(_SWITCH_S)
                self._thread.start()
            self._changed.notify()

    def drop(self) -> None:
        """Nobody wants what was asked any more."""
        with self._changed:
            self._wanted = self._waiting = None

    def wants(self, key: str) -> bool:
        """Whether an answer would be kept; work that can stop in between asks, else Dropped."""
        with self._changed:
            return self._wanted == key

    def answer_of(self, key: str) -> Any:
        """The answer to a question, the VramtopError that it ended in, or None for not yet."""
        with self._changed:
            return self._answers.get(key)

    @property
    def progress(self) -> str:
        """What is being done for the newest question; "" where it is answered."""
        with self._changed:
            if self._wanted is None:
                return ""
            return self._progress if self._running == self._wanted else "waiting"

    def close(self) -> None:
        """End the tracer and the thread; answers within a second whatever they are doing."""
        with self._changed:
            self._closed = True
            self._wanted = self._waiting = None
            thread = self._thread
            self._changed.notify()
        self._tracer.kill()
        if thread is not None:
            thread.join(_EXIT_S)

    def _serve(self) -> None:
        idle = False
        while True:
            with self._changed:
                ready = self._changed.wait_for(
                    lambda: self._closed or self._waiting is not None,
                    None if idle else self._idle_s,
                )
                if self._closed:
                    break
                if self._waiting is not None:
                    (key, work), self._waiting = self._waiting, None
                    self._running, self._progress = key, "starting"
            if not ready:
                self._tracer.close()
                idle = True
                continue
            idle = False
            self._tell()
            answer = self._answer(work)
            with self._changed:
                self._running, self._progress = None, ""
                if isinstance(answer, Dropped):
                    if self._wanted == key:  # again, but only after it was given up
                        self._waiting = key, work
                elif self._wanted == key:
                    self._wanted = None
                    self._answers[key] = answer
                    while len(self._answers) > _KEPT_ANSWERS:
                        del self._answers[next(iter(self._answers))]
            self._tell()
        self._tracer.close()

    def _answer(self, work: Work) -> Any:
        try:
            return work(self._tracer, self._progressed)
        except VramtopError as error:
            return error
        except Exception as error:
            # Ours: everything foreseen is a VramtopError. The screen goes on and says so.
            return VramtopError(f"internal error: {type(error).__name__}: {error}")

    def _progressed(self, text: str, done: float) -> None:
        with self._changed:
            self._progress = f"{text} {100 * done:.0f} %" if done else text
        self._tell()

    def _tell(self) -> None:
        if not self._closed:
            with contextlib.suppress(RuntimeError):  # an event loop that has just ended
                self._notify()

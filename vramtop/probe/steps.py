"""The rate of optimizer steps over the last seconds."""

from __future__ import annotations

from collections import deque

_SPAN_S = 10.0
_SPACING_S = 0.25


class StepClock:
    """Told of every step on the training thread, asked for the rate by the server."""

    def __init__(self) -> None:
        self.step = 0
        """The highest step number heard of."""
        self._ended = 0.0
        self._marks: deque[tuple[float, int]] = deque(maxlen=128)

    def tick(self, now: float, step: int) -> None:
        """An optimizer has ended its step number ``step`` (seconds of a monotonic clock)."""
        if step > self.step:  # else another of several optimizers
            self.step, self._ended = step, now
            if not self._marks or now - self._marks[-1][0] >= _SPACING_S:
                self._marks.append((now, step))

    def restart(self) -> None:
        """Step numbers begin again."""
        self.step = 0
        self._marks.clear()

    def rate(self, now: float) -> float | None:
        """Steps per second; None before the second step. Sinks while no step comes."""
        ended, step = self._ended, self.step
        earlier = [mark for mark in list(self._marks) if mark[1] < step]
        if not earlier:
            return None
        recent = [mark for mark in earlier if ended - mark[0] <= _SPAN_S]
        began, first = recent[0] if recent else earlier[-1]
        rate = (step - first) / max(ended - began, 1e-9)
        idle_s = now - ended
        # A step that takes longer than the ones before says that the rate is lower by now.
        return rate if idle_s <= max(_SPAN_S, 3 / rate) else (step - first) / (now - began)

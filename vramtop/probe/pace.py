"""How often the probe may count: never more than its share of the training's time."""

from __future__ import annotations

import time
from collections import deque

WATCHED_BUDGET = 0.002
UNWATCHED_BUDGET = 0.001
DETAIL_BUDGET = 0.004
"""With what the hooks and the server take, the watched ones stay under one hundredth."""
DETAIL_FLOOR_S = 1.0
WATCHED_FLOOR_S = 0.1
UNWATCHED_FLOOR_S = 1.0
_SPAN_S = 10.0
_MAX_SLOWDOWN = 16
_MAX_NEWS = 32
"""New models and optimizers come seldom; of a program that makes them all the time some wait."""


class Pace:
    """Decides when the next step is sampled, from what the earlier ones have cost."""

    def __init__(self) -> None:
        self.watched_period_s: float | None = None
        """The shortest period that a viewer asks for; None while nobody watches."""
        self._began: float | None = None
        self._first: float | None = None
        self._cost_s = 0.0
        self._slowdown = 1
        self._spent: deque[tuple[float, float]] = deque(maxlen=256)
        self._news: deque[float] = deque()

    def due(self, now: float) -> bool:
        """Whether a sampled step may begin at ``now`` (seconds of ``time.perf_counter``)."""
        return now >= self.due_at()

    def affords_news(self, now: float) -> bool:
        """Whether a boundary never passed before may be counted at once; counts how many."""
        while self._news and now - self._news[0] > _SPAN_S:
            self._news.popleft()
        if len(self._news) >= _MAX_NEWS:
            return False
        self._news.append(now)
        return True

    def due_at(self) -> float:
        """From when on a sampled step may begin."""
        if self._began is None:
            return 0.0
        watched = self.watched_period_s is not None
        floor = max(WATCHED_FLOOR_S, self.watched_period_s or 0.0) if watched else UNWATCHED_FLOOR_S
        return self._began + max(floor, self._cost_s / self.budget) * self._slowdown

    @property
    def budget(self) -> float:
        """The share of time that may be spent now."""
        return UNWATCHED_BUDGET if self.watched_period_s is None else WATCHED_BUDGET

    def begin(self, now: float) -> None:
        """A sampled step begins."""
        self._began = now
        if self._first is None:
            self._first = now

    def spend(self, now: float, cost_s: float) -> None:
        """Time went into watching, of whatever kind."""
        self._spent.append((now, cost_s))

    def end(self, now: float, cost_s: float) -> None:
        """The sampled step is over and cost this much.

        The wait for the next follows from that. Should the total still be over budget, halve the
        rate; not in the first seconds, when the one search for the model weighs most.
        """
        self._cost_s = cost_s
        settled = self._first is not None and now - self._first > 2 * _SPAN_S
        if settled and self.overhead(now) > self.budget:
            self._slowdown = min(self._slowdown * 2, _MAX_SLOWDOWN)
        elif self._slowdown > 1:
            self._slowdown //= 2

    def overhead(self, now: float) -> float:
        """Own time as a share of the last ten seconds (of less, at the start)."""
        spent = [(at, cost) for at, cost in list(self._spent) if now - at <= _SPAN_S]
        if not spent:
            return 0.0
        full = len(spent) < len(self._spent)
        span = _SPAN_S if full else min(max(now - spent[0][0], 1.0), _SPAN_S)
        return sum(cost for _, cost in spent) / span


class DetailPace:
    """Decides when the next step is recorded in detail; only while somebody watches.

    Ranks of one job wait for each other, so that each rank's slow step slows all: all begin theirs
    when the same slot of the clock begins, a power of two of seconds long.
    """

    def __init__(self) -> None:
        self.watched = False
        self.recorded = False
        """Whether one has been, since somebody watches."""
        self._slot_s = DETAIL_FLOOR_S
        self._cost_s = 0.0
        self._slot: int | None = None

    def due(self) -> bool:
        """Whether a recording may begin now."""
        return self.watched and int(time.time() // self._slot_s) != self._slot

    def due_at(self) -> float:
        """From when on, in seconds of ``time.perf_counter``."""
        if not self.watched:
            return float("inf")
        if self._slot is None:
            return 0.0
        return time.perf_counter() + (self._slot + 1) * self._slot_s - time.time()

    def begin(self) -> None:
        """A recording begins."""
        self._slot = int(time.time() // self._slot_s)

    @property
    def overhead(self) -> float:
        """Share of the training's time that goes into it."""
        return self._cost_s / self._slot_s if self.watched else 0.0

    def end(self, cost_s: float) -> None:
        """It is over and has cost this much; another part of the budget is the counting's."""
        self.recorded = True
        self._cost_s = cost_s
        self._slot_s = DETAIL_FLOOR_S
        while self._slot_s * DETAIL_BUDGET < cost_s:
            self._slot_s *= 2
        self.begin()

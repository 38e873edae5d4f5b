"""Lets most hooks return at once: they have something to do about once a second.

A hook finds its code and data cold, since torch has run thousands of operations since the last
one: what it costs is what it touches (measured by tests/bench/probe_cost.py). So most touch this
one object only.
"""

from __future__ import annotations

from .boundaries import NOWHERE, Boundary


class Gate:
    """Read by every hook; set by the observer and by the server, whole values only."""

    def __init__(self) -> None:
        self.thread: int | None = None
        """The thread that trains, None while it is not known or there are several."""
        self.busy = True
        """A step is being sampled or recorded, or several threads train."""
        self.wanted_at = 0.0
        """When the next one may begin, in seconds of ``time.perf_counter``."""
        self.last = NOWHERE
        """The last boundary, whether or not anything was done there."""
        self.known: frozenset[Boundary] = frozenset()
        """Where a count has been taken: anywhere else is something new."""
        self.steps: dict[int, int] = {}
        """How often each optimizer has stepped, by its id."""

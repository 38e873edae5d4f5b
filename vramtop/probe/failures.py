"""Passes on what the hooks hear of failures to whoever wants to know."""

from __future__ import annotations

from typing import Any, Callable

from .faults import Faults


class Failures:
    """Nobody listens at first; what is passed on is not to be kept."""

    def __init__(self, faults: Faults) -> None:
        self.on_forward: Callable[[BaseException], None] | None = None
        """Gets the exception that a root's forward is left by."""
        self.on_boundary: Callable[[], None] | None = None
        """Called at every boundary that is heard."""
        self._faults = faults

    def forward_fails(self, _module: Any, error: BaseException) -> None:
        """As the hook of a root tells; never raises an exception of ours."""
        try:
            if self.on_forward is not None:
                self.on_forward(error)
        except MemoryError:
            pass  # of course
        except Exception as fault:
            self._faults.report("hearing of failures", fault)

"""Passes on what the hooks hear of failures to whoever wants to know."""

from __future__ import annotations

from typing import Any, Callable
from weakref import ref

from .faults import Faults
from .job import Descriptions
from .records import RootRecord


class Failures:
    """Nobody listens at first; what is passed on is not to be kept."""

    def __init__(self, faults: Faults, descriptions: Descriptions) -> None:
        self.on_forward: Callable[[BaseException], None] | None = None
        """Gets the exception that a root's forward is left by."""
        self.on_boundary: Callable[[], None] | None = None
        """Called at every boundary that is heard."""
        self._faults = faults
        self._descriptions = descriptions

    def of(self, record: RootRecord) -> Callable[..., None]:
        """What the hook of a root tells; never raises an exception of ours."""
        known = ref(record)

        def fails(_module: Any, error: BaseException, args: Any = (), kwargs: Any = None) -> None:
            root = known()
            if self.on_forward is not None and root is not None:
                # Which batch has failed: it may be another than that of the last sampled step.
                self._descriptions.called(root, args, kwargs or {}, False)
                self._forward_fails(error)

        return fails

    def _forward_fails(self, error: BaseException) -> None:
        try:
            if self.on_forward is not None:
                self.on_forward(error)
        except MemoryError:
            pass  # of course
        except Exception as fault:
            self._faults.report("hearing of failures", fault)

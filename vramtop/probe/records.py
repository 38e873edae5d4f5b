"""What is known of each model and optimizer; holds them weakly, so that nothing lives longer."""

from __future__ import annotations

import weakref
from typing import Any, Callable

from .calls import Call

_MAX_OWNER_CHANGES = 4


class Record:
    """One watched object; leaves its table when the object dies."""

    def __init__(self, target: Any, table: dict[int, Any], on_death: Callable[[int], None]) -> None:
        key = id(target)

        def died(_: Any) -> None:
            table.pop(key, None)
            on_death(key)

        self.target = weakref.ref(target, died)
        self.owner: int | None = None
        """The thread that trains it; None until it was heard of outside backward."""
        self.shared = False
        """Several threads take turns with it, so that no thread may look at its gradients."""
        self.description: dict[str, Any] | None = None
        self._changes = 0

    def claim(self, thread: int) -> None:
        """It was used by this thread."""
        if self.owner != thread:
            if self.owner is not None:
                self._changes += 1
                self.shared = self._changes >= _MAX_OWNER_CHANGES
            self.owner = thread


class RootRecord(Record):
    """A module whose forwards are heard."""

    def __init__(self, target: Any, table: dict[int, Any], on_death: Callable[[int], None]) -> None:
        super().__init__(target, table, on_death)
        self.hooks: list[Any] = []
        self.handles: list[Any] = []
        """Of the hooks, in the module."""
        self.inner = False
        """It has turned out to be part of another root."""
        self.call: Call | None = None
        """Its last forward that was looked at."""

    def job(self) -> dict[str, Any]:
        """Its entry in a job message."""
        call = {"batch_shapes": []} if self.call is None else self.call.job()
        return {**(self.description or {}), **call}


class OptimizerRecord(Record):
    """An optimizer, and how often it has stepped since the probe knows it."""

    def __init__(
        self,
        target: Any,
        table: dict[int, Any],
        on_death: Callable[[int], None],
        steps: dict[int, int],
    ) -> None:
        super().__init__(target, table, on_death)
        self.rooted = False
        """The modules with its parameters have been looked for."""
        self.states = 0
        """For how many parameters it had state when it was described."""
        self._key = id(target)
        self._steps = steps

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self._steps.get(self._key, 0)

    def job(self) -> dict[str, Any]:
        """Its entry in a job message."""
        return {**(self.description or {}), "steps": self.steps}

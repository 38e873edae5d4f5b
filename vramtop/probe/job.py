"""Keeps what is told of the models and optimizers up to date; on training threads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Callable

from . import describe
from .calls import Call
from .faults import Faults
from .records import OptimizerRecord, Record, RootRecord

_AGE_S = 60.0
_PART = "the description"


class Descriptions:
    """Describes when something is found and when it may have changed."""

    def __init__(self, torch: Any, faults: Faults) -> None:
        self._torch = torch
        self._faults = faults
        self._all_at = float("-inf")

    def root(self, record: RootRecord) -> None:
        """Describe a model anew."""
        self._describe(record, lambda module: describe.model(self._torch, module, self._faults))

    def optimizer(self, record: OptimizerRecord) -> None:
        """Describe an optimizer anew."""

        def tell(instance: Any) -> dict[str, Any]:
            record.states = len(instance.state)
            return describe.optimizer(self._torch, instance)

        self._describe(record, tell)

    def stepped(self, record: OptimizerRecord, instance: Any) -> None:
        """Describe an optimizer anew if its step has made state."""
        if len(instance.state) != record.states:
            self.optimizer(record)

    def called(self, record: RootRecord, args: Any, kwargs: Any, is_recorded: bool) -> None:
        """A root's forward begins; ``is_recorded``: its modules will be heard too."""
        module = record.target()
        if module is None or self._faults.off(_PART):
            return
        try:
            call = Call(self._torch, module, args, kwargs)
        except Exception as error:
            self._faults.report(_PART, error)
            return
        if not is_recorded and record.call is not None:
            call.autocast_inside = record.call.autocast_inside
        record.call = call

    def refresh(self, roots: Iterable[RootRecord], optimizers: Iterable[OptimizerRecord]) -> None:
        """Describe what is new, and everything anew from time to time."""
        now = time.perf_counter()
        is_old = now - self._all_at > _AGE_S
        if is_old:
            self._all_at = now
        for root in roots:
            if is_old or root.description is None:
                self.root(root)
        for optimizer in optimizers:
            if is_old or optimizer.description is None:
                self.optimizer(optimizer)

    def _describe(self, record: Record, tell: Callable[[Any], dict[str, Any]]) -> None:
        target = record.target()
        if target is None or self._faults.off(_PART):
            return
        try:
            record.description = tell(target)
        except Exception as error:
            self._faults.report(_PART, error)

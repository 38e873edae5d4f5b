"""Predictions for the panes that show them; nothing is loaded or begun before one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.message import Message

from ..core.fleet import Fleet
from ..core.model import Process

if TYPE_CHECKING:
    from ..predict.predictions import Prediction, Predictions


class PredictionCame(Message):
    """A prediction, or how far one is; another in the queue says the same."""

    def can_replace(self, message: Message) -> bool:
        """However many wait, one picture is enough (asked by textual)."""
        return isinstance(message, PredictionCame)


class Predicting:
    """What ``Frame.predict`` calls."""

    def __init__(self, notify: Callable[[], object]) -> None:
        """``notify`` is called on another thread when there is something new."""
        self._notify = notify
        self._predictions: Predictions | None = None

    def __call__(self, process: Process, torch_device: str, fleet: Fleet) -> Prediction | None:
        """What the process should hold there, as far as that is known."""
        if self._predictions is None:
            from ..predict.predictions import Predictions

            self._predictions = Predictions(self._notify)
        return self._predictions.of(process, torch_device, fleet)

    def known(self, process: Process, torch_device: str) -> Prediction | None:
        """What was made for the process so far; nothing is begun."""
        if self._predictions is None:
            return None
        return self._predictions.known(process, torch_device)

    def close(self) -> None:
        """End what is being done."""
        if self._predictions is not None:
            self._predictions.close()

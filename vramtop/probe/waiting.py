"""A probe that was attached before torch was there: it listens, says so, and looks for torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

from . import describe
from .frames import is_importing
from .greeting import hello
from .updates import Updates

_LOOK_S = 0.2
"""Who was attached to is late anyway: what is there when torch is found is searched for. A finder
in ``sys.meta_path`` would be told at once, and be seen by everybody."""
SOON_S = 0.005
"""Until the next try of what must not be done while somebody is just there."""


def loaded_torch() -> Any | None:
    """torch, once its import has ended."""
    torch = sys.modules.get("torch")
    spec = getattr(torch, "__spec__", None)
    return None if getattr(spec, "_initializing", False) else torch


class Waiting:
    """What the server sends until there is torch (``server.Content``)."""

    def __init__(self, on_torch: Callable[[], None], leave: Callable[[], None]) -> None:
        self.updates = Updates()
        self._on_torch = on_torch
        self._leave = leave
        self._is_leaving = False

    def hello(self) -> dict[str, Any]:
        """The hello message."""
        return hello()

    def job(self) -> dict[str, Any]:
        """A job of which nothing is known but its rank."""
        return {"type": "job", **describe.environment(None), "models": [], "optimizers": []}

    def sample(self) -> dict[str, Any]:
        """A sample without devices."""
        return {
            "type": "sample",
            "at": time.time(),
            "step": None,
            "steps_per_s": None,
            "overhead_percent": 0.0,
            "devices": [],
            "detail": "off",  # who waits for it would wait for torch
        }

    def history(self) -> Iterator[dict[str, Any]]:
        """Nothing was counted."""
        return iter(())

    def watched(self, period_s: float | None) -> None:
        """No matter: nothing is measured."""

    def detach(self) -> None:
        """A viewer wants the probe out of this process."""
        self._is_leaving = True

    def chores(self) -> float | None:
        """Look for torch; seconds until the next look."""
        if self._is_leaving:
            if is_importing():
                return SOON_S
            self._leave()
            return None
        if loaded_torch() is None:
            return _LOOK_S
        self._on_torch()
        return None

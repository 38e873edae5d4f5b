"""Looks for models that nobody has told of: inference has no optimizer whose step would.

On the server's thread, while somebody watches and nothing is known yet.
"""

from __future__ import annotations

import time
from typing import Any

from .discovery import all_roots

_FIRST_WAIT_S = 5.0
_MAX_WAIT_S = 80.0


class ModelSearch:
    """Searches further and further apart: each takes some tens of milliseconds under the GIL."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._wait_s = _FIRST_WAIT_S
        self._next_at: float | None = None
        self._seen: set[int] = set()

    def roots(self) -> list[Any]:
        """Root modules to be watched now; empty between searches.

        A model still being put together shows pieces that are roots only for now: the same ones
        must be found twice. One that has hooks of its own is left alone, since the thread that
        runs them may be going through them.
        """
        now = time.monotonic()
        if self._next_at is None:
            self._next_at = now + self._wait_s
        if now < self._next_at:
            return []
        self._wait_s = min(2 * self._wait_s, _MAX_WAIT_S)
        self._next_at = now + self._wait_s
        try:
            found = all_roots(self._torch)
        except RuntimeError:  # a dictionary changed while it was read: next time
            return []
        settled = [module for module in found if id(module) in self._seen]
        is_settled = len(settled) == len(found)
        self._seen = {id(module) for module in found}
        if not is_settled:
            return []
        return [m for m in settled if not m._forward_pre_hooks and not m._forward_hooks]

"""What the integrations share: watching what can be watched, and stages that callbacks open."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..probe.api import stage, watch


def watch_all(*objects: Any) -> None:
    """Watch those that are models or optimizers.

    Libraries put stand-ins of their own (DeepSpeed's optimizer, none at all) where these belong.
    """
    for item in objects:
        with suppress(TypeError):
            watch(item)


class OpenStage:
    """At most one stage, begun in one callback and ended in another."""

    def __init__(self) -> None:
        self._open: stage | None = None

    def begin(self, name: str) -> None:
        """Name what follows; ends what an error has left open."""
        self.end()
        self._open = stage(name)
        self._open.__enter__()

    def end(self) -> None:
        """End the stage, if one is open."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None

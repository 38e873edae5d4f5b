"""What deserves a word before it is too late: thresholds passed, and forecasts of OOM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to be warned of; the same ``key`` is the same alert in a later snapshot."""

    key: str
    kind: Literal["threshold", "forecast"]
    text: str
    """In words, one line."""
    pid: int | None = None
    device: str | None = None
    """uuid."""

"""What was, for viewers that come late: at most ``MAX_POINTS`` points a device, then thinned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_POINTS = 3600
SPACING_S = 1.0

Point = list[Any]
"""One point in the order of ``protocol.messages.HISTORY_FIELDS``."""


class History:
    """Written by training threads, read by the server; both see whole lists only."""

    def __init__(self) -> None:
        self._points: dict[str, list[Point]] = {}
        self._spacing_s = SPACING_S
        self._last_at = 0.0

    def due(self, at: float) -> bool:
        """Whether the next point may be added; ``at`` in seconds since the epoch."""
        return at - self._last_at >= self._spacing_s or at < self._last_at

    def add(self, at: float, points: dict[str, Point]) -> None:
        """Add one point for each device."""
        self._last_at = at
        for device, point in points.items():
            kept = self._points.setdefault(device, [])
            kept.append(point)
            if len(kept) > MAX_POINTS:
                self._points = {name: old[::2] for name, old in self._points.items()}
                self._spacing_s *= 2

    def lines(self, points_a_line: int) -> Iterator[dict[str, Any]]:
        """``history`` messages, made one at a time so that a slow viewer costs no memory."""
        for device, points in list(self._points.items()):
            for start in range(0, len(points), points_a_line):
                yield {
                    "type": "history",
                    "device": device,
                    "points": points[start : start + points_a_line],
                }

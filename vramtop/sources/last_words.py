"""What one probe said last, as it said it: kept for the case that it says nothing more."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..protocol.messages import HISTORY_FIELDS
from ..protocol.postmortem import HISTORY_S

_SPACING_S = 1.0
_MAX_POINTS = int(HISTORY_S / _SPACING_S)
_MAX_DEVICES = 64
_MAX_KEPT = 2 * _MAX_DEVICES
"""Messages; names that differ in what no screen shows are one device elsewhere, but not here."""

Message = dict[str, Any]


@dataclass(slots=True)
class LastWords:
    """Bounded: the latest message of each kind, and a minute of its samples as history points.

    Takes in only what ``Told`` has taken before: it has been checked.
    """

    _latest: dict[str, Message] = field(default_factory=dict)
    _points: dict[str, deque[list[Any]]] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Keep one message."""
        kind = message["type"]
        if kind in {"hello", "job", "stages", "sample"}:
            self._latest[kind] = message
        elif kind in {"detail", "segments"}:
            key = f"{kind} {message.get('device')}"
            if key in self._latest or len(self._latest) < _MAX_KEPT:
                self._latest[key] = message
        elif kind == "history":
            for point in message.get("points", [])[-_MAX_POINTS:]:
                self._add(str(message.get("device")), point[: 2 + len(HISTORY_FIELDS)])
        if kind == "sample" and message.get("at") is not None:
            for device in message.get("devices", []):
                sizes = device.get("breakdown")
                if sizes is not None:
                    row = [sizes.get(f"{name}_bytes") for name in HISTORY_FIELDS]
                    point = [message["at"], message.get("step"), *row]
                    self._add(str(device.get("device")), point)

    def messages(self) -> list[Message]:
        """As they would be sent to a viewer that comes now."""
        kept = dict(self._latest)
        first = [kept.pop(kind) for kind in ("hello", "job") if kind in kept]
        last = [kept.pop("sample")] if "sample" in kept else []
        past = [
            {"type": "history", "device": device, "points": list(points)}
            for device, points in self._points.items()
        ]
        return [*first, *past, *kept.values(), *last]

    @property
    def hello(self) -> Message:
        """The first message; empty where it never came."""
        return self._latest.get("hello", {})

    def _add(self, device: str, point: list[Any]) -> None:
        points = self._points.get(device)
        if points is None:
            if len(self._points) >= _MAX_DEVICES:
                return
            points = self._points[device] = deque(maxlen=_MAX_POINTS)
        if not points or not 0 <= point[0] - points[-1][0] < _SPACING_S:
            points.append(point)

"""What went wrong inside the probe: each part is reported once and then stays off."""

from __future__ import annotations

MAX_MESSAGE_CHARS = 300


class Faults:
    """The parts that are off, and why; read by the server, written from any thread."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._off: set[str] = set()

    def off(self, part: str) -> bool:
        """Whether a part has been switched off by a fault."""
        return part in self._off

    def report(self, part: str, error: BaseException) -> None:
        """Switch a part off for good and keep the message for the viewers."""
        self.say(part, f"{type(error).__name__}: {error}")

    def say(self, part: str, why: str) -> None:
        """The same with the reason in words."""
        if part not in self._off:
            self._off.add(part)
            self.messages.append(f"{part} is off: {why}"[:MAX_MESSAGE_CHARS])

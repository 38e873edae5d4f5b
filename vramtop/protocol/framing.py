"""Lines of JSON: encode one message, split a byte stream into messages, bounded."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ProtocolError

MAX_LINE_BYTES = 1 << 20
"""Longest line that a viewer accepts from a probe."""
MAX_REQUEST_BYTES = 4096
"""Longest line that a probe accepts from a viewer."""


def encode(message: dict[str, Any]) -> bytes:
    """One message as a line; NaN and infinity are refused because they are not JSON."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


class LineReader:
    """Collects received bytes and gives the complete messages, never holding over one line more.

    Raises:
        ProtocolError: a line is too long, not JSON, or not an object with a ``type``.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Add received bytes; return the messages that they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._max or any(len(line) > self._max for line in lines):
            raise ProtocolError(f"a line is longer than {self._max} bytes")
        return [_decode(line) for line in lines if line.strip()]


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a line is not JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("a line is not an object with a type")
    return message

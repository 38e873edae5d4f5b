"""One connected viewer: what it asked for, and what has not been taken off our hands yet."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

from ..errors import ProtocolError
from ..protocol import framing
from ..protocol.messages import PERIOD_RANGE_S

MAX_UNSENT_BYTES = 256 << 10
"""Above this a viewer gets no more samples until it reads."""
_MAX_READ_BYTES = 4096


class Viewer:
    """Never blocks: what the socket does not take now stays here, bounded."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.period_s: float | None = None
        """None until it has subscribed."""
        self.next_at = 0.0
        """When its next sample is due (monotonic seconds)."""
        self.dropped = 0
        self.job: dict[str, Any] | None = None
        """The last job message it was sent."""
        self.problems_told = 0
        self.told: dict[str, int] = {}
        """The numbers of the updates that it was sent."""
        self._requests = framing.LineReader(framing.MAX_REQUEST_BYTES)
        self._unsent = bytearray()
        self._history: Iterator[dict[str, Any]] = iter(())

    @property
    def waiting(self) -> bool:
        """Whether there is something the socket did not take."""
        return bool(self._unsent)

    @property
    def full(self) -> bool:
        """Whether it reads too slowly for another sample."""
        return len(self._unsent) > MAX_UNSENT_BYTES

    def requests(self) -> list[dict[str, Any]]:
        """The subscriptions and wishes to detach that have arrived.

        Raises:
            ProtocolError: it sent something else, or too much.
            ConnectionError: it is gone.
        """
        try:
            data = self.connection.recv(_MAX_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("closed")
        return [m for m in self._requests.feed(data) if m["type"] in ("subscribe", "detach")]

    def subscribe(
        self, request: dict[str, Any], history: Iterator[dict[str, Any]], now_s: float
    ) -> None:
        """Take over the wanted period, clamped; begin with the history if it wants that.

        Raises:
            ProtocolError: the period is no number.
        """
        period = request.get("period_s", 1.0)
        if isinstance(period, bool) or not isinstance(period, (int, float)) or period != period:
            # (NaN alone differs from itself; math.isnan fails on long integers.)
            raise ProtocolError("period_s is not a number")
        lowest, highest = PERIOD_RANGE_S
        self.period_s = float(min(max(period, lowest), highest))
        # At once the first time; later the new period holds from the last sample at the latest.
        self.next_at = min(self.next_at, now_s + self.period_s)
        if request.get("history") is True:
            self._history = history

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send what goes.

        Raises:
            OSError: the viewer is gone.
        """
        self._unsent += framing.encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes, the history as far as it is wanted.

        Raises:
            OSError: the viewer is gone.
        """
        while True:
            while self._unsent:
                try:
                    # MSG_NOSIGNAL: the program may have made SIGPIPE deadly.
                    sent = self.connection.send(self._unsent, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    return
                del self._unsent[:sent]
            line = next(self._history, None)
            if line is None:
                return
            self._unsent += framing.encode(line)

    def farewell(self, messages: list[dict[str, Any]], deadline: float) -> None:
        """Send what is left and these as the last lines; blocks until ``deadline`` (monotonic).

        Who is gone, or does not read until then, does not get it.
        """
        self._history = iter(())
        for message in messages:
            self._unsent += framing.encode(message)
        poll = select.poll()
        poll.register(self.connection, select.POLLOUT)
        with contextlib.suppress(OSError):
            while self._unsent:
                left_ms = (deadline - time.monotonic()) * 1000
                if left_ms <= 0 or not poll.poll(left_ms):
                    return
                self.flush()

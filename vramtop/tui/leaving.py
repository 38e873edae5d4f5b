"""Leaving by a signal as by the key, or the terminal stays in the state that the app needs."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import Any

from textual.app import App


def leave_on_signals(app: App[Any]) -> None:
    """SIGTERM and SIGHUP restore the terminal and end the app with the shell's usual code."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, partial(app.exit, return_code=128 + number))

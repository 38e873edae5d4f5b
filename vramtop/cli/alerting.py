"""``--on-alert``: the user's command, run once for each alert when it begins."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ..core.alerts import Alert

QUIET_S: Final = 60.0
"""An alert that was gone for less is still the same one."""
_MAX_RUNNING: Final = 8
"""Commands that hang must not pile up."""


class AlertCommand:
    """Runs a shell command beside the screen, never waiting for it."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._seen_at: dict[str, float] = {}
        """When each alert was last there, seconds since the epoch."""
        self._running: list[subprocess.Popen[bytes]] = []

    def tell(self, alerts: Sequence[Alert], now: float) -> str:
        """Run the command for every alert that is new; what went wrong since, "" if nothing did.

        Args:
            alerts: all that there are now.
            now: seconds since the epoch, by the snapshot.
        """
        failures = self._reap()
        for alert in alerts:
            before = self._seen_at.get(alert.key)
            self._seen_at[alert.key] = now
            if before is not None and now - before <= QUIET_S:
                continue
            if len(self._running) >= _MAX_RUNNING:
                failures.append(f"{_MAX_RUNNING} of them are still running")
                continue
            try:
                self._running.append(self._start(alert))
            except (OSError, ValueError) as error:
                failures.append(str(error))
        old = [key for key, at in self._seen_at.items() if now - at > QUIET_S]
        for key in old:
            del self._seen_at[key]
        return f"alert command failed: {failures[0]}" if failures else ""

    def close(self) -> None:
        """End what still runs, with all that it has started."""
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _start(self, alert: Alert) -> subprocess.Popen[bytes]:
        said = {
            "VRAMTOP_ALERT_TEXT": alert.text,
            "VRAMTOP_ALERT_KIND": alert.kind,
            "VRAMTOP_ALERT_PID": "" if alert.pid is None else str(alert.pid),
            "VRAMTOP_ALERT_DEVICE": alert.device or "",
        }
        return subprocess.Popen(  # noqa: S602  the user's own words, as in any shell
            self._command,
            shell=True,
            env={**os.environ, **said},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # ctrl+c is the app's; `close` ends the whole group
        )

    def _reap(self) -> list[str]:
        ended = [process for process in self._running if process.poll() is not None]
        self._running = [process for process in self._running if process not in ended]
        codes = [process.returncode for process in ended]
        return [
            f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            for code in codes
            if code
        ]

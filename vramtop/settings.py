"""What the user prefers (config.toml, only read) and what the app remembers (state.json).

config.toml lies in platformdirs' user_config_dir("vramtop") and may hold::

    backend = "auto"        # auto | nvml | host
    interval_s = 1.0        # seconds between readings, 0.1 to 60
    readonly = false        # no signals
    theme = "dark"          # dark | light; without it the theme of the last time
    alert_at_percent = 95   # warn of a device as full as that; without it never
    on_alert = 'notify-send "$VRAMTOP_ALERT_TEXT"'   # run once for each alert
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .errors import UsageError

BACKENDS = ("auto", "nvml", "host")
THEMES = ("dark", "light")
INTERVAL_RANGE_S = (0.1, 60.0)
ALERT_RANGE_PERCENT = (1.0, 100.0)
_CONFIG_MAX_BYTES = 64 << 10
_STATE_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Config:
    """The user's preferences; options on the command line win over them."""

    backend: str = "auto"
    interval_s: float = 1.0
    readonly: bool = False
    theme: str | None = None
    alert_at_percent: float | None = None
    on_alert: str | None = None


def config_path() -> Path:
    """Where config.toml is looked for."""
    from platformdirs import user_config_path

    return user_config_path("vramtop") / "config.toml"


def state_path() -> Path:
    """Where state.json is kept."""
    from platformdirs import user_state_path

    return user_state_path("vramtop") / "state.json"


def load_config(path: Path | None = None) -> Config:
    """Read config.toml; a missing file gives the defaults, one in a closed folder is not ours.

    Raises:
        UsageError: the file cannot be read or says something that is not allowed.
    """
    path = path or config_path()
    try:
        with path.open("rb") as file:
            values = tomllib.loads(file.read(_CONFIG_MAX_BYTES).decode())
    except FileNotFoundError:
        return Config()
    except PermissionError as error:
        if not os.access(path.parent, os.X_OK):  # HOME is still another user's: sudo -E, setpriv
            return Config()
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UsageError(f"{path} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    known = {field.name for field in fields(Config)}
    unknown = ", ".join(sorted(values.keys() - known))
    if unknown:
        raise UsageError(f"{path}: unknown {unknown:.200}; known are {', '.join(sorted(known))}")
    _check(path, values)
    return replace(Config(), **values)


def _check(path: Path, values: dict[str, Any]) -> None:
    low, high = INTERVAL_RANGE_S
    interval = values.get("interval_s", low)
    if values.get("backend", "auto") not in BACKENDS:
        raise UsageError(f"{path}: backend must be one of {', '.join(BACKENDS)}")
    if not isinstance(interval, int | float) or not low <= interval <= high:
        raise UsageError(f"{path}: interval_s must be {low:g} to {high:g}")
    if not isinstance(values.get("readonly", False), bool):
        raise UsageError(f"{path}: readonly must be true or false")
    if values.get("theme", THEMES[0]) not in THEMES:
        raise UsageError(f"{path}: theme must be one of {', '.join(THEMES)}")
    low, high = ALERT_RANGE_PERCENT
    percent = values.get("alert_at_percent", low)
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        percent = -1.0
    if not low <= percent <= high:
        raise UsageError(f"{path}: alert_at_percent must be {low:g} to {high:g}")
    if not isinstance(values.get("on_alert", ""), str):
        raise UsageError(f"{path}: on_alert must be a command as text")


def load_state() -> dict[str, Any]:
    """What the app remembered; anything unreadable counts as nothing remembered."""
    try:
        with state_path().open("rb") as file:
            state = json.loads(file.read(_STATE_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def save_state(state: dict[str, Any]) -> None:
    """Replace state.json atomically; failure (full disk, read-only home) costs only the memory."""
    path = state_path()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".state-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(state, file)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)

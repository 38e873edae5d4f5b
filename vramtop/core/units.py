"""Numbers as people read them: bytes, changes, percentages, durations, rates. Pure functions."""

from __future__ import annotations

from typing import Final

NOT_AVAILABLE: Final = "N/A"
"""What is shown for an unknown value; unknown is never shown as 0."""
NONE_SHOWN: Final = "–"
"""Shown where there is nothing, as opposed to something unknown."""

_BYTE_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_bytes(size_bytes: int | None, width: int | None = None) -> str:
    """Bytes in binary units with three significant digits, at most 8 characters up to 1023 EiB.

    Right-aligned to ``width`` characters where given.
    """
    text = NOT_AVAILABLE if size_bytes is None else _bytes_text(size_bytes)
    return text if width is None else text.rjust(width)


def format_delta(change_bytes: int | None) -> str:
    """A change in bytes with its sign; no change has none."""
    if change_bytes is None:
        return NOT_AVAILABLE
    return ("+" if change_bytes > 0 else "") + _bytes_text(change_bytes)


def format_percent(percent: float | None, decimals: int = 1) -> str:
    """A percentage; a value too small for the decimals shows as below them, not as 0."""
    if percent is None:
        return NOT_AVAILABLE
    if percent > 0 and round(percent, decimals) == 0:
        return f"<{10**-decimals:.{decimals}f}%"
    return f"{percent:.{decimals}f}%"


def format_duration(seconds: float | None) -> str:
    """A duration in its two largest units: 350ms, 12s, 3m05s, 2h07m, 4d03h."""
    if seconds is None:
        return NOT_AVAILABLE
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h"


def format_rate(steps_per_s: float | None) -> str:
    """A training's speed; below one step a second the time of a step says more."""
    if steps_per_s is None:
        return NOT_AVAILABLE
    if steps_per_s <= 0:
        return "0 step/s"
    if steps_per_s < 1:
        return f"{_three_digits(1 / steps_per_s)} s/step"
    return f"{_three_digits(steps_per_s)} step/s"


def _bytes_text(size_bytes: int) -> str:
    magnitude = abs(size_bytes)
    if magnitude < 1024:
        return f"{size_bytes} B"
    # The bit length gives the unit without floats, so that no size is off by rounding.
    power = min((magnitude.bit_length() - 1) // 10, len(_BYTE_UNITS))
    value = magnitude / (1 << (10 * power))
    if value >= 1023.5 and power < len(_BYTE_UNITS):
        power, value = power + 1, 1.0
    sign = "-" if size_bytes < 0 else ""
    return f"{sign}{_three_digits(value)} {_BYTE_UNITS[power - 1]}"


def _three_digits(value: float) -> str:
    # The limits lie where rounding would add a digit: 9.996 is 10.0, not 10.00.
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}"

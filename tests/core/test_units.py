from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.core.units import (
    format_bytes,
    format_delta,
    format_duration,
    format_percent,
    format_rate,
)

UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "N/A"),
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1260, "1.23 KiB"),
        (10 * 1024 - 1, "10.0 KiB"),
        (12_897_485, "12.3 MiB"),
        (123 << 20, "123 MiB"),
        (1023 << 20, "1023 MiB"),
        ((1 << 30) - 1, "1.00 GiB"),
        (1_610_612_736, "1.50 GiB"),
        (80 << 30, "80.0 GiB"),
    ],
)
def test_bytes_read_as_people_write_them(size: int | None, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(1, (1 << 60) - 1))
def test_shown_bytes_are_within_half_a_percent_and_narrow(size: int) -> None:
    text = format_bytes(size)
    number, unit = text.split(" ")
    shown = Fraction(number) * 1024 ** UNITS.index(unit)
    assert abs(shown - size) <= Fraction(size, 199)
    assert len(text) <= 8
    assert len(number.replace(".", "")) <= 4


def test_bytes_align_right() -> None:
    assert format_bytes(512, width=8) == "   512 B"
    assert format_bytes(None, width=8) == "     N/A"


@pytest.mark.parametrize(
    ("change", "text"),
    [(None, "N/A"), (0, "0 B"), (1536, "+1.50 KiB"), (-(3 << 30), "-3.00 GiB"), (-7, "-7 B")],
)
def test_changes_carry_their_sign(change: int | None, text: str) -> None:
    assert format_delta(change) == text


@pytest.mark.parametrize(
    ("percent", "decimals", "text"),
    [
        (None, 1, "N/A"),
        (0.0, 1, "0.0%"),
        (0.04, 1, "<0.1%"),
        (12.34, 1, "12.3%"),
        (37.0, 0, "37%"),
        (0.3, 0, "<1%"),
        (1234.0, 0, "1234%"),
    ],
)
def test_percentages(percent: float | None, decimals: int, text: str) -> None:
    assert format_percent(percent, decimals) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "N/A"),
        (0, "0s"),
        (0.35, "350ms"),
        (0.9999, "1s"),
        (12.4, "12s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.7, "1h00m"),
        (7620, "2h07m"),
        (356_400, "4d03h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "N/A"),
        (0.0, "0 step/s"),
        (3.2, "3.20 step/s"),
        (123.4, "123 step/s"),
        (0.4, "2.50 s/step"),
        (1 / 90, "90.0 s/step"),
    ],
)
def test_rates_show_the_step_time_below_one_a_second(rate: float | None, text: str) -> None:
    assert format_rate(rate) == text

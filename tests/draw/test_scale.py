from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.scale import byte_ticks, nice_top, time_axis, time_ticks

GIB = 1 << 30


@pytest.mark.parametrize(
    ("top", "most", "labels"),
    [
        (80 * GIB, 5, ["0 B", "16 GiB", "32 GiB", "48 GiB", "64 GiB", "80 GiB"]),
        (3 * GIB // 2, 4, ["0 B", "512 MiB", "1 GiB", "1.5 GiB"]),
        (3 * GIB // 2, 2, ["0 B", "1 GiB"]),
        (0, 4, ["0 B"]),
        (5, 4, ["0 B", "2 B", "4 B"]),
    ],
)
def test_byte_ticks_are_round(top: float, most: int, labels: list[str]) -> None:
    assert [label for _, label in byte_ticks(top, most)] == labels


@given(st.integers(1, 1 << 45), st.integers(1, 12))
def test_ticks_fit_and_the_top_is_one(largest: int, most: int) -> None:
    ticks = [tick for tick, _ in byte_ticks(largest, most)]
    assert len(ticks) <= most + 1
    steps = {b - a for a, b in pairwise(ticks)}
    assert all(step & (step - 1) == 0 for step in steps)
    top = nice_top(largest, most)
    assert largest <= top < 2 * largest + 1
    assert top in [tick for tick, _ in byte_ticks(top, most)]


def test_time_axes() -> None:
    assert time_axis(300, 60) == ("-5m        -4m         -3m        -2m         -1m        now")
    assert time_axis(60, 40) == "-1m     -45s     -30s      -15s      now"
    assert time_axis(90, 24) == "-1m30s -1m   -30s    now"
    assert time_axis(300, 2) == "  "


@given(st.floats(1, 1e6), st.integers(1, 200))
def test_a_time_axis_has_its_width_and_whole_labels(span_s: float, width: int) -> None:
    line = time_axis(span_s, width)
    assert len(line) == width
    labels = {label for _, label in time_ticks(span_s, width)}
    assert set(line.split()) <= labels
    assert all(0 <= column < width for column, _ in time_ticks(span_s, width))

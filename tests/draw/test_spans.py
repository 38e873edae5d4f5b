"""Bars of phases, as they look."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.spans import span_bar

PARTS = [("parameter", 4.0), ("gradient", 2.0), ("state", 0.0), ("activation", 4.0)]


def text(*arguments: object, **more: object) -> str:
    return "".join(run.text for run in span_bar(*arguments, **more))  # type: ignore[arg-type]  # passed on


def test_what_is_held_then_the_peak_then_the_ceiling() -> None:
    assert text(PARTS, 24, 24, 16, 20, mono=True) == "████▓▓░░░░╌╌╌╌╌╌┤   ┊   "
    assert text(PARTS, 24, 24, 16, 20, ascii=True) == "####==::::------|   :   "


def test_bars_of_one_scale_can_be_compared() -> None:
    bars = [
        text([("parameter", held)], 12, 12, peak, 12, mono=True)
        for held, peak in ((4, 4), (4, 10), (9, 12), (5, None))
    ]
    assert bars == [
        "████┤      ┊",
        "████╌╌╌╌╌╌┤┊",
        "█████████╌╌┤",
        "█████      ┊",
    ]


def test_a_sum_of_unknown_parts_is_a_thin_bar() -> None:
    assert text(6, 12, 12, 9, 11, mono=True) == "▬▬▬▬▬▬╌╌╌┤ ┊"
    assert text(6.0, 12, 12, 9, 11, ascii=True) == "~~~~~~---| :"


def test_a_full_bar_leaves_no_room_for_marks() -> None:
    assert text([("parameter", 30)], 8, 24, 40, 40, mono=True) == "████████"


def test_without_room_or_scale_there_is_no_bar() -> None:
    assert span_bar(PARTS, 0, 10) == []
    assert span_bar(PARTS, 10, 0) == []


def test_nothing_held_still_shows_its_peak() -> None:
    assert text([("parameter", 0)], 8, 8, 4, mono=True) == "╌╌╌╌┤   "


@pytest.mark.parametrize("mono", [True, False])
@given(
    sizes=st.lists(st.integers(0, 1 << 36), min_size=1, max_size=8),
    beyond=st.integers(0, 1 << 36),
    width=st.integers(1, 120),
    spare=st.integers(0, 1 << 36),
)
def test_it_fills_its_width_whatever_it_shows(
    mono: bool, sizes: list[int], beyond: int, width: int, spare: int
) -> None:
    parts = [(str(i), float(size)) for i, size in enumerate(sizes)]
    peak = sum(sizes) + beyond
    top = peak + spare
    assert len(text(parts, width, top, peak, top, mono=mono)) == (width if top else 0)

"""Pairs of bars, as they look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.pairs import one_bar, two_bars


def text(runs):
    return "".join(run.text for run in runs)


def two(*arguments):
    return [text(runs) for runs in two_bars(*arguments)]


def test_predicted_is_hatched_and_actual_solid_on_one_scale():
    assert two(8, 6, 12, 12) == [
        "░░░░░░░░    ",
        "██████      ",
    ]
    assert two(4, 4.5, 12, 12) == [
        "░░░░        ",
        "████▌       ",
    ]


def test_what_is_little_is_still_seen_and_nothing_is_not():
    assert two(0.01, 0.01, 6, 12) == ["░     ", "▏     "]
    assert two(0, 0, 6, 12) == ["      ", "      "]
    assert two(None, 12, 6, 12) == ["      ", "██████"]
    assert two(12, None, 6, 12) == ["░░░░░░", "      "]


def test_in_one_line_the_rest_of_the_predicted_follows_the_actual():
    assert text(one_bar(9, 6, 12, 12)) == "██████░░░   "
    assert text(one_bar(9, None, 12, 12)) == "░░░░░░░░░   "
    assert text(one_bar(9, 6.5, 12, 12)) == "██████▌░░   "


def test_in_one_line_a_mark_says_where_the_predicted_ends_in_what_is_more():
    assert text(one_bar(4, 9, 12, 12)) == "████┃████   "
    assert text(one_bar(0, 9, 12, 12)) == "┃████████   "
    assert text(one_bar(None, 9, 12, 12)) == "█████████   "


def test_as_predicted_there_is_neither_mark_nor_hatching():
    assert text(one_bar(9, 9, 12, 12)) == "█████████   "
    assert text(one_bar(6.2, 6.4, 12, 12)) == "██████▍     "
    assert text(one_bar(6.6, 6.4, 12, 12)) == "██████▍     "


def test_more_than_the_scale_is_cut():
    assert two(30, 40, 5, 12) == ["░░░░░", "█████"]
    assert text(one_bar(40, 30, 5, 12)) == "█████"


sizes = st.none() | st.integers(0, 1 << 40)


@pytest.mark.parametrize("top", [0, 1, 1 << 20])
@given(predicted=sizes, actual=sizes, width=st.integers(0, 90))
def test_every_bar_has_its_width(top, predicted, actual, width):
    for bar in (*two_bars(predicted, actual, width, top), one_bar(predicted, actual, width, top)):
        assert len(text(bar)) == width

from __future__ import annotations

import pytest

from vramtop.draw.braille import spark


def test_a_rising_line() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 4) == ["⣀⠤⠒⠉"]


def test_two_rows_make_eight_levels() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 4, 2) == ["  ⡠⠊", "⡠⠊  "]


def test_a_jump_is_joined() -> None:
    assert spark([0, 0, 7, 7, 0, 0], 3, 2) == [" ⡏⡆", "⣀⠇⣇"]


def test_few_values_stand_at_the_right() -> None:
    assert spark([3, 3], 4, hi=3.0) == ["   ⠉"]


def test_holes_stay_holes() -> None:
    assert spark([3, 3, None, None, 3, 3], 3, hi=3.0) == ["⠉ ⠉"]


def test_peaks_survive_when_there_are_more_values_than_dots() -> None:
    values = [0.0] * 100
    values[50] = 9.0
    assert spark(values, 5) == ["⣀⣀⡸⣆⣀"]
    assert spark([1.0] * 100, 5, hi=1.0) == ["⠉⠉⠉⠉⠉"]


def test_values_beyond_the_range_are_at_its_edge() -> None:
    assert spark([-5, -5, 99, 99], 2, lo=0.0, hi=3.0) == spark([0, 0, 3, 3], 2, lo=0.0, hi=3.0)


def test_a_flat_or_empty_line() -> None:
    assert spark([0, 0, 0, 0], 2) == ["⣀⣀"]
    assert spark([], 3) == ["   "]
    assert spark([None, None], 1, 2) == [" ", " "]
    assert spark([1, 2], 0) == []


@pytest.mark.parametrize(("height", "lines"), [(1, ["_..-^^"]), (2, ["   _-^", "_-^   "])])
def test_ascii(height: int, lines: list[str]) -> None:
    assert spark([0, 1.5, 3, 4, 6, 7], 6, height, ascii=True) == lines

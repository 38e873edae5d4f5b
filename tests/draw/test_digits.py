from __future__ import annotations

from vramtop.draw.digits import big_digits


def test_every_digit_in_half_blocks() -> None:
    assert big_digits("0123456789") == [
        "█▀█ ▄█  ▀▀█ ▀▀█ █ █ █▀▀ █▀▀ ▀▀█ █▀█ █▀█",
        "█ █  █  █▀▀ ▀▀█ ▀▀█ ▀▀█ █▀█  ▄▀ █▀█ ▀▀█",
        "▀▀▀ ▀▀▀ ▀▀▀ ▀▀▀   ▀ ▀▀▀ ▀▀▀  ▀  ▀▀▀ ▀▀▀",
    ]


def test_large_ones_are_twice_as_wide() -> None:
    assert big_digits("23", large=True) == [
        "██████  ██████",
        "    ██      ██",
        "██████  ██████",
        "██          ██",
        "██████  ██████",
    ]


def test_ascii_and_signs() -> None:
    assert big_digits("1+", ascii=True) == [
        " #     ",
        "##   # ",
        " #  ###",
        " #   # ",
        "###    ",
    ]
    assert big_digits("–") == ["   ", "▀▀▀", "   "]


def test_what_has_no_picture_is_left_out() -> None:
    assert big_digits("1,024") == big_digits("1024")
    assert big_digits("") == ["", "", ""]

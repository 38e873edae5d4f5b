from __future__ import annotations

import pytest

from vramtop.draw.curve import Curve, Dot, curve, put, row_of, runs, scale

KEYS = ("parameter", "activation")
RAMP = [[4.0, float(size)] for size in range(0, 32, 2)]
"""Column x holds 4 + 2x; eight rows of 4 each reach to 32."""


def picture(rows: list[list[Dot]]) -> list[str]:
    return ["".join(dot.glyph for dot in row) for row in rows]


def test_layers_below_the_ceiling_and_hatching_beyond_the_cliff() -> None:
    drawn = Curve(RAMP, KEYS, 32.0, ceiling=22.0, beyond_from=8)
    assert picture(curve(drawn, 8)) == [
        "        ┃╱╱╱╱╳╳╳",
        "        ┃╱ OOM ╳",
        "━━━━━━━━┃━━━━━━━",
        "       ▄┃╳╳╳╳╳╳╳",
        "     ▄██┃╳╳╳╳╳╳╳",
        "   ▄████┃╳╳╳╳╳╳╳",
        " ▄██████┃╳╳╳╳╳╳╳",
        "████████┃╳╳╳╳╳╳╳",
    ]


def test_in_ascii_each_layer_has_its_glyph() -> None:
    drawn = Curve(RAMP, KEYS, 32.0, 22.0, 8, glyphs=("#", "+"))
    assert picture(curve(drawn, 8, ascii=True)) == [
        "        |////XXX",
        "        |/ OOM X",
        "========|=======",
        "       +|XXXXXXX",
        "     +++|XXXXXXX",
        "   +++++|XXXXXXX",
        " +++++++|XXXXXXX",
        "########|XXXXXXX",
    ]


def test_what_is_not_drawn_yet_is_an_outline_and_the_cursor_a_line() -> None:
    assert picture(curve(Curve(RAMP, KEYS, 32.0, cursor=4, drawn_to=6), 8)) == [
        "    ┊        ···",
        "    ┊      ··   ",
        "    ┊    ··     ",
        "    ┊  ··       ",
        "    ┊▄·         ",
        "   ▄│█          ",
        " ▄██│█          ",
        "████│█          ",
    ]


def test_the_word_stands_wherever_there_is_room() -> None:
    narrow = picture(curve(Curve(RAMP, KEYS, 32.0, 22.0, 12), 8))
    assert narrow[1] == "           ▄┃OOM"
    whole = picture(curve(Curve(RAMP, KEYS, 32.0, 22.0, 0), 4))
    assert whole[:2] == ["┃╱╱╱╱╱ OOM ╳╳╳╳╳", "┃━━━━━━━━━━━━━━━"]
    assert "O" not in "".join(picture(curve(Curve(RAMP, KEYS, 32.0, 22.0, 14), 8)))
    assert "O" not in "".join(picture(curve(Curve(RAMP, KEYS, 32.0, 22.0), 8)))


def test_keys_say_what_a_cell_is() -> None:
    rows = curve(Curve(RAMP, KEYS, 32.0, ceiling=22.0, beyond_from=8), 8)
    assert rows[2][0].key == "limit"
    assert rows[0][9].key == "beyond"
    assert rows[7][0].key == "parameter"
    assert rows[5][5].key == "activation"
    assert rows[6][12].key == "over"
    assert {row[8].key for row in rows} == {"edge"}
    assert [(run.key, len(run.text)) for run in runs(rows[3])] == [
        ("text", 7),
        ("activation", 1),
        ("error", 8),
    ]


def test_writing_over_a_picture_cuts_what_lies_outside() -> None:
    rows = curve(Curve([[0.0]] * 4, ("parameter",), 8.0), 2)
    put(rows, 0, 2, "abc", "error")
    put(rows, 1, -1, "xy", "error")
    put(rows, 7, 0, "z", "error")
    assert picture(rows) == ["  ab", "y   "]


def test_rows_count_from_the_top() -> None:
    assert [row_of(value, 8, 32.0) for value in (32, 31, 22, 4, 0.5, 0, 99)] == [
        *(0, 0, 2, 7, 7, 7, 0)
    ]


def test_the_scale_shows_the_ceiling_unless_it_is_far_above() -> None:
    assert scale(100, 200, has_cliff=True) == (pytest.approx(230), 200)
    assert scale(1000, 200, has_cliff=True) == (320, 200)
    assert scale(10, 200, has_cliff=False) == (12, None)
    assert scale(150, None, has_cliff=False) == (192, None)


def test_no_room_and_no_columns() -> None:
    assert curve(Curve(RAMP, KEYS, 32.0), 0) == []
    assert curve(Curve([], KEYS, 32.0), 2) == [[], []]

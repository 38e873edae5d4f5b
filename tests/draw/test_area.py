from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.area import Cell, stacked_area


def picture(rows: list[list[Cell]]) -> list[str]:
    return ["".join(cell.glyph for cell in row) for row in rows]


def test_a_ramp_rises_by_eighths() -> None:
    columns = [[float(size)] for size in range(17)]
    assert picture(stacked_area(columns, 2, 16)) == [
        "         ▁▂▃▄▅▆▇█",
        " ▁▂▃▄▅▆▇█████████",
    ]


def test_layers_meet_inside_a_cell() -> None:
    (upper, lower) = stacked_area([[5.0, 7.0, 0.0]], 2, 16)
    assert lower == [Cell("▅", 0, 1)]
    assert upper == [Cell("▄", 1, None)]


def test_three_layers_in_one_cell_show_the_two_largest() -> None:
    assert stacked_area([[4.0, 1.0, 3.0]], 1, 8) == [[Cell("▅", 0, 2)]]


def test_the_surface_has_room_for_one_layer() -> None:
    assert stacked_area([[1.0, 4.0]], 1, 8) == [[Cell("▅", 1, None)]]


def test_gaps_are_blank_and_a_ceiling_runs_where_nothing_is() -> None:
    columns = [[16.0], None, [4.0], None]
    assert picture(stacked_area(columns, 4, 16, ceiling=14.0)) == [
        "█───",
        "█   ",
        "█   ",
        "█ █ ",
    ]


def test_what_exceeds_the_top_is_cut() -> None:
    assert picture(stacked_area([[5.0, 50.0]], 3, 15)) == ["█", "█", "█"]


def test_without_colour_each_layer_has_a_glyph() -> None:
    columns: list[list[float] | None] = [[4, 4, 4], [8, 4, 0], None, [1, 0, 11]]
    assert picture(stacked_area(columns, 3, 12, mono=True)) == [
        "▒▓ ▒",
        "▓█ ▒",
        "██ ▒",
    ]
    assert picture(stacked_area(columns, 3, 12, ascii=True, ceiling=11.0)) == [
        "+=-+",
        "=# +",
        "## +",
    ]


def test_no_room_and_no_columns() -> None:
    assert stacked_area([[1.0]], 0, 1.0) == []
    assert stacked_area([], 3, 1.0) == [[], [], []]
    assert picture(stacked_area([[1.0]], 2, 0.0)) == [" ", " "]


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(1, 12), st.integers(1, 200)
)
def test_the_surface_is_at_the_sum_of_the_layers(layers: list[int], height: int, top: int) -> None:
    rows = stacked_area([layers], height, top)
    eighths = sum(" ▁▂▃▄▅▆▇█".index(row[0].glyph) if row[0].bg is None else 8 for row in rows)
    assert abs(eighths - min(sum(layers) / top, 1) * height * 8) <= 0.5
    shown = [layer for row in reversed(rows) for layer in (row[0].fg, row[0].bg)]
    order = [layer for layer in shown if layer is not None]
    assert order == sorted(order)

"""Segment maps, as they look."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.segmap import GAP, cell_bytes_for, segment_rows

GLYPHS = {"p": "P", "a": "A", "hole": "·", "gone": "x"}


def drawn(segments: list[list[tuple[str, int]]], width: int, cell: int) -> list[str]:
    rows = segment_rows(segments, width, cell, GLYPHS)
    return ["".join(run.text for run in row) for row in rows]


def test_segments_stand_apart_and_holes_where_they_are() -> None:
    segments = [[("p", 6), ("hole", 2), ("a", 4)], [("a", 4), ("gone", 1)], [("hole", 3)]]
    assert drawn(segments, 30, 1) == ["PPPPPP··AAAA AAAAx ···"]
    assert drawn(segments, 20, 1) == ["PPPPPP··AAAA AAAAx", "···"]


def test_a_long_segment_goes_on_in_the_next_row_one_cell_further_in() -> None:
    assert drawn([[("p", 13), ("a", 7), ("hole", 4)], [("a", 2)]], 10, 1) == [
        "PPPPPPPPPP",
        " PPPAAAAAA",
        " A···· AA",
    ]


def test_a_segment_has_a_cell_however_small() -> None:
    assert drawn([[("p", 64)], [("a", 1)], [("hole", 2)]], 20, 16) == ["PPPP A ·"]


def test_small_holes_are_shown_as_often_as_they_fill_a_cell_together() -> None:
    # A quarter of every 4 bytes is a hole: a cell of 4 bytes never holds mostly hole.
    alternating = [("a", 3), ("hole", 1)] * 16
    (row,) = drawn([alternating], 40, 4)
    assert row == "AA·AAA·AAA·AAA·A"
    assert Counter(row) == {"A": 12, "·": 4}


def test_the_scale_is_the_smallest_that_fits() -> None:
    one = [[[("p", 64)]]]
    assert cell_bytes_for(one, 32, 1) == 2
    assert cell_bytes_for(one, 32, 2) == 2  # the second row begins one cell further in
    assert cell_bytes_for(one, 33, 2) == 1
    many = [[[("p", 2)]] * 100]
    assert len(drawn(many[0], 10, cell_bytes_for(many, 10, 4))) == 20  # they scroll


sizes = st.lists(
    st.tuples(st.sampled_from(list(GLYPHS)), st.integers(1, 1 << 30)), min_size=1, max_size=12
)


@given(st.lists(sizes, min_size=1, max_size=8), st.integers(2, 100), st.integers(1, 8))
def test_cells_are_in_proportion_and_rows_within_the_width(
    segments: list[list[tuple[str, int]]], width: int, lines: int
) -> None:
    cell = cell_bytes_for([segments], width, lines)
    rows = segment_rows(segments, width, cell, GLYPHS)
    assert all(sum(len(run.text) for run in row) <= width for row in rows)
    shown = Counter[str]()
    for row in rows:
        for run in row:
            shown[run.key] += len(run.text) * (run.key != GAP)
    total = sum(size for segment in segments for _, size in segment)
    assert abs(sum(shown.values()) - total / cell) <= len(segments)
    for key in GLYPHS:
        bytes_of_key = sum(size for segment in segments for k, size in segment if k == key)
        # No segment owes any of its keys as much as the number of its keys in cells.
        assert abs(shown[key] - bytes_of_key / cell) <= 4 * len(segments)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.core.devices import SEGMENT_LABELS
from vramtop.draw.blocks import Run, part_glyph, stacked_bar

PARTS = [("parameter", 2.0), ("gradient", 1.0), ("state", 4.0), ("free", 3.0)]


def text(runs: list[Run]) -> str:
    return "".join(run.text for run in runs)


def test_each_part_has_its_glyph_without_colour() -> None:
    assert text(stacked_bar(PARTS, 20, mono=True)) == "████▓▓▒▒▒▒▒▒▒▒░░░░░░"
    assert text(stacked_bar(PARTS, 20, ascii=True)) == "####==++++++++::::::"


def test_an_absent_part_does_not_change_the_others_glyphs() -> None:
    parts = [("parameter", 2.0), ("gradient", 0.0), ("state", 2.0)]
    assert text(stacked_bar(parts, 8, mono=True)) == "████▒▒▒▒"


def test_as_many_glyphs_as_a_device_has_parts() -> None:
    assert len({part_glyph(i) for i in range(len(SEGMENT_LABELS))}) == len(SEGMENT_LABELS)
    assert len({part_glyph(i, ascii=True) for i in range(len(SEGMENT_LABELS))}) == 15


def test_parts_meet_at_eighths_of_a_cell() -> None:
    # 8 cells: 2.5 of a, 5.5 of b.
    assert stacked_bar([("a", 5), ("b", 11)], 8) == [
        Run("a", "██", None),
        Run("a", "▌", "b"),
        Run("b", "█████", None),
    ]


def test_whole_cells_have_no_background() -> None:
    assert stacked_bar([("a", 1), ("b", 1)], 4) == [Run("a", "██", None), Run("b", "██", None)]


def test_a_small_part_between_two_large_ones_is_seen() -> None:
    # b is worth a fifth of a cell and straddles two.
    assert stacked_bar([("a", 4.5), ("b", 0.2), ("c", 5.3)], 10) == [
        Run("a", "████", None),
        Run("a", "▌", "b"),
        Run("b", "▌", "c"),
        Run("c", "████", None),
    ]


def test_less_than_an_eighth_of_a_cell_is_not_shown() -> None:
    assert text(stacked_bar([("a", 100), ("b", 1)], 10, mono=True)) == "██████████"


def test_more_parts_than_cells_show_the_largest() -> None:
    assert text(stacked_bar([("a", 1), ("b", 3), ("c", 2)], 2, mono=True)) == "▓▒"


@pytest.mark.parametrize("width", [0, -1])
def test_no_room_is_no_bar(width: int) -> None:
    assert stacked_bar(PARTS, width) == []


def test_nothing_is_no_bar() -> None:
    assert stacked_bar([], 10) == []
    assert stacked_bar([("a", 0)], 10) == []


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0.001, 1e12)), min_size=1, max_size=10),
    st.integers(1, 120),
    st.sampled_from(["colour", "mono", "ascii"]),
)
def test_a_bar_fills_its_width_and_is_in_proportion(
    sizes: list[float], width: int, style: str
) -> None:
    parts = [(str(i), size) for i, size in enumerate(sizes)]
    runs = stacked_bar(parts, width, mono=style == "mono", ascii=style == "ascii")
    total = sum(sizes)
    if total <= 0:
        assert runs == []
        return
    assert len(text(runs)) == width
    # Count the eighths of a cell that each part covers.
    covered = dict.fromkeys((key for key, _ in parts), 0.0)
    for run in runs:
        if run.under is None:
            covered[run.key] += len(run.text)
        else:
            eighths = " ▏▎▍▌▋▊▉".index(run.text)
            covered[run.key] += eighths / 8
            covered[run.under] += 1 - eighths / 8
    assert sum(covered.values()) == pytest.approx(width)
    shares = {key: size * width / total for key, size in parts}
    visible = [key for key, share in shares.items() if share >= 0.1251]
    if len(visible) <= width // 2:
        assert all(covered[key] >= 0.999 for key in visible)
    for key, share in shares.items():
        # Never more than a cell over what is due; under it only to make room for small ones.
        assert covered[key] <= share + 1 + 0.125 * len(parts)

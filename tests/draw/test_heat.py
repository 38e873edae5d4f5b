from __future__ import annotations

from typing import Any

from vramtop.draw.heat import CELL, heat_row

SQUARES = [("fits", 0.07), ("fits", 0.874), ("tight", 0.98), ("oom", 12.4), ("oom", 1300.0), None]


def text(**marks: Any) -> str:
    return "".join(run.text for run in heat_row(SQUARES, **marks))


def test_glyphs_shares_and_marks() -> None:
    assert text() == " ✓  7%  ✓ 87%  ~ 98%  × 12x  ×>1kx    –   "
    assert text(cursor=1) == " ✓  7% [✓ 87%] ~ 98%  × 12x  ×>1kx    –   "
    assert text(cursor=2, present=2) == " ✓  7%  ✓ 87% ◆~ 98%] × 12x  ×>1kx    –   "
    assert text(ascii=True, present=0) == "*+  7%  + 87%  ~ 98%  x 12x  x>1kx    -   "


def test_every_cell_has_its_width_and_the_tone_of_its_verdict() -> None:
    runs = heat_row(SQUARES)
    assert {len(run.text) for run in runs} == {CELL}
    assert [run.key for run in runs] == ["good", "good", "warn", "error", "error", "dim"]

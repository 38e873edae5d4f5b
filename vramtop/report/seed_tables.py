"""The seed texts' tables as plain text, each figure as printed, as computed, and true."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from ..core.units import NONE_SHOWN
from ..estimator.seed import Figure, Recipe, Table, Truth, recipes, tables

_GB: Final = 1_000_000_000
_HEADS: Final = ("", "PRINTED", "FORMULA", "TRUE", "FORMULA IS OFF BY")
_INTRODUCTION: Final = (
    "The formulas and tables of the two texts that the project began with: as printed, as their "
    "own formulas give it, and true. Text 1: GPU Memory Benchmarks: Will This Model Fit? "
    "Text 2: How Much GPU Memory Can One Model Use? GB is 10⁹ bytes on this page, as in text 1."
)


def render_tables(truth: Truth, width: int = 100) -> str:
    """Every table and recipe of the texts, in lines of at most ``width`` characters.

    ``truth`` gives the true footprint of a workload by a better method, None where it has none.
    """
    blocks = [textwrap.fill(_INTRODUCTION, width)]
    blocks += ["\n".join(_table(table, width)) for table in tables(truth)]
    blocks += ["\n".join(_recipe(recipe, width)) for recipe in recipes(truth)]
    return "\n\n".join(blocks)


def _table(table: Table, width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"{table.title} (text {table.text})", width)
    rows = [_HEADS, *(_cells(figure) for figure in table.figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    for row in rows:
        cells = (cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True))
        yield f"  {row[0]:<{widths[0]}}  {'  '.join(cells)}".rstrip()[:width]
    if table.about:
        yield from _paragraph(f"true: {table.about}", "  ", width)
    for line in table.wrong:
        yield from _paragraph(line, "  ! ", width)


def _recipe(recipe: Recipe, width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"{recipe.title} (text {recipe.text})", width)
    for number, step in enumerate(recipe.steps, 1):
        yield from _paragraph(step.advice, f"  {number}. ", width)
        change = f"{_bytes(step.before_bytes)} → {_bytes(step.after_bytes)}"
        yield from _paragraph(f"true: {change}", "     ", width)
        yield from _paragraph(step.verdict, "     ! ", width)
    if recipe.about:
        yield from _paragraph(f"true: {recipe.about}", "  ", width)


def _paragraph(text: str, lead: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False
    )


def _cells(figure: Figure) -> tuple[str, ...]:
    values = (figure.printed, figure.seed, figure.true)
    return (figure.label, *(_value(value, figure.unit) for value in values), _error(figure))


def _error(figure: Figure) -> str:
    if figure.seed is None or not figure.true:
        return NONE_SHOWN
    return f"{(figure.seed / figure.true - 1) * 100:+.0f} %"


def _value(value: float | None, unit: str) -> str:
    if unit == "bytes":
        return _bytes(value)
    if value is None:
        return NONE_SHOWN
    return f"{value:.0f}" if unit == "count" else f"{value:.2f} ×"


def _bytes(value: float | None) -> str:
    """GB of 10⁹ as the texts count; what they give in MB stays so."""
    if value is None:
        return NONE_SHOWN
    if 0 < value < _GB / 10:
        return f"{value / 1e6:.{1 if value > _GB / 100 else 2}f} MB"
    return f"{value / _GB:.1f} GB"

"""A failure's story as lines of toned text, for the terminal's scrollback and for the screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Final, NamedTuple

from ..core.breakdowns import layers
from ..core.history import total_bytes
from ..core.memory import CATEGORIES
from ..core.postmortem_story import HISTORY_S, Story, StoryRow
from ..core.texts import printable
from .area import Cell
from .blocks import part_glyph
from .scale import time_axis
from .timeline import timeline

_SPANS_S: Final = (5, 10, 15, 30, HISTORY_S)
_HEADS: Final = ("LAST SEEN", "AT PEAK", "PREDICTED")
_LABEL: Final = 14
_ROW_LABEL: Final = 19
_SIZE: Final = 11
_AXIS: Final = 9
_HEIGHT: Final = 8
_MOST_WIDTH: Final = 110


class Toned(NamedTuple):
    """Text in a tone of ``tones``; "strong" is the text's own, bold."""

    text: str
    tone: str = "text"
    on: str = "background"


ToneLine = Sequence[Toned]


def story_lines(
    story: Story,
    width: int,
    mono: bool = False,
    ascii: bool = False,  # noqa: A002
) -> list[ToneLine]:
    """The verdict, what to change, what was held, the moment, the last minute, the traceback."""
    width = max(min(width, _MOST_WIDTH), 40)
    parts = (
        wrapped(story.sentence, width, "strong" if story.failure.caught else "error"),
        _remedies(story, width),
        _rows(story, mono=mono, ascii=ascii),
        _facts(story, width),
        _timeline(story, width, mono=mono, ascii=ascii),
        _traceback(story, width),
    )
    found: list[ToneLine] = []
    for part in parts:
        lines = list(part)
        if lines and found:
            found.append(())
        found += lines
    return found


def _remedies(story: Story, width: int) -> Iterator[ToneLine]:
    if not story.remedies:
        return
    yield (Toned("what to change" if story.failure.kind == "oom" else "what to do", "accent"),)
    for number, remedy in enumerate(story.remedies, 1):
        tone = "text" if remedy.is_sure else "dim"
        yield from wrapped(remedy.text, width, tone, first=f"{number:>2}  ", then="    ")


def _rows(story: Story, *, mono: bool, ascii: bool) -> Iterator[ToneLine]:  # noqa: A002
    if not story.rows:
        return
    shown = (True, story.has_peak, story.has_predicted)
    heads = [head for head, is_there in zip(_HEADS, shown, strict=True) if is_there]
    yield (Toned(" " * _ROW_LABEL + "".join(f"{head:>{_SIZE}}" for head in heads), "dim"),)
    for row in story.rows:
        label, *texts = row.texts
        known = [text for text, is_there in zip(texts, shown, strict=True) if is_there]
        figures = "".join(f"{text:>{_SIZE}}" for text in known)
        if row.category in CATEGORIES:
            mark = _mark(row, mono=mono, ascii=ascii)
            yield (mark, Toned(f" {label:<{_ROW_LABEL - 2}}", "dim"), Toned(figures))
        else:
            yield (Toned(f"  {label:<{_ROW_LABEL - 2}}", "dim"), Toned(figures))


def _mark(row: StoryRow, *, mono: bool, ascii: bool) -> Toned:  # noqa: A002
    plain = mono or ascii
    glyph = part_glyph(CATEGORIES.index(row.category), ascii) if plain else "■"
    return Toned(glyph, row.category)


def _facts(story: Story, width: int) -> Iterator[ToneLine]:
    for label, text in story.facts:
        parts = wrap(printable(text), max(width - _LABEL, 20)) or [""]
        for place, part in enumerate(parts):
            yield (Toned(f"{'' if place else label:<{_LABEL}}", "dim"), Toned(part))


def _timeline(story: Story, width: int, *, mono: bool, ascii: bool) -> Iterator[ToneLine]:  # noqa: A002
    oldest = next(iter(story.history), None)
    if oldest is None:
        return
    age_s = story.end_at - oldest.at
    span_s = next((span for span in _SPANS_S if age_s <= span), HISTORY_S)
    plot_width = width - _AXIS - 1
    columns = story.history.columns(plot_width, story.end_at, span_s)
    if not any(column is not None and total_bytes(column) for column in columns):
        return
    place = "" if story.torch_device is None else f" on {story.torch_device}"
    yield (Toned(f"its memory{place} until then", "accent"),)
    drawn = timeline([layers(c) for c in columns], _HEIGHT, story.total_bytes, mono, ascii)
    edge = ("+", "|") if ascii else ("┤", "│")
    for label, cells in drawn:
        axis = Toned(f"{label:>{_AXIS}}", "dim")
        yield (axis, Toned(edge[0] if label else edge[1], "rule"), *_toned(cells))
    end = "OOM" if story.failure.kind == "oom" else "end"
    marks = time_axis(span_s, plot_width).removesuffix("now") + end
    yield (Toned(" " * (_AXIS + 1) + marks, "dim"),)


def _toned(cells: Sequence[Cell]) -> Iterator[Toned]:
    for (fg, bg), run in groupby(cells, key=lambda cell: (cell.fg, cell.bg)):
        yield Toned(
            "".join(cell.glyph for cell in run),
            "dim" if fg is None else CATEGORIES[fg],
            "background" if bg is None else CATEGORIES[bg],
        )


def _traceback(story: Story, width: int) -> Iterator[ToneLine]:
    if not story.traceback:
        return
    yield (Toned("the last lines of its traceback", "accent"),)
    for text in story.traceback:
        shown = printable(text)
        indent = shown[: len(shown) - len(shown.lstrip())]
        yield from wrapped(shown.strip(), width, "dim", first=indent, then=indent + "  ")


def wrapped(
    text: str, width: int, tone: str, first: str = "", then: str = ""
) -> Iterator[ToneLine]:
    """A text in one tone over as many lines as it takes."""
    lines = wrap(
        printable(text),
        width,
        initial_indent=first,
        subsequent_indent=then,
        break_on_hyphens=False,
    )
    for part in lines:
        yield (Toned(part, tone),)

"""The map of what fits over batch and sequence, with the cursor and the present point on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from textual import events
from textual.message import Message
from textual.strip import Strip

from ...draw.blocks import Run
from ...draw.heat import CELL, GLYPHS, heat_row
from ...estimator.explore_words import VERDICT_TONES
from ...estimator.explored import Place
from ...estimator.grid import Grid
from ...estimator.workload import Workload
from ..paint import Piece, fit, line
from ..picture import Picture
from ..theme import Ink
from .picture_canvas import PictureCanvas

_LABEL: Final = 9
_ABOVE: Final = 2
"""The title and the labels of the columns."""
_BELOW: Final = 1


class VerdictMap(PictureCanvas):
    """Fits, tight or out of memory by share of what can be used; a click moves the cursor."""

    class Moved(Message):
        """A square was clicked."""

        def __init__(self, place: Place) -> None:
            super().__init__()
            self.place = place

    def draw(self, picture: Picture) -> None:
        """Paint it."""
        grid = self.grid
        if grid is None:
            told = "no device to compare with: choose a GPU in what-if (e)"
            self.paint(_sentence(picture, told, self.size.width))
            return
        self.paint(_lines(picture, grid, self.size.width, self._rows))

    @property
    def grid(self) -> Grid | None:
        """The map as it is shown; None where there is none."""
        picture = self.picture
        if picture is None:
            return None
        most = self._rows if picture.swapped else (self.size.width - _LABEL) // CELL
        return picture.explored.grid(max(most, 3))

    @property
    def _rows(self) -> int:
        return max(self.size.height - _ABOVE - _BELOW, 3)

    def on_click(self, event: events.Click) -> None:
        """Move to the square."""
        grid, picture = self.grid, self.picture
        if grid is None or picture is None:
            return
        count = len(grid.batches if picture.swapped else grid.sequences)
        column = (event.x - _LABEL) // CELL
        row = (event.y - _ABOVE) // _tall(count, self._rows)
        place = (row, column) if picture.swapped else (column, len(grid.sequences) - 1 - row)
        batch, sequence = place
        if 0 <= batch < len(grid.batches) and 0 <= sequence < len(grid.sequences):
            self.post_message(self.Moved(Place(grid.batches[batch], grid.sequences[sequence])))


def position(grid: Grid, place: Place) -> tuple[int, int]:
    """The square of a place: of the batches on the axis the nearest below."""
    batch = max(bisect_right(grid.batches, place.batch) - 1, 0)
    sequence = max(bisect_right(grid.sequences, place.sequence) - 1, 0)
    return batch, sequence


def _lines(picture: Picture, grid: Grid, width: int, most: int) -> list[Strip]:
    ink, home = picture.ink, picture.explored.workload
    swapped = picture.swapped
    at_batch, at_sequence = position(grid, picture.place)
    now_batch, now_sequence = position(grid, Place(home.batch, home.sequence))
    usable = picture.explored.home.usable_bytes or 1
    heads = grid.sequences if swapped else grid.batches
    names = grid.batches if swapped else grid.sequences
    at, now = (at_batch, at_sequence), (now_batch, now_sequence)
    if not swapped:
        at, now = at[::-1], now[::-1]
    order = range(len(names)) if swapped else range(len(names) - 1, -1, -1)
    of_tokens = "length" if picture.exploration.is_fitted else "tokens"
    corner = "batch" if swapped else of_tokens
    lines = [_title(picture, home, width), _heads(picture, heads, at[1], corner, width)]
    tall = _tall(len(names), most)
    for index in list(order)[:most]:
        squares = [
            grid.rows[column if swapped else index][index if swapped else column]
            for column in range(len(heads))
        ]
        row = heat_row(
            [(one.verdict, one.process_bytes / usable) if one else None for one in squares],
            at[1] if index == at[0] else None,
            now[1] if index == now[0] else None,
        )
        here = index == at[0]
        pieces: list[Piece] = [
            (fit(f"{names[index]:,}", _LABEL - 1, right=True), ink("accent" if here else "dim")),
            ("▸" if here else " ", ink("accent")),
        ]
        drawn = _squares(row, at[1] if here else None, ink)
        edge: list[Piece] = [(" " * _LABEL, ink("text"))]
        empty = [(" " * len(text), style) for text, style in drawn]
        for y in range(tall):
            shown = [*pieces, *drawn] if y == tall // 2 else [*edge, *empty]
            lines.append(line(shown, width, ink("text")))
    return [*lines, _legend(picture, width)]


def _tall(rows: int, most: int) -> int:
    """Lines of a row: one, or three where there is room."""
    return 3 if 3 * rows <= most else 1


def _squares(row: Sequence[Run], cursor: int | None, ink: Ink) -> list[Piece]:
    """Squares filled with the colour of their verdict; the cursor's turned round."""
    pieces: list[Piece] = []
    for column, run in enumerate(row):
        if ink.mono or run.key == "dim":
            pieces.append((run.text, ink("text", bold=column == cursor)))
        elif column == cursor:
            pieces.append((run.text, ink(run.key, "selected", bold=True)))
        else:
            pieces.append((run.text, ink("background", run.key)))
    return pieces


def _title(picture: Picture, home: Workload, width: int) -> Strip:
    ink = picture.ink
    if picture.exploration.notice:
        notice = fit(f" {picture.exploration.notice}", width)
        return line([(notice, ink("warn"))], width, ink("dim"))
    text = " share of what can be used"
    if picture.exploration.is_fitted:
        text += " · other sequences are not known: no step was seen with them"
    elif len(picture.explored.sequences) > 1:
        text += f" · {home.sequence:,} tokens as predicted, the others by formula, less sure"
    elif not picture.explored.has_formulas:
        text += " · one sequence: there are no formulas for this model"
    return line([(text, ink("dim"))], width, ink("dim"))


def _heads(picture: Picture, heads: tuple[int, ...], at: int, corner: str, width: int) -> Strip:
    ink = picture.ink
    pieces: list[Piece] = [(fit(corner, _LABEL - 1, right=True) + " ", ink("dim"))]
    for column, head in enumerate(heads):
        tone = "accent" if column == at else "dim"
        pieces.append((fit(f"{head:,}", CELL - 1, right=True) + " ", ink(tone, bold=column == at)))
    return line(pieces, width, ink("dim"))


def _legend(picture: Picture, width: int) -> Strip:
    ink = picture.ink
    words = {"fits": "fits", "tight": "tight", "oom": "out of memory"}
    pieces: list[Piece] = [(" " * _LABEL, ink("dim"))]
    for verdict, word in words.items():
        pieces += [(f"{GLYPHS[verdict]} {word}  ", ink(VERDICT_TONES[verdict]))]
    word = "now" if picture.exploration.live else "asked"
    pieces.append((f"[ ] cursor  ◆ {word}", ink("dim")))
    return line(pieces, width, ink("dim"))


def _sentence(picture: Picture, text: str, width: int) -> list[Strip]:
    return [line([(f" {text}", picture.ink("dim"))], width, picture.ink("dim"))]

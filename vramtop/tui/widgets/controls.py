"""The controls of a workload: a line each, a slider for numbers and a choice for the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer

from ...draw.slider import BEYOND, DONE, KNOB, REST, log_share, share_at, slider
from ...estimator.controls import CONTROLS, Control
from ...estimator.workload import Workload
from ..exploration import Exploration
from ..paint import Piece, fit, line
from ..theme import Ink, ink_of
from .canvas import Canvas

_CURSOR: Final = 2
_LABEL: Final = 14
_NUMBER: Final = 7
_LEAST_TRACK: Final = 6
_LEFT, _RIGHT = "‹ ", " ›"
_LARGER_STEP: Final = 5
"""Places of a list that a larger step goes."""
_TYPING_S: Final = 2.0
"""After which the next digit begins another number."""
_TONES: Final = {DONE: "accent", KNOB: "text", REST: "rule", BEYOND: "error"}
_GROUPS: Final = {"model": "what runs", "precision": "how", "gpus": "where"}
"""Headings before these controls, where there is room."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A control with what it has for the present workload."""

    control: Control
    values: Sequence[Any]
    position: int
    """Of the present value."""

    @property
    def is_number(self) -> bool:
        return self.control.most is not None

    def share(self, position: int) -> float:
        """Where a value is on the track, 0 to 1: each doubling is equally long."""
        values = self.values
        if values[0] < 1:
            return position / max(len(values) - 1, 1)
        return log_share(values[position], values[0], values[-1])

    def nearest(self, share: float) -> int:
        """Position of the value that is closest to a place on the track."""
        return min(range(len(self.values)), key=lambda at: abs(self.share(at) - share))


class Controls(Canvas, can_focus=True):
    """Tells what the user wants with ``Changed`` and ``Listed``."""

    class Changed(Message):
        """A control was set."""

        def __init__(self, control: Control, value: Any) -> None:
            super().__init__()
            self.which = control
            self.value = value

    class Listed(Message):
        """All values of a control are to be listed."""

        def __init__(self, control: Control, values: Sequence[Any], position: int) -> None:
            super().__init__()
            self.which = control
            self.values = values
            self.position = position

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._exploration: Exploration | None = None
        self._home: Workload | None = None
        self._rows: list[_Row] = []
        self._cursor = "model"
        """Name of the control."""
        self._typed = ""
        self._typing: Timer | None = None
        self._dragged: str | None = None
        self._lines: list[int | None] = []
        """Index of the row on each line; None for a heading."""
        self._top = 0

    def show(self, exploration: Exploration, home: Workload) -> None:
        """Show this workload; ``home`` is the one that the user began with."""
        self._exploration, self._home = exploration, home
        self._rows = []
        for control in CONTROLS:
            values = control.values(exploration.workload, home)
            if values:
                value = control.get(exploration.workload)
                # A workload without a device has none of the values.
                position = values.index(value) if value in values else -1
                self._rows.append(_Row(control, values, position))
        self._paint()

    @property
    def wanted_height(self) -> int:
        """Lines without headings."""
        return len(self._rows)

    # Keys; the screen's bindings lead here.

    def move(self, by: int) -> None:
        """Another control."""
        self._end_typing()
        at = min(max(self._index + by, 0), len(self._rows) - 1)
        self._cursor = self._rows[at].control.name
        self._paint()

    def turn(self, by: int, *, larger: bool = False) -> None:
        """The next value, or one some way off."""
        row = self._row
        self._end_typing()
        if not larger:
            self._set(row, row.position + by)
        elif row.is_number:
            self._set(row, _doubled(row, by))
        else:
            self._set(row, row.position + _LARGER_STEP * by)

    def turn_to_end(self, *, last: bool) -> None:
        """The first or the last value."""
        self._end_typing()
        self._set(self._row, len(self._row.values) - 1 if last else 0)

    def enter(self) -> None:
        """List the values; a number that is being typed is done."""
        row = self._row
        if self._typed:
            self._end_typing()
        else:
            self.post_message(self.Listed(row.control, row.values, row.position))

    def type(self, character: str) -> None:
        """A digit of a number, or "" to take the last one back."""
        row = self._row
        if not row.is_number:
            return
        typed = (self._typed + character if character else self._typed[:-1]).lstrip("0")
        typed = typed or ("0" if character == "0" else "")
        number = int(typed) if typed else None
        if number is not None and row.control.most is not None and number > row.control.most:
            return
        self._begin_typing(typed)
        if number is not None and number >= row.values[0]:
            self.post_message(self.Changed(row.control, number))

    def _begin_typing(self, typed: str) -> None:
        self._end_typing()
        self._typed = typed
        if typed:
            self._typing = self.set_timer(_TYPING_S, self._end_typing)
        self._paint()

    def _end_typing(self) -> None:
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if self._typed:
            self._typed = ""
            self._paint()

    @property
    def _index(self) -> int:
        names = [row.control.name for row in self._rows]
        return names.index(self._cursor) if self._cursor in names else 0

    @property
    def _row(self) -> _Row:
        return self._rows[self._index]

    def _set(self, row: _Row, position: int) -> None:
        position = min(max(position, 0), len(row.values) - 1)
        if position != row.position:
            self.post_message(self.Changed(row.control, row.values[position]))

    # The mouse.

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Choose a control; on its track or arrows also a value."""
        row = self._row_at(event.y)
        if row is None:
            return
        self._end_typing()
        self._cursor = row.control.name
        begin, end = self._value_span(row)
        if row.is_number and begin <= event.x < end:
            self._dragged = row.control.name
            self.capture_mouse()
            self._drag_to(event.x)
        elif not row.is_number and event.x >= begin:
            shown = self._choice_text(row, end - begin)
            if event.x < begin + len(_LEFT):
                self._set(row, row.position - 1)
            elif event.x >= begin + cell_len(shown) - len(_RIGHT):
                self._set(row, row.position + 1)
            else:
                self.post_message(self.Listed(row.control, row.values, row.position))
        self._paint()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag a slider."""
        if self._dragged is not None:
            self._drag_to(event.x)

    def on_mouse_up(self) -> None:
        """Let go."""
        if self._dragged is not None:
            self._dragged = None
            self.release_mouse()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The control below."""
        event.stop()
        self.move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The control above."""
        event.stop()
        self.move(-1)

    def _drag_to(self, x: int) -> None:
        row = next((row for row in self._rows if row.control.name == self._dragged), None)
        if row is not None:
            begin, end = self._value_span(row)
            self._set(row, row.nearest(share_at(x - begin, end - begin)))

    def _row_at(self, y: int) -> _Row | None:
        at = y + self._top
        index = self._lines[at] if at < len(self._lines) else None
        return None if index is None else self._rows[index]

    def _value_span(self, row: _Row) -> tuple[int, int]:
        """Columns of the track of a number, or of a choice."""
        begin = _CURSOR + _LABEL
        if row.is_number:
            begin += _NUMBER + 1
        return begin, max(self.size.width - 1, begin + _LEAST_TRACK)

    # Painting.

    def on_resize(self) -> None:
        """Paint for the new size."""
        self._paint()

    def watch_has_focus(self, has_focus: bool) -> None:
        """The cursor is where the keys go; when they leave a number that is being typed is done."""
        super().watch_has_focus(has_focus)
        self._end_typing()
        self._paint()

    def _paint(self) -> None:
        width, height = self.size.width, self.size.height
        if self._exploration is None or not width or not self.is_attached:
            return
        ink = ink_of(self.app)
        with_headings = height >= len(self._rows) + 2 * len(_GROUPS)
        strips: list[Strip] = []
        self._lines = []
        for index, row in enumerate(self._rows):
            heading = _GROUPS.get(row.control.name)
            if with_headings and heading:
                if strips:
                    strips.append(line([], width, ink("text")))
                    self._lines.append(None)
                strips.append(line([(f"  {heading}", ink("dim"))], width, ink("text")))
                self._lines.append(None)
            strips.append(self._line(row, index == self._index, width, ink))
            self._lines.append(index)
        at = self._lines.index(self._index)
        self._top = min(max(self._top, at - height + 1), at, max(len(strips) - height, 0))
        self.paint(strips[self._top : self._top + height])

    def _line(self, row: _Row, is_chosen: bool, width: int, ink: Ink) -> Strip:
        has_cursor = is_chosen and self.has_focus
        on, mark = ("selected", "▌ ") if has_cursor else ("background", "  ")
        pieces: list[Piece] = [
            (mark, ink("accent", on)),
            (fit(row.control.label, _LABEL), ink("text" if is_chosen else "dim", on)),
        ]
        begin, end = self._value_span(row)
        if row.is_number:
            text = row.control.text(row.values[row.position])
            if is_chosen and self._typed:
                text = f"{self._typed}▏"
            pieces.append((fit(text, _NUMBER, right=True), ink("text", on, bold=True)))
            pieces.append((" ", ink("text", on)))
            runs = slider(row.share(row.position), end - begin, self._limit(row))
            pieces += [(run.text, ink(_TONES[run.key], on)) for run in runs]
        else:
            text = self._choice_text(row, end - begin)
            arrow = ink("accent" if is_chosen else "rule", on)
            pieces.append((_LEFT, arrow))
            value = text[len(_LEFT) : -len(_RIGHT)]
            pieces.append((value, ink("text", on, bold=True)))
            pieces.append((_RIGHT, arrow))
        return line(pieces, width, ink("text", on))

    def _choice_text(self, row: _Row, room: int) -> str:
        value = row.values[row.position] if row.position >= 0 else None
        text = row.control.text(value)
        room -= len(_LEFT) + len(_RIGHT)
        return _LEFT + fit(text, min(cell_len(text), room)) + _RIGHT

    def _limit(self, row: _Row) -> float | None:
        """On the track of the batch, where memory ends; below 0 where nothing fits."""
        estimate = self._exploration.estimate if self._exploration else None
        if row.control.name != "batch" or estimate is None or estimate.max_micro_batch is None:
            return None
        last = bisect_right(row.values, estimate.max_micro_batch) - 1
        return row.share(last) if last >= 0 else -1.0


def _doubled(row: _Row, by: int) -> int:
    """Position of the value of at least twice as much, or at most half."""
    values, now = row.values, row.values[row.position]
    if by > 0:
        reached = (i for i, value in enumerate(values) if value >= max(2 * now, now + 1))
        return next(reached, len(values) - 1)
    return max(bisect_right(values, now // 2) - 1, 0)

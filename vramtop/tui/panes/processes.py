"""The table of processes: columns by room and importance, a cursor, sorting by key and mouse."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import events
from textual.css.scalar import Scalar
from textual.message import Message
from textual.strip import Strip

from ...core.fleet import ProcessKey
from ...core.ranks import JobRow, TableRow
from ...core.rows import PROCESS_COLUMNS, Column
from ...core.units import NONE_SHOWN
from ..frame import Frame
from ..paint import Piece, fit, line, printable, swatch
from .base import Pane, sentences

_IMPORTANCE: Final = (
    "pid",
    "memory",
    "command",
    "device",
    "allocated",
    "largest",
    "user",
    "rate",
    "probe",
    "rank",
    "peak",
    "reserved",
    "cpu",
    "rss",
    "kind",
)
_COMMAND_MIN: Final = 18
_COMMAND_SPARE: Final = 14
_COLUMNS_BEFORE_SPARE: Final = 9
_WIDTHS: Final = {"largest": 19}
"""Where the table needs more than the text: the mark and its space."""
_MARK_WIDTH: Final = 8
"""From the left: a job's mark and the number of its ranks."""
_STATE_TONES: Final = {"streaming": "good", "waiting": "accent"}


def columns_for(width: int, *, with_ranks: bool) -> list[tuple[Column, int]]:
    """The columns that fit, in their usual order, with their widths; commands get the rest."""
    sizes = {
        column.key: _WIDTHS.get(column.key, column.width) or _COMMAND_MIN
        for column in PROCESS_COLUMNS
    }
    room = width - 1
    kept: set[str] = set()
    for key in (key for key in _IMPORTANCE if with_ranks or key != "rank"):
        # Where there is room for many columns, there shall be some for commands too.
        spare = _COMMAND_SPARE if len(kept) >= _COLUMNS_BEFORE_SPARE else 0
        if room < sizes[key] + 1 + spare and kept:
            break
        room -= sizes[key] + 1
        kept.add(key)
    sizes["command"] += max(room, 0)
    return [(column, sizes[column.key]) for column in PROCESS_COLUMNS if column.key in kept]


class ProcessesPane(Pane):
    """One row a process, or a job of several ranks."""

    TITLE: ClassVar[str] = "Processes"
    NAME: ClassVar[str] = "processes"

    class Picked(Message):
        """The user moved the cursor to a process."""

        def __init__(self, key: ProcessKey) -> None:
            super().__init__()
            self.key = key

    class FoldTurned(Message):
        """The user clicked on a job's mark: list its ranks, or no more."""

        def __init__(self, group: str) -> None:
            super().__init__()
            self.group = group

    class SortPicked(Message):
        """The user clicked on a column's head."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__()
        self._command_from = 0
        self._follows_cursor = True
        self._painted: dict[tuple[object, ...], Strip] = {}
        """The rows of the last time; most of them are the same the next time."""

    def show(self, frame: Frame) -> None:
        """Show this frame; another order is looked at from its top."""
        before = self._frame
        if before is not None and _order(before) != _order(frame):
            self._follows_cursor, self._top = False, 0
        super().show(frame)

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """Not used: only the rows on the screen are made, see ``rebuild``."""
        return []

    def rebuild(self) -> None:
        """Work out the head and the rows in the window."""
        frame, width, height = self._frame, self.size.width, self.size.height
        if frame is None or width <= 0 or not self.display:
            return
        self._leave_room(frame)
        rows, room = frame.rows, max(height - 2, 1)
        if self._follows_cursor:
            self._top = min(max(self._top, frame.cursor - room + 1), frame.cursor)
        self._top = max(min(self._top, len(rows) - room), 0)
        columns = columns_for(width, with_ranks=_has_ranks(frame))
        window = rows[self._top : self._top + room]
        strips = [
            self._title_line(frame, width, self._note(frame, len(window))),
            _head_line(frame, columns, width),
        ]
        painted: dict[tuple[object, ...], Strip] = {}
        for index, row in enumerate(window):
            is_selected = self._top + index == frame.cursor
            texts = [row.text(column.key) for column, _ in columns]
            largest = row.largest[0] if row.largest else None
            place: tuple[object, ...] = (is_selected, self._command_from, width, frame.ink)
            job: tuple[object, ...] = ()
            if isinstance(row, JobRow):
                job = (row.group, row.is_unfolded, row.is_well, row.fullest_text)
            key = (*texts, largest, row.process.state, job, _indent(row), *place)
            strip = self._painted.get(key)
            if strip is None:
                strip = self._row_line(frame, row, texts, columns, width, is_selected)
            painted[key] = strip
            strips.append(strip)
        self._painted = painted
        if not rows:
            strips += sentences([_why_empty(frame)], width, frame)
        self.paint((strips + [Strip.blank(width, frame.ink("text"))] * height)[:height])

    def move(self, to: str) -> None:
        """Move the cursor, or the commands' text for left and right."""
        frame = self._frame
        if frame is None or not frame.rows:
            return
        if to in {"left", "right"}:
            self._command_from = max(self._command_from + (8 if to == "right" else -8), 0)
            self.rebuild()
            return
        page = max(self.size.height - 3, 1)
        last = len(frame.rows) - 1
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page}
        target = {"first": 0, "last": last}.get(to, frame.cursor + steps.get(to, 0))
        target = min(max(target, 0), last)
        if not frame.rows[target].keys:  # a heading: its ranks are the rows below
            target += 1 if target >= frame.cursor or target == 0 else -1
        self._pick(frame, target)

    def scroll_lines(self, count: int) -> None:
        """Look further without moving the cursor."""
        self._follows_cursor = False
        super().scroll_lines(count)

    def on_click(self, event: events.Click) -> None:
        """Select a row, or sort by the column whose head was clicked."""
        frame = self._frame
        if frame is None:
            return
        if event.y == 1:
            left = 1
            for column, width in columns_for(self.size.width, with_ranks=_has_ranks(frame)):
                if left <= event.x <= left + width:
                    self.post_message(self.SortPicked(column.key))
                left += width + 1
        elif event.y > 1 and self._top + event.y - 2 < len(frame.rows):
            row = frame.rows[self._top + event.y - 2]
            if isinstance(row, JobRow) and (row.is_unfolded or event.x <= _MARK_WIDTH):
                self.post_message(self.FoldTurned(row.group))
            else:
                self._pick(frame, self._top + event.y - 2)

    def _leave_room(self, frame: Frame) -> None:
        """Rows that no process can fill are the panes' below; a filter moves nothing."""
        wanted = Scalar.from_number(2 + max(frame.row_count, 2))
        if self.is_enlarged:
            self.styles.max_height = None
        elif self.styles.max_height != wanted:
            self.styles.max_height = wanted

    def _pick(self, frame: Frame, index: int) -> None:
        self._follows_cursor = True
        self.post_message(self.Picked(frame.rows[index].process.key))

    def _note(self, frame: Frame, shown: int) -> str:
        said = []
        if frame.job is not None and not frame.job.is_filtered:
            does = "folds" if frame.job.is_unfolded else "lists"
            said.append(f"f {does} the {len(frame.job.ranks)} ranks")
        if frame.view.filter_text:
            said.append(f"filter “{frame.view.filter_text}”")
        if len(frame.rows) > shown:
            said.append(f"{self._top + 1}–{self._top + shown} of {len(frame.rows)}")
        elif frame.rows:
            said.append(f"{len(frame.rows)}")
        ended = sum(row.process.state == "gone" for row in frame.rows if row.keys)
        if ended:
            said[-1] += f", {ended} ended"
        return " · ".join(said)

    def _row_line(
        self,
        frame: Frame,
        row: TableRow,
        texts: list[str],
        columns: list[tuple[Column, int]],
        width: int,
        is_selected: bool,
    ) -> Strip:
        ink = frame.ink
        on = "selected" if is_selected else "background"
        ended = row.process.state == "gone"
        plain = ink("dim" if ended or (row.process.probe.state == "none") else "text", on)
        pieces: list[Piece] = [("▌" if is_selected else " ", ink("accent", on))]
        for (column, size), text in zip(columns, texts, strict=True):
            if column.key == "largest" and row.largest and text != NONE_SHOWN:
                pieces += [swatch(row.largest[0], ink, on), (" ", plain)]
                pieces.append((fit(text, size - 2), plain))
            elif column.key == "command":
                command = _short_command(row, text)[self._command_from :]
                if isinstance(row, JobRow) and "largest" not in [c.key for c, _ in columns]:
                    command = f"{row.fullest_text} {command}"
                pieces.append((fit(_indent(row) + command, size), plain))
            elif column.key == "probe":
                pieces.append((fit(text, size), ink(_state_tone(row), on)))
            elif column.key == "pid" and isinstance(row, JobRow):
                mark = "▾" if row.is_unfolded else "▸"
                pieces += [(mark, ink("accent", on)), (fit(text, size - 1, right=True), plain)]
            elif column.key == "memory":
                pieces.append((fit(text, size, right=True), ink("dim" if ended else "text", on)))
            else:
                pieces.append((fit(text, size, right=column.is_number), plain))
            pieces.append((" ", plain))
        return line(pieces, width, plain)


def _has_ranks(frame: Frame) -> bool:
    return any(row.process.probe.rank is not None for row in frame.rows)


def _short_command(row: TableRow, text: str) -> str:
    """The command without the program's folder; the details show all of it."""
    if row.process.command is None:
        return text
    before, bracket, rest = printable(text).rpartition(") ") if text[0] == "(" else ("", "", text)
    program, space, arguments = printable(rest).partition(" ")
    return before + bracket + program.rpartition("/")[2] + space + arguments


def _order(frame: Frame) -> tuple[str, bool, str]:
    return (frame.view.sort_key, frame.view.descending, frame.view.filter_text)


def _head_line(frame: Frame, columns: list[tuple[Column, int]], width: int) -> Strip:
    ink, view = frame.ink, frame.view
    pieces: list[Piece] = [(" ", ink("dim", "chip"))]
    for column, size in columns:
        sorted_by = column.key == view.sort_key
        title = column.title
        if sorted_by:
            mark = "▼" if view.descending else "▲"
            title = mark + title if column.is_number else title + mark
        style = ink("accent" if sorted_by else "dim", "chip", bold=sorted_by)
        pieces.append((fit(title, size, right=column.is_number) + " ", style))
    return line(pieces, width, ink("dim", "chip"))


def _indent(row: TableRow) -> str:
    """What stands before a command under its job's row."""
    is_listed = not isinstance(row, JobRow) and row.is_listed_rank
    return f"  r{row.process.probe.rank} " if is_listed else ""


def _state_tone(row: TableRow) -> str:
    if isinstance(row, JobRow) and not row.is_well:
        return "warn"
    failure = row.process.probe.failure
    if failure is not None and not failure.caught and row.process.probe.state == "gone":
        return "error"
    if row.process.state != "running":
        return "warn"
    return _STATE_TONES.get(
        row.process.probe.state, "dim" if row.process.probe.state == "none" else "warn"
    )


def _why_empty(frame: Frame) -> str:
    if frame.fleet.is_waiting:
        return "reading processes…"
    if frame.view.filter_text and frame.fleet.processes:
        return f"no process matches “{frame.view.filter_text}”; esc clears the filter"
    return "no process uses a device; start one with `vramtop run -- python train.py`"

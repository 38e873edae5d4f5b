"""What every pane has: a title line, lines that scroll, and a frame to show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.css.scalar import Scalar
from textual.message import Message
from textual.strip import Strip

from ..frame import Frame
from ..paint import Piece, fit, line, printable
from ..widgets.canvas import Canvas

_WHEEL_LINES = 3
_MIN_NOTE = 20
"""Room that titles of other panes leave for what a pane says of itself."""


class Pane(Canvas, can_focus=True):
    """One part of the main screen.

    A pane gives ``TITLE``, ``NAME`` (its id) and ``content``; whatever it shows comes from the
    frame, so that showing the same frame twice paints nothing.
    """

    TITLE: ClassVar[str]
    SHORT: ClassVar[str] = ""
    """The title in short, for those that take turns with others in a narrow place."""
    NAME: ClassVar[str]
    FITS_ITS_LINES: ClassVar[bool] = False
    """As high as what it shows; otherwise its height is the layout's to choose."""
    number = 0
    """The key that leads to it, 0 for none."""
    sharing: tuple[Pane, ...] = ()
    """The panes that take turns in one place, itself among them."""

    class Asked(Message):
        """The user clicked on the title of a pane in the same place."""

        def __init__(self, pane: Pane) -> None:
            super().__init__()
            self.pane = pane

    class DeviceTurned(Message):
        """The user asked for the next or the previous torch device of the process."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self) -> None:
        super().__init__(id=self.NAME)
        self._frame: Frame | None = None
        self._top = 0
        self._titles: list[tuple[int, Pane]] = []
        """(right edge, pane) of each title in the title line."""

    def show(self, frame: Frame) -> None:
        """Show this frame."""
        self._frame = frame
        self.rebuild()

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """All lines below the title; more than ``height`` scroll."""
        raise NotImplementedError

    def heads(self, frame: Frame, width: int) -> list[Strip]:  # noqa: ARG002
        """Lines that stay while the rest scrolls; asked for after the content."""
        return []

    def title_note(self, frame: Frame) -> str:  # noqa: ARG002
        """What the title line says at its right."""
        return ""

    def move(self, to: str) -> None:
        """Follow a movement key: up, down, left, right, first, last, page_up, page_down."""
        page = max(self.size.height - 2, 1)
        self._top += {"up": -1, "down": 1, "page_up": -page, "page_down": page}.get(to, 0)
        if to in {"first", "last"}:
            self._top = 0 if to == "first" else sys.maxsize
        self.rebuild()

    def enter(self) -> bool:
        """Do what the enter key does in this pane; False where it does nothing of its own."""
        return False

    @property
    def is_enlarged(self) -> bool:
        """Whether it has the whole screen."""
        return self.screen.has_class(f"-enlarged-{self.NAME}")

    def rebuild(self) -> None:
        """Work the lines out anew, for another frame, size or focus."""
        frame, width = self._frame, self.size.width
        if frame is None or width <= 0 or not self.display:
            return
        height = max(self.size.height - 1, 0)
        lines = self.content(frame, width, height)
        heads = self.heads(frame, width)
        height -= len(heads)
        self._top = min(max(self._top, 0), max(len(lines) - height, 0))
        note = self.title_note(frame)
        notes = [note]
        if len(lines) > height > 0:
            window = f"{self._top + 1}–{self._top + height} of {len(lines)}"
            notes = [f"{note} · {window}" if note else window, window]
        shown = lines[self._top : self._top + height]
        self.paint([self._title_line(frame, width, *notes), *heads, *shown])
        if self.FITS_ITS_LINES:
            wanted = Scalar.from_number(1 + len(lines) + self.styles.gutter.height)
            if self.is_enlarged:
                self.styles.height = None  # the style sheet's: all there is
            elif self.styles.height != wanted:
                self.styles.height = wanted

    def on_resize(self) -> None:
        """Build for the new size."""
        self.rebuild()

    def on_show(self) -> None:
        """Build what was left out while hidden."""
        self.rebuild()

    def on_focus(self) -> None:
        """The title says where the keys go."""
        self.rebuild()

    def on_blur(self) -> None:
        """The title says where the keys go."""
        self.rebuild()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll without moving the selection."""
        event.stop()
        self.scroll_lines(_WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll without moving the selection."""
        event.stop()
        self.scroll_lines(-_WHEEL_LINES)

    def scroll_lines(self, count: int) -> None:
        """Move the window over the lines."""
        self._top += count
        self.rebuild()

    def on_click(self, event: events.Click) -> None:
        """A title leads to its pane."""
        if event.y == 0:
            asked = next((pane for right, pane in self._titles if event.x < right), self)
            if asked is not self:
                self.post_message(self.Asked(asked))

    def _title_line(self, frame: Frame, width: int, *notes: str) -> Strip:
        """The title and the first of the notes that fits, or what fits of the last one's parts."""
        ink = frame.ink
        dash = "━" if self.has_focus else "─"
        rule = ink("accent" if self.has_focus else "rule")
        tone = "accent" if self.has_focus else "dim"
        panes = self.sharing or (self,)
        names = self._names(panes, width - _MIN_NOTE)
        pieces: list[Piece] = [(dash, rule)]
        used = 1
        self._titles = []
        for pane, name in zip(panes, names, strict=True):
            shown = pane is self
            pieces.append((f" {name}", ink(tone if shown else "dim", bold=shown)))
            used += cell_len(name) + 1
            self._titles.append((used, pane))
        pieces.append((" ", rule))
        used += 1
        room = width - used - 4
        note = next((note for note in notes if cell_len(note) <= room), notes[-1])
        while cell_len(note) > room and ", " in note:
            note = note.rpartition(", ")[0]
        note = f" {fit(note, min(room, cell_len(note)))} " if note and room > 8 else ""
        pieces.append((dash * (width - used - cell_len(note) - bool(note)), rule))
        if note:
            pieces += [(note, ink("dim")), (dash, rule)]
        return line(pieces, width, ink("text"))

    def _names(self, panes: Sequence[Pane], room: int) -> list[str]:
        """The titles in full, in short, or as their keys alone; what is shown keeps its name."""
        for titles in (
            [pane.TITLE for pane in panes],
            [pane.TITLE if pane is self else pane.SHORT for pane in panes],
            [pane.TITLE if pane is self else "" for pane in panes],
        ):
            names = [
                f"{pane.number or ''} {title}".strip()
                for pane, title in zip(panes, titles, strict=True)
            ]
            if sum(map(cell_len, names)) + len(names) + 2 <= room:
                break
        return names


def sentences(texts: Sequence[str], width: int, frame: Frame, tone: str = "dim") -> list[Strip]:
    """Explanations as wrapped lines, for panes that have nothing else to show."""
    from textwrap import wrap

    style = frame.ink(tone)
    return [
        line([(f" {part}", style)], width, style)
        for text in texts
        for part in (wrap(printable(text), max(width - 2, 8)) or [""])
    ]

"""The modules that hold most: a tree by path with sums, or the list of the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.strip import Strip

from ...core.fleet import ProcessKey
from ...core.memory import ModuleUse
from ...core.modules import (
    ModuleNode,
    module_rows,
    module_tree,
    opened_at_first,
    top_modules,
)
from ...core.units import format_bytes
from ...draw.spans import span_bar
from ..frame import Frame
from ..paint import Piece, fit, line, styled
from ..words import why_no_breakdown, why_no_detail
from .base import Pane, sentences

_TOP: Final = 50
_SIZE: Final = 10
_MIN_BAR: Final = 8
_NAME: Final = (20, 44)
_CLASS: Final = 22
_MAX_INDENT: Final = 8


@dataclass(frozen=True, slots=True)
class _Row:
    """One line, of the tree or of the list."""

    path: str
    label: str
    class_name: str
    depth: int
    mark: str
    """▾ open, ▸ closed, blank where there is nothing inside."""
    activation_bytes: int
    parameter_bytes: int
    own_activation_bytes: int


class ModulesPane(Pane):
    """Activations and parameters by module, at the moment when activations were most."""

    TITLE: ClassVar[str] = "Modules"
    SHORT: ClassVar[str] = "Mods"
    NAME: ClassVar[str] = "modules"

    def __init__(self) -> None:
        super().__init__()
        self._is_list = False
        self._at: str | None = None
        """Path of the row with the cursor; None is the first row."""
        self._opened: tuple[ProcessKey, frozenset[str]] | None = None
        """What the user has opened in whose tree; None while it opens by itself."""
        self._follows_cursor = True
        self._rows: list[_Row] = []
        self._known: tuple[Sequence[ModuleUse], ModuleNode | None] = ((), None)

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The rows; those outside the window are blank, there may be hundreds."""
        process, detail = frame.process, frame.detail
        self._rows = []
        if process is None:
            return sentences(["no process selected"], width, frame)
        if frame.part is None:
            return sentences(why_no_breakdown(process, frame.view), width, frame)
        if detail is None:
            return sentences(why_no_detail(process), width, frame)
        root = self._tree(detail.modules)
        if root is None:
            return sentences(["no module held memory of its own in that step"], width, frame)
        self._rows = self._list_rows(detail.modules) if self._is_list else self._tree_rows(root)
        whole = max((row.activation_bytes for row in self._rows), default=0) or 1
        cursor = self._cursor()
        lines = [Strip.blank(width, frame.ink("text"))] * len(self._rows)
        room = max(height - 1, 1)
        if self._follows_cursor:
            self._top = min(max(self._top, cursor - room + 1), cursor)
        self._top = min(max(self._top, 0), max(len(lines) - room, 0))
        for index, row in enumerate(self._rows[self._top : self._top + room], self._top):
            is_selected = index == cursor
            lines[index] = self._row_line(frame, row, width, whole, is_selected=is_selected)
        return lines

    def heads(self, frame: Frame, width: int) -> list[Strip]:
        """Names of the columns."""
        if not self._rows:
            return []
        dim = frame.ink("dim", "chip")
        name, class_width, with_own, bar_width = _widths(width, is_list=self._is_list)
        pieces: list[Piece] = [("   ", dim), (fit("MODULE", name), dim)]
        if class_width:
            pieces.append((fit("CLASS", class_width), dim))
        if with_own:
            pieces.append((fit("OWN", _SIZE, right=True), dim))
        pieces.append((fit("ACTIV.", _SIZE, right=True), dim))
        pieces.append((" " * (bar_width + 1), dim))
        pieces.append((fit("PARAMS", _SIZE, right=True), dim))
        return [line(pieces, width, dim)]

    def title_note(self, frame: Frame) -> str:
        """How it is shown and how to change that."""
        if frame.detail is None:
            return frame.place_text
        return "t: tree" if self._is_list else "t: largest"

    def toggle_list(self) -> None:
        """Show the tree or the list of the largest."""
        self._is_list = not self._is_list
        self._at, self._top, self._follows_cursor = None, 0, True
        self.rebuild()

    def move(self, to: str) -> None:
        """Move the cursor; right opens, left closes or goes to the module around."""
        if not self._rows:
            return
        cursor = self._cursor()
        row = self._rows[cursor]
        if to == "right":
            if row.mark == "▸":
                self._set_open(row.path, is_open=True)
            elif row.mark == "▾":
                cursor += 1
        elif to == "left":
            if row.mark == "▾":
                self._set_open(row.path, is_open=False)
            else:
                before = self._rows[:cursor]
                around = (i for i, r in enumerate(before) if r.depth < row.depth)
                cursor = max(around, default=cursor)
        else:
            page = max(self.size.height - 3, 1)
            steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page}
            last = len(self._rows) - 1
            target = {"first": 0, "last": last}.get(to, cursor + steps.get(to, 0))
            cursor = min(max(target, 0), last)
        self._pick(cursor)

    def enter(self) -> bool:
        """Open or close the module with the cursor."""
        if not self._rows:
            return False
        row = self._rows[self._cursor()]
        if row.mark != " ":
            self._set_open(row.path, is_open=row.mark == "▸")
            self.rebuild()
        return True

    def on_click(self, event: events.Click) -> None:
        """Select a row; its mark, or a second click, opens or closes it."""
        index = self._top + event.y - 2
        if event.y < 2 or not 0 <= index < len(self._rows):
            return
        row = self._rows[index]
        again = index == self._cursor()
        self._pick(index)
        if again or event.x <= 2 + 2 * row.depth:
            self.enter()

    def _cursor(self) -> int:
        return next((i for i, row in enumerate(self._rows) if row.path == self._at), 0)

    def _pick(self, index: int) -> None:
        self._at, self._follows_cursor = self._rows[index].path, True
        self.rebuild()

    def scroll_lines(self, count: int) -> None:
        """Look further without moving the cursor."""
        self._follows_cursor = False
        super().scroll_lines(count)

    def _set_open(self, path: str, *, is_open: bool) -> None:
        process = self._frame.process if self._frame else None
        if process is None or self._is_list:
            return
        opened = {row.path for row in self._rows if row.mark == "▾"}
        before = self._opened[1] if self._opened and self._opened[0] == process.key else frozenset()
        self._opened = (
            process.key,
            before | opened | {path} if is_open else (before | opened) - {path},
        )

    def _tree(self, modules: Sequence[ModuleUse]) -> ModuleNode | None:
        """The tree of these modules, made once."""
        if self._known[0] is not modules:
            self._known = (modules, module_tree(modules))
        return self._known[1]

    def _tree_rows(self, root: ModuleNode) -> list[_Row]:
        process = self._frame.process if self._frame else None
        opened = opened_at_first(root)
        if process is not None and self._opened is not None and self._opened[0] == process.key:
            opened = self._opened[1]
        return [
            _Row(
                path=row.node.path,
                label=row.node.name if row.node.path else self._root_name(row.node),
                class_name=row.node.class_name,
                depth=row.depth,
                mark=("▾" if row.is_open else "▸") if row.can_open else " ",
                activation_bytes=row.node.activation_bytes,
                parameter_bytes=row.node.parameter_bytes,
                own_activation_bytes=row.node.own_activation_bytes,
            )
            for row in module_rows(root, opened)
        ]

    def _root_name(self, root: ModuleNode) -> str:
        """The model's, where there is one only."""
        process = self._frame.process if self._frame else None
        models = process.probe.models if process else ()
        return models[0].class_name if len(models) == 1 else root.name

    @staticmethod
    def _list_rows(modules: Sequence[ModuleUse]) -> list[_Row]:
        return [
            _Row(
                path=use.path,
                label=use.path or use.class_name,
                class_name=use.class_name,
                depth=0,
                mark=" ",
                activation_bytes=use.activation_bytes,
                parameter_bytes=use.parameter_bytes,
                own_activation_bytes=use.activation_bytes,
            )
            for use in top_modules(modules, _TOP)
        ]

    def _row_line(
        self, frame: Frame, row: _Row, width: int, whole: int, *, is_selected: bool
    ) -> Strip:
        ink = frame.ink
        on = "selected" if is_selected and self.has_focus else "background"
        text, dim = ink("text", on), ink("dim", on)
        name, class_width, with_own, bar_width = _widths(width, is_list=self._is_list)
        label = "  " * min(row.depth, _MAX_INDENT) + row.mark + " " + row.label
        pieces: list[Piece] = [("▌" if is_selected else " ", ink("accent", on))]
        pieces.append((fit(label, name + 2), text))
        if class_width:
            pieces.append((fit(row.class_name, class_width), dim))
        if with_own:
            own = format_bytes(row.own_activation_bytes) if row.own_activation_bytes else ""
            pieces.append((fit(own, _SIZE, right=True), dim))
        size = format_bytes(row.activation_bytes)
        pieces.append((fit(size, _SIZE, right=True), text if row.activation_bytes else dim))
        parts = [("parameter", 0.0), ("gradient", 0.0), ("optimizer_state", 0.0)]
        parts.append(("activation", float(row.activation_bytes)))
        pieces.append((" ", text))
        pieces += styled(span_bar(parts, bar_width, whole, mono=ink.mono), ink)
        pieces.append((fit(format_bytes(row.parameter_bytes), _SIZE, right=True), text))
        return line(pieces, width, text)


def _widths(width: int, *, is_list: bool) -> tuple[int, int, bool, int]:
    """Width of the name, of the class (0 for none), whether own sums are shown, of the bar."""
    room = width - 4 - 2 * _SIZE - _NAME[0] - _MIN_BAR
    with_own = room >= _SIZE + 4 and not is_list
    room -= _SIZE * with_own
    class_width = _CLASS if room >= _CLASS + 8 else 0
    room = max(room - class_width, 0)
    name = min(_NAME[0] + room // 2, _NAME[1])
    return name, class_width, with_own, _MIN_BAR + room - (name - _NAME[0]) - 1

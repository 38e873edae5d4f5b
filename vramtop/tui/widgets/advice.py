"""What could be changed to need less: a list from which enter takes a piece."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from textual import events
from textual.message import Message
from textual.strip import Strip

from ...core.units import format_bytes
from ...estimator.judge import then_fits
from ...estimator.result import Advice
from ..exploration import Exploration
from ..paint import Piece, fit, line
from ..theme import Ink, ink_of
from .canvas import Canvas

_SAVES: Final = 11


class AdviceList(Canvas, can_focus=True):
    """Tells what the user takes with ``Taken``."""

    class Taken(Message):
        """A piece of advice is to be applied."""

        def __init__(self, advice: Advice) -> None:
            super().__init__()
            self.advice = advice

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._exploration: Exploration | None = None
        self._advice: tuple[Advice, ...] = ()
        self._cursor = 0
        self._top = 0
        self._lines: list[int] = []
        """Index of the advice on each line below the title."""

    def show(self, exploration: Exploration) -> None:
        """Show the advice of this exploration; while there is no answer, the last one's."""
        self._exploration = exploration
        if exploration.estimate is not None:
            self._advice = exploration.estimate.advice
        elif exploration.problem:
            self._advice = ()
        self._cursor = min(self._cursor, max(len(self._advice) - 1, 0))
        self._paint()

    @property
    def chosen(self) -> Advice | None:
        """The piece under the cursor."""
        return self._advice[self._cursor] if self._advice else None

    def move(self, by: int) -> None:
        """Another piece."""
        self._cursor = min(max(self._cursor + by, 0), max(len(self._advice) - 1, 0))
        self._paint()

    def enter(self) -> None:
        """Take what is under the cursor."""
        if (advice := self.chosen) is not None:
            self.post_message(self.Taken(advice))

    def on_click(self, event: events.Click) -> None:
        """A click chooses, a second one takes."""
        at = event.y - 1 + self._top
        index = self._lines[at] if 0 <= event.y - 1 and at < len(self._lines) else None
        if index is None:
            return
        if index == self._cursor and event.chain > 1:
            self.enter()
        self._cursor = index
        self._paint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The piece below."""
        event.stop()
        self.move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The piece above."""
        event.stop()
        self.move(-1)

    def on_resize(self) -> None:
        """Paint for the new size."""
        self._paint()

    def watch_has_focus(self, has_focus: bool) -> None:
        """The title says where the keys go."""
        super().watch_has_focus(has_focus)
        self._paint()

    def _paint(self) -> None:
        (width, height), exploration = self.size, self._exploration
        if exploration is None or width <= 0 or height <= 0 or not self.is_attached:
            return
        ink = ink_of(self.app)
        pieces = [self._piece(at, width, ink) for at in range(len(self._advice))]
        if sum(map(len, pieces)) > height - 1:
            pieces = [made[:1] for made in pieces]
        strips = [strip for made in pieces for strip in made]
        self._lines = [at for at, made in enumerate(pieces) for _ in made]
        if not strips:
            said = _why_none(exploration)
            strips = [
                line([(f" {part}", ink("dim"))], width, ink("dim"))
                for part in wrap(said, width - 2)
            ]
        if self._cursor in self._lines:
            at = self._lines.index(self._cursor)
            last = at + self._lines.count(self._cursor) - 1
            self._top = min(max(self._top, last - height + 2), at)
        self._top = min(self._top, max(len(strips) - height + 1, 0))
        self.paint([self._title(width, ink), *strips[self._top : self._top + height - 1]])

    def _title(self, width: int, ink: Ink) -> Strip:
        dash, tone = ("━", "accent") if self.has_focus else ("─", "rule")
        words = " to need less "
        note = " enter takes one " if self.has_focus else " tab "
        rule = dash * max(width - len(words) - len(note) - 3, 0)
        pieces: list[Piece] = [
            (dash, ink(tone)),
            (words, ink("accent" if self.has_focus else "dim", bold=self.has_focus)),
            (rule, ink(tone)),
            (note, ink("dim")),
            (dash, ink(tone)),
        ]
        return line(pieces, width, ink(tone))

    def _piece(self, index: int, width: int, ink: Ink) -> list[Strip]:
        """What it saves and is, then what it costs; ✓ where it alone makes the workload fit."""
        advice = self._advice[index]
        is_chosen = index == self._cursor and self.has_focus
        on = "selected" if is_chosen else "background"
        estimate = self._exploration.estimate if self._exploration else None
        helps = estimate is not None and then_fits(advice, estimate)
        saves = fit("-" + format_bytes(advice.saves_bytes), _SAVES, right=True)
        pieces: list[Piece] = [
            ("▌" if is_chosen else " ", ink("accent", on)),
            (saves, ink("good", on, bold=True)),
            (" ✓ " if helps else "   ", ink("good", on, bold=True)),
            (fit(advice.change, width - _SAVES - 5), ink("text", on)),
        ]
        cost = wrap(advice.cost, max(width - _SAVES - 5, 10))[:2]
        return [
            line(pieces, width, ink("text", on)),
            *(
                line([(" " * (_SAVES + 4) + part, ink("dim", on))], width, ink("text", on))
                for part in cost
            ),
        ]


def _why_none(exploration: Exploration) -> str:
    if exploration.problem:
        return "nothing to say of what is impossible"
    if exploration.estimate is None:
        return "advice comes with the answer"
    if exploration.workload.model.entry is not None:
        return "there are no formulas for code: try a smaller batch, checkpointing or LoRA"
    return "nothing that would save 1 % or more"

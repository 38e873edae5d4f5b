"""What if: turn a workload's controls and see at once what it takes and whether it fits."""

from __future__ import annotations

import dataclasses
from textwrap import wrap
from typing import ClassVar, Final

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.timer import Timer

from ...core.fleet import Fleet
from ...core.units import format_bytes
from ...estimator.catalog import short_name
from ...estimator.controls import CONTROLS, apply_advice, control_of, texts_of
from ...estimator.explored import Explored, Place
from ...estimator.judge import then_fits
from ...estimator.workload import Workload
from ..actions import Action, bindings
from ..exploration import Exploration
from ..exploring import Exploring
from ..frame import Frame, View
from ..paint import Piece, fit, line, printable
from ..picture import Picture
from ..theme import ink_of
from ..widgets.advice import AdviceList
from ..widgets.answer import Answer
from ..widgets.bars import Footer
from ..widgets.batch_curve import BatchCurve
from ..widgets.canvas import Canvas
from ..widgets.controls import Controls

_GROUP: Final = "What if"
_CURVE_FROM: Final = (120, 40)
"""Columns and lines of a screen that has room for the curve over the batch."""
_MOST_MESSAGE_LINES: Final = 3
_CURVE_REST_S: Final = 0.15


def _key(
    name: str,
    keys: tuple[str, ...],
    shown: str,
    label: str,
    what: str,
    in_footer: bool = False,
) -> Action:
    return Action(f"screen.{name}", keys, shown, label, what, _GROUP, in_footer=in_footer)


ACTIONS: Final = (
    Action("app.quit", ("q", "ctrl+c"), "q", "Quit", "leave vramtop", "General", in_footer=True),
    Action(
        "screen.keys",
        ("question_mark", "f1"),
        "?",
        "Help",
        "keys and colours",
        "General",
        in_footer=True,
    ),
    Action("screen.back", ("escape",), "esc", "Back", "to where you came from", "General", True),
    _key("move(-1)", ("up", "k"), "↑ k", "up", "control or advice above"),
    _key("move(1)", ("down", "j"), "↓ j", "down", "control or advice below"),
    _key("turn(-1)", ("left", "h"), "← h", "less", "the value before"),
    _key("turn(1)", ("right", "l"), "→ l", "more", "the next value"),
    _key("leap(-1)", ("shift+left", "pagedown"), "⇧← pgdn", "half", "half as much"),
    _key("leap(1)", ("shift+right", "pageup"), "⇧→ pgup", "double", "twice as much"),
    _key("end(False)", ("home", "g"), "home g", "first", "first value"),
    _key("end(True)", ("end", "G"), "end G", "last", "last value"),
    _key("type", (), "0–9", "number", "type a number"),
    _key("enter", ("enter",), "enter", "Choose", "list values; take advice", True),
    _key("other", ("tab", "shift+tab"), "tab", "Advice", "controls or advice", True),
    _key("undo", ("u",), "u", "Undo", "undo the last change", True),
    _key("explorer", ("b",), "b", "Batches", "curve, cliff and map", True),
)


class WhatIfScreen(ModalScreen[None]):
    """Over the live screen, or the only one of ``vramtop explore``."""

    DEFAULT_CSS = """
    WhatIfScreen { background: $background; }
    WhatIfScreen #whatif-head { height: 1; background: $panel; }
    WhatIfScreen #whatif-body { height: 1fr; }
    WhatIfScreen #whatif-left { width: 46%; max-width: 66; height: 1fr; }
    WhatIfScreen #controls { height: auto; }
    WhatIfScreen #advice { height: 1fr; min-height: 3; }
    WhatIfScreen #whatif-right { width: 1fr; height: 1fr; margin-left: 1; }
    WhatIfScreen #answer { height: 1fr; }
    WhatIfScreen #whatif-curve { height: 15; display: none; }
    WhatIfScreen.-curve #whatif-curve { display: block; }
    WhatIfScreen #whatif-message { height: 1; }
    WhatIfScreen #whatif-keys { height: 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS),
        # Handled as keys of the screen they would overtake arrows, which are bindings.
        *(Binding(digit, f"type('{digit}')", show=False) for digit in "0123456789"),
        Binding("backspace", "type('')", show=False),
    ]
    AUTO_FOCUS = "#controls"

    def __init__(self, exploring: Exploring, *, is_first: bool = False) -> None:
        """``is_first``: there is nothing to go back to."""
        super().__init__()
        self._exploring = exploring
        self._is_first = is_first
        self._message = ""
        self._curve_timer: Timer | None = None
        self._actions = tuple(a for a in ACTIONS if not (is_first and a.name == "screen.back"))

    def compose(self) -> ComposeResult:
        """Controls and advice at the left, the answer at the right (called by textual)."""
        yield Canvas(id="whatif-head")
        with Horizontal(id="whatif-body"):
            with Vertical(id="whatif-left"):
                yield Controls(id="controls")
                yield AdviceList(id="advice")
            with Vertical(id="whatif-right"):
                yield Answer(id="answer")
                yield BatchCurve(id="whatif-curve")
        yield Canvas(id="whatif-message")
        yield Footer(self._actions, id="whatif-keys")

    def on_mount(self) -> None:
        """Show what is known, and hear of what comes."""
        self._exploring.subscribe(self._show)
        self._show()

    def on_unmount(self) -> None:
        """Nobody is there to be told."""
        self._exploring.unsubscribe(self._show)

    def on_resize(self) -> None:
        """Where there is room: headings between the controls, the curve under the answer."""
        size = self.app.size
        self.set_class(size.width >= _CURVE_FROM[0] and size.height >= _CURVE_FROM[1], "-curve")
        self.call_after_refresh(self._show)

    # Showing.

    def _show(self) -> None:
        exploration = self._exploring.exploration
        controls = self.query_one(Controls)
        controls.show(exploration, self._exploring.home)
        controls.styles.height = self._height_of(controls)
        self.query_one(AdviceList).show(exploration)
        self.query_one(Answer).show(exploration)
        self._show_head(exploration)
        self._show_message()
        self._draw_curve_later()
        self.query_one(Footer).show(self._frame())

    def _draw_curve_later(self) -> None:
        """Once the keys rest: it asks for many batches."""
        if self._curve_timer is not None:
            self._curve_timer.stop()
        if self.has_class("-curve"):
            self._curve_timer = self.set_timer(_CURVE_REST_S, self._draw_curve)

    def _draw_curve(self) -> None:
        # The notice stands in a line of its own here.
        exploration = dataclasses.replace(self._exploring.exploration, notice="")
        estimate, predictor = exploration.estimate, exploration.predictor
        if estimate is None or predictor is None:
            return
        place = Place(estimate.workload.batch, estimate.workload.sequence)
        explored = Explored(estimate, predictor)
        picture = Picture(exploration, explored, place, ink_of(self.app))
        self.query_one(BatchCurve).show(picture)

    def _height_of(self, controls: Controls) -> int:
        """All of them, with headings on high screens; on low ones they scroll over the advice."""
        height = self.app.size.height - 3
        wanted = controls.wanted_height
        return wanted + 7 if height >= 2 * wanted + 10 else min(wanted, max(height - 4, 3))

    def _show_head(self, exploration: Exploration) -> None:
        ink, head = ink_of(self.app), self.query_one("#whatif-head", Canvas)
        width, workload = head.size.width, exploration.workload
        words = f"{short_name(workload.model)} · {workload.mode}"
        if exploration.live:
            words += f" · from {exploration.live}"
        if workload.stack != "plain":
            words += f" · {workload.stack}"
        if workload.chunked_loss:
            words += " · chunked loss"
        if workload.allocator.expandable_segments:
            words += " · expandable segments"
        if workload.implementation == "fused" and workload.training:
            words += " · fused"
        mark, tone = _how(exploration)
        mark = f" {mark} "
        room = width - cell_len(mark) - 9
        pieces: list[Piece] = [
            (" what if ", ink("accent", "chip", bold=True)),
            (fit(words, max(room, 0)), ink("text", "chip")),
            (mark, ink(tone, "chip", bold=True)),
        ]
        head.paint([line(pieces, width, ink("text", "chip"))])

    def _show_message(self) -> None:
        ink, bar = ink_of(self.app), self.query_one("#whatif-message", Canvas)
        exploration, width = self._exploring.exploration, bar.size.width
        advice = self.query_one(AdviceList)
        text, tone = self._message, "text"
        if not text and exploration.problem:
            text, tone = exploration.problem, "error"
        elif not text and self._has_advice and advice.chosen is not None:
            text = f"{advice.chosen.change}: {advice.chosen.cost}"
            estimate = exploration.estimate
            if estimate is not None and then_fits(advice.chosen, estimate):
                text += "; ✓ then it fits"
        elif not text:
            text, tone = exploration.notice or exploration.untraced, "dim"
        parts = wrap(printable(text), max(width - 4, 10))[:_MOST_MESSAGE_LINES] or [""]
        bar.styles.height = len(parts)
        marks = [" ▸ " if text else "", *["   "] * len(parts)]
        bar.paint(
            [
                line([(mark, ink("accent", bold=True)), (part, ink(tone))], width, ink("text"))
                for mark, part in zip(marks, parts, strict=False)
            ]
        )

    def _frame(self) -> Frame:
        """What the footer and the help are given: they need its ink."""
        return Frame(Fleet(), View(), ink_of(self.app))

    def _say(self, text: str) -> None:
        self._message = text
        self._show_message()

    # What the table of actions names.

    @property
    def _has_advice(self) -> bool:
        return isinstance(self.focused, AdviceList)

    def action_keys(self) -> None:
        """Show the keys."""
        from .help import HelpScreen

        self.app.push_screen(HelpScreen(self._frame(), self._actions))

    def action_back(self) -> None:
        """Leave, or only the advice where this is the first screen."""
        if not self._is_first:
            self.dismiss()
        elif self._has_advice:
            self.action_other()

    def action_move(self, by: int) -> None:
        """Another control or piece of advice."""
        self._message = ""
        if self._has_advice:
            self.query_one(AdviceList).move(by)
        else:
            self.query_one(Controls).move(by)
        self._show_message()

    def action_turn(self, by: int) -> None:
        """The next value."""
        if not self._has_advice:
            self.query_one(Controls).turn(by)

    def action_leap(self, by: int) -> None:
        """Twice or half as much."""
        if not self._has_advice:
            self.query_one(Controls).turn(by, larger=True)

    def action_end(self, last: bool) -> None:
        """The first or the last value."""
        if not self._has_advice:
            self.query_one(Controls).turn_to_end(last=last)

    def action_enter(self) -> None:
        """List the values, or take the advice."""
        if self._has_advice:
            self.query_one(AdviceList).enter()
        else:
            self.query_one(Controls).enter()

    def action_other(self) -> None:
        """From the controls to the advice, or back."""
        self._message = ""
        # At once: the next key may be on its way.
        self.set_focus(self.query_one(Controls if self._has_advice else AdviceList))
        self.call_after_refresh(self._show_message)

    def action_undo(self) -> None:
        """Undo the last change."""
        before = self._exploring.exploration.workload
        by = self._exploring.undo()
        if by is None:
            self._say("nothing to undo")
        else:
            # Of some advice there is no control.
            changes = _changes(before, self._exploring.exploration.workload)
            self._say(f"undone: {changes or by}")

    def action_explorer(self) -> None:
        """The batch explorer of this workload."""
        from .explorer import ExplorerScreen

        self.app.push_screen(ExplorerScreen(self._exploring))

    def action_type(self, digit: str) -> None:
        """A digit of a number, or "" to take the last one back."""
        if not self._has_advice:
            self.query_one(Controls).type(digit)

    # What the widgets tell.

    def on_controls_changed(self, message: Controls.Changed) -> None:
        """A control was set; what else that changed is said."""
        before = self._exploring.exploration.workload
        after = message.which.put(before, message.value)
        name = message.which.name
        besides = _changes(before, after, besides=name)
        self._message = f"also changed: {besides}" if besides else ""
        self._exploring.change(after, by=name)

    def on_controls_listed(self, message: Controls.Listed) -> None:
        """Show all values of a control."""
        from .choose import ChooseScreen

        control, values = message.which, message.values
        texts = [control.text(value) for value in values]
        words = None
        if control.name in ("model", "gpu"):
            names = [str(getattr(value, "name", "")) for value in values]
            words = [f"{text} {name}" for text, name in zip(texts, names, strict=True)]

        def chosen(position: int | None) -> None:
            if position is not None:
                self.on_controls_changed(Controls.Changed(control, values[position]))

        self.app.push_screen(ChooseScreen(control.label, texts, message.position, words), chosen)

    def on_batch_curve_moved(self, message: BatchCurve.Moved) -> None:
        """A batch was clicked in the curve."""
        self.on_controls_changed(Controls.Changed(control_of("batch"), message.batch))

    def on_advice_list_taken(self, message: AdviceList.Taken) -> None:
        """Apply a piece of advice."""
        advice, workload = message.advice, self._exploring.exploration.workload
        self._exploring.change(apply_advice(workload, advice.options), by=advice.change)
        saves = format_bytes(advice.saves_bytes)
        self._say(f"{advice.change}: saves {saves} of what is allocated; u undoes it")


def _changes(before: Workload, after: Workload, besides: str = "") -> str:
    """What differs, by the controls' names: "LoRA rank off → 16"."""
    old, new = texts_of(before), texts_of(after)
    return ", ".join(
        f"{control.label} {old[control.name]} → {new[control.name]}"
        for control in CONTROLS
        if control.name != besides and old[control.name] != new[control.name]
    )


def _how(exploration: Exploration) -> tuple[str, str]:
    """By which method the answer is, and what is being done for a better one."""
    if exploration.problem:
        return "no answer", "error"
    if exploration.is_exact:
        return "exact: traced", "good"
    if exploration.progress:
        doing = exploration.progress
        return (f"formula · {doing}" if exploration.estimate else doing), "warn"
    return "formula", "warn"

"""The half of the app that opens other screens: palette, help, details, sorting, signals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from signal import Signals
from typing import Any

from textual.app import App, SystemCommand
from textual.reactive import reactive
from textual.screen import Screen

from ..core.fleet import Fleet
from ..core.ranks import JobRow
from ..core.rows import PROCESS_COLUMNS
from ..errors import VramtopError
from .actions import Action
from .frame import Frame, View
from .panes import Pane
from .predicting import Predicting, PredictionCame
from .theme import Ink, make_ink
from .widgets.bars import ProblemBar


class Dialogs(App[None]):
    """An app with a frame, a view and a table of actions, and the dialogs over them."""

    frame: reactive[Frame | None] = reactive(None, init=False)
    actions: tuple[Action, ...]

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view
        self._fleet = Fleet()  # the newest; the frame's may be an older one while paused
        self._predict = Predicting(lambda: self.post_message(PredictionCame()))

    def _ink(self) -> Ink:
        is_dark, colors = self.current_theme.dark, self.console.color_system
        return make_ink(is_dark=is_dark, color_system=colors, no_color=self.no_color)

    def _change(self, **changes: Any) -> None:
        """Change the view, and show the newest fleet unless paused."""
        before, was_paused = self.frame, self._view.paused
        self._view = replace(self._view, **{"message": "", **changes})
        frozen = was_paused and self._view.paused and before is not None
        fleet = before.fleet if frozen and before is not None else self._fleet
        self.frame = Frame(fleet, self._view, self._ink(), self._predict)

    def on_prediction_came(self) -> None:
        """Show it."""
        self._change(message=self._view.message)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:  # noqa: ARG002
        """The palette's entries (called by textual)."""
        for action in self.actions:
            if action.in_palette:
                run = partial(self.run_action, action.name)
                yield SystemCommand(action.label, action.help, run)

    def action_help(self) -> None:
        """Show the keys."""
        from .screens.help import HelpScreen

        if self.frame:
            self.push_screen(HelpScreen(self.frame, self.actions))

    def action_problems(self) -> None:
        """Show all problems."""
        from .screens.problems import ProblemsScreen

        if self.frame:
            problems = self.query_one(ProblemBar).problems
            self.push_screen(ProblemsScreen(self.frame, problems))

    def action_details(self) -> None:
        """Show all of the selected process, unless the pane in focus has a use for the key."""
        from .screens.details import DetailsScreen

        if isinstance(self.focused, Pane) and self.focused.enter():
            return
        if self.frame and self.frame.process:
            self.push_screen(DetailsScreen(self.frame, self.frame.process.key))

    def action_sort(self) -> None:
        """Ask for the column."""
        from .screens.sort import SortScreen

        if self.frame:
            self.push_screen(SortScreen(self.frame), self._sort_by)

    def _sort_by(self, key: str | None) -> None:
        """Sort by a column; the same one again turns the order round."""
        if key is None:
            return
        is_number = next(column.is_number for column in PROCESS_COLUMNS if column.key == key)
        again = key == self._view.sort_key
        self._change(sort_key=key, descending=not self._view.descending if again else is_number)

    def action_signal(self, name: str) -> None:
        """Ask, then send a signal to the selected process."""
        from .screens.confirm import ConfirmScreen

        process = self.frame.process if self.frame else None
        if self.frame and isinstance(self.frame.row, JobRow):
            ranks = len(self.frame.row.ranks)
            self._change(message=f"this row is {ranks} processes: press f and choose one of them")
            return
        if process is None or process.state != "running":
            self._change(message="no running process is selected")
            return

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self._send(process.pid, process.started_at, Signals[name])
            else:
                self._change(message=f"{name} not sent")

        question = f"Send {name} to this process?"
        self.push_screen(ConfirmScreen(process, question, f"Send {name}"), answered)

    def _send(self, pid: int, started_at: float | None, number: int) -> None:
        from ..sources.signals import send

        try:
            send(pid, started_at, number)
        except VramtopError as error:
            self._change(message=str(error))
        else:
            self._change(message=f"{Signals(number).name} sent to process {pid}")

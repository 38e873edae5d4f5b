"""The part of the app that leads from pane to pane and moves within them."""

from __future__ import annotations

from ..core.ranks import JobRow
from .attaching import Attaching
from .frame import View
from .panes import PANES, ModulesPane, Pane, PredictedPane, ProcessesPane
from .widgets.lower import Lower


class Navigation(Attaching):
    """An app with the panes of the main screen."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._pane = ProcessesPane.NAME
        """The pane in focus, or last in focus."""
        self._enlarged: Pane | None = None

    def action_move(self, to: str) -> None:
        """Move in the pane in focus."""
        focused = self.focused
        (focused if isinstance(focused, Pane) else self.query_one(ProcessesPane)).move(to)

    def action_pane(self, number: int) -> None:
        """Go to a pane; there already: enlarge it, or put it back."""
        pane = self.query_one(f"#{PANES[number - 1].NAME}", Pane)
        if pane.has_focus and pane.display:
            self._enlarge(None if self._enlarged else pane)
        else:
            self._enlarge(pane if self._enlarged else None)
        self._go_to(pane)

    def action_fold(self) -> None:
        """List the ranks of the selected job, or show them as one row."""
        job = self.frame.job if self.frame else None
        if job is None:
            self._change(message="the selected process is no rank of a job with several here")
        else:
            self._turn_fold(job.group)

    def on_processes_pane_fold_turned(self, message: ProcessesPane.FoldTurned) -> None:
        """A job's mark was clicked."""
        self._turn_fold(message.group)

    def _turn_fold(self, group: str) -> None:
        rows = self.frame.rows if self.frame else []
        if any(isinstance(row, JobRow) and row.group == group and row.is_filtered for row in rows):
            self._change(message="the filter says which ranks are listed; esc ends it")
            return
        shown = self.frame.process if self.frame else None
        self._change(
            unfolded=self._view.unfolded ^ {group},
            # What the panes show they go on showing.
            selected=shown.key if shown else None,
        )

    def action_module_list(self) -> None:
        """The modules as a tree, or the largest first."""
        pane = self.query_one(ModulesPane)
        if pane.display:
            pane.toggle_list()
        self._go_to(pane)

    def action_moment(self) -> None:
        """The next moment of the step, predicted beside actual."""
        pane = self.query_one(PredictedPane)
        if pane.display:
            pane.move("right")
        self._go_to(pane)

    def _go_to(self, pane: Pane) -> None:
        self.query_one(Lower).bring(pane)  # what is not there cannot be in focus
        pane.focus()

    def on_descendant_focus(self) -> None:
        """The next run begins where this one is left, and a smaller screen keeps it."""
        if isinstance(self.focused, Pane) and len(self.screen_stack) == 1:
            self._pane = self.focused.NAME
            self.query_one(Lower).bring(self.focused)

    def _enlarge(self, pane: Pane | None) -> None:
        """Give a pane the whole screen; None gives every pane its place back."""
        screen = self.screen_stack[0]
        self._enlarged = pane
        screen.set_class(pane is not None, "-enlarged")
        lower = self.query_one(Lower)
        screen.set_class(pane in lower.panes, "-enlarged-selected")
        for kind in PANES:
            is_it = pane is not None and pane.NAME == kind.NAME
            screen.set_class(is_it, f"-enlarged-{kind.NAME}")
        lower.settle()

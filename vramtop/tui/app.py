"""The app: wires the source, the panes and the actions together, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Input

from .. import settings
from ..core.alerts import Alert, alerts
from ..core.rows import SORT_KEYS
from ..errors import EXIT_OK
from ..sources.base import SnapshotSource
from ..sources.recording.replay import Replay
from .actions import available, bindings
from .frame import Frame, View
from .leaving import leave_on_signals
from .panes import PANES, Pane, ProcessesPane
from .recorded import Recorded
from .screens.overlay import OverlayScreen
from .theme import DARK, LIGHT, THEMES
from .widgets.bars import Footer, ProblemBar, StatusBar
from .widgets.filter_field import FilterField
from .widgets.lower import Lower

OnAlerts = Callable[[Sequence[Alert], float], str]
"""Given the alerts of every snapshot and its time; what it says is for the message line."""


class VramtopApp(Recorded):
    """The screen over any source of snapshots, or over a recording of them."""

    TITLE = "vramtop"
    CSS_PATH = "app.tcss"
    # Not ClassVar: textual declares them as an instance's.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (18, "-low"), (24, "-usual")]  # noqa: RUF012

    def __init__(
        self,
        source: SnapshotSource | Replay,
        *,
        select_pid: int | None = None,
        readonly: bool = False,
        theme: str | None = None,
        view: View | None = None,
        pane: str | None = None,
        on_alerts: OnAlerts | None = None,
    ) -> None:
        is_replay = isinstance(source, Replay)
        can_act = not (readonly or is_replay)
        super().__init__(replace(view or View(), can_act=can_act), source)
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme if theme in self.available_themes else DARK
        self.actions = available(readonly=readonly, is_replay=is_replay)
        self._bindings.key_to_bindings.pop("ctrl+c")  # textual only explains how to quit
        for binding in bindings(self.actions):
            self._bindings.key_to_bindings.setdefault(binding.key, []).append(binding)
        self._on_alerts = on_alerts
        self._select_pid = select_pid
        self._pane = pane if pane in [kind.NAME for kind in PANES] else self._pane
        self.AUTO_FOCUS = f"#{self._pane}"  # type: ignore[misc]  # ClassVar there, remembered here

    def compose(self) -> ComposeResult:
        """Bars and panes (called by textual)."""
        yield StatusBar(id="status")
        panes = [pane() for pane in PANES]
        for number, pane in enumerate(panes, 1):
            pane.number = number
        yield from panes[:2]
        yield Lower(panes[2:], first=self._pane, id="selected")
        yield ProblemBar(id="problems")
        yield FilterField(id="filter")
        yield Footer(self.actions, id="footer")

    def on_mount(self) -> None:
        """Paint before reading: a driver may take seconds to answer."""
        self._change()
        self.call_after_refresh(self._feed.start)
        leave_on_signals(self)

    def on_unmount(self) -> None:
        """End what is being predicted."""
        self._predict.close()

    def on_resize(self) -> None:
        """The bars depend on the screen's size."""
        self.call_after_refresh(self._show_bars)

    def on_snapshots_wait(self) -> None:
        """Take in what came; a paused screen stays as it is."""
        self._fleet = self._feed.drain(self._fleet)
        self._follow_replay()
        if self._select_pid is not None:
            for process in self._fleet.snapshot.processes:
                if process.pid == self._select_pid:
                    # A rank that was asked for is shown, also where another is fuller: that it
                    # is one its probe has said by the first sample.
                    unfolded = self._view.unfolded | set(filter(None, [process.probe.group]))
                    self._view = replace(self._view, selected=process.key, unfolded=unfolded)
                    if process.probe.state == "streaming":
                        self._select_pid = None
        shown = self.frame.process if self.frame else None
        if self._view.selected is None and shown and shown.probe.state == "streaming":
            # Once its memory is explained it stays, whichever process is the first by now.
            self._view = replace(self._view, selected=shown.key)
        message = self._view.message
        if self._on_alerts is not None:  # of a paused screen too
            active = alerts(self._fleet, self._view.alert_at_percent)
            message = self._on_alerts(active, self._fleet.snapshot.taken_at) or message
        if not self._view.paused:
            self._change(message=message)

    def watch_frame(self, frame: Frame | None) -> None:
        """The one place from which everything is repainted."""
        if frame is None or not self.is_running:
            return
        for pane in self.screen_stack[0].query(Pane):
            pane.show(frame)
        self._show_bars()
        if isinstance(self.screen, OverlayScreen):
            self.screen.show(frame)

    def watch_theme(self) -> None:
        """Repaint in the other inks."""
        if self.is_running and self.frame is not None:
            self._change()

    def _show_bars(self) -> None:
        if self.frame is not None:
            for bar in self.screen_stack[0].query("StatusBar, ProblemBar, Footer").results(Widget):
                bar.show(self.frame)  # type: ignore[attr-defined]

    def remembered(self) -> dict[str, Any]:
        """What the next run starts with."""
        order = {"sort_key": self._view.sort_key, "descending": self._view.descending}
        return {"theme": self.theme, "pane": self._pane, **order}

    # What the table of actions names.

    def action_toggle_theme(self) -> None:
        """Change between dark and light."""
        self.theme = LIGHT if self.current_theme.dark else DARK

    def action_filter(self) -> None:
        """Type what rows must match."""
        self.query_one(FilterField).open()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._change(filter_text=event.value)

    def on_input_submitted(self) -> None:
        """Keep the filter and go back to the table."""
        self.query_one(FilterField).display = bool(self._view.filter_text)
        self.query_one(ProcessesPane).focus()

    async def action_back(self) -> None:
        """Undo one thing: the filter, an enlarged pane, a message."""
        field = self.query_one(FilterField)
        if field.display:
            field.clear_and_close()
            self.query_one(ProcessesPane).focus()
        elif self._enlarged:
            self._enlarge(None)
        self._change()

    def on_processes_pane_sort_picked(self, message: ProcessesPane.SortPicked) -> None:
        """A head was clicked."""
        self._sort_by(message.column)

    def on_processes_pane_picked(self, message: ProcessesPane.Picked) -> None:
        """The cursor moved."""
        self._select_pid = None
        self._change(selected=message.key, torch_device_turn=0)

    def on_pane_device_turned(self, message: Pane.DeviceTurned) -> None:
        """Another torch device of the same process."""
        self._change(torch_device_turn=self._view.torch_device_turn + message.by)


def run_app(
    source: SnapshotSource | Replay,
    *,
    select_pid: int | None = None,
    readonly: bool = False,
    theme: str | None = None,
    alert_at_percent: float | None = None,
    on_alerts: OnAlerts | None = None,
) -> int:
    """Show the live screen until the user leaves it; returns the exit code.

    Both ends must be a terminal. The theme and the order of rows are those of the last time,
    unless ``theme`` ("dark" or "light") names one.
    """
    state = settings.load_state()
    sort_key, remembered = str(state.get("sort_key")), str(state.get("theme"))
    view = View(alert_at_percent=alert_at_percent)
    if sort_key in SORT_KEYS:
        view = replace(view, sort_key=sort_key, descending=bool(state.get("descending", True)))
    app = VramtopApp(
        source,
        select_pid=select_pid,
        readonly=readonly,
        theme={"dark": DARK, "light": LIGHT}.get(theme or "", remembered),
        view=view,
        pane=str(state.get("pane")),
        on_alerts=on_alerts,
    )
    try:
        app.run()
    finally:
        source.stop()
    settings.save_state({**state, **app.remembered()})
    return app.return_code or EXIT_OK

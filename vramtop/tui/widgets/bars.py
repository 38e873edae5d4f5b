"""The one-line widgets around the panes: status, problems and messages, footer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events

from ...core.model import Problem
from ..actions import Action
from ..frame import Frame
from ..paint import Piece, fit, line, printable
from .canvas import Canvas

MIN_WIDTH, MIN_HEIGHT = 60, 20
"""Below this the screen says that it is too small for all panes."""


class StatusBar(Canvas):
    """Where this is, how often it is read, and whether the screen stands still."""

    def show(self, frame: Frame) -> None:
        """Show this frame."""
        ink, width, fleet = frame.ink, self.size.width, frame.fleet
        size = self.app.size
        view, host = frame.view, fleet.snapshot.host
        text, dim = ink("text", "chip"), ink("dim", "chip")
        pieces: list[Piece] = [(" vramtop ", ink("accent", "chip", bold=True))]
        if size.width < MIN_WIDTH or size.height < MIN_HEIGHT:
            small = f"{size.width}×{size.height} is small, {MIN_WIDTH}×{MIN_HEIGHT} shows all"
            pieces.append((small, ink("warn", "chip")))
        elif not fleet.is_waiting:
            pieces.append((f"{printable(host.hostname)} ", text))
            alive = [process for process in fleet.processes if process.state != "gone"]
            watched = sum(process.probe.state not in {"none", "gone"} for process in alive)
            known = len(alive)
            pieces.append((f"· {known} process{'es' * (known != 1)}, {watched} with a probe ", dim))
        right: list[Piece] = []
        if view.playback is None:
            pieces.append((f"· every {view.period_s:g} s", dim))
        else:
            right.append((f" {view.playback.text} ", ink("accent", "chip", bold=True)))
        if view.is_recording:
            right.append((" ● rec ", ink("warn", "chip", bold=True)))
        if frame.alerts:
            more = f" +{len(frame.alerts) - 1} more: p" if len(frame.alerts) > 1 else ""
            warned = f" ▲ {printable(frame.alerts[0].text)}{more} "
            right.append((warned, ink("warn", "chip", bold=True)))
        if view.paused:
            right.append((" PAUSED, space goes on ", ink("background", "warn", bold=True)))
        # What is said at the right matters more than where this is.
        while len(pieces) > 1 and _cells(pieces) + _cells(right) > width:
            pieces.pop()
        room = width - _cells(pieces) - _cells(right)
        if room > 0:
            pieces.append((" " * room, dim))
        self.paint([line([*pieces, *right], width, dim)])


def _pause_label(frame: Frame) -> str:
    """What space does next."""
    playback = frame.view.playback
    if playback is not None and playback.at_end:
        return "Restart"
    return "Resume" if (playback.is_paused if playback else frame.view.paused) else "Pause"


def _cells(pieces: Sequence[Piece]) -> int:
    return sum(cell_len(text) for text, _ in pieces)


class ProblemBar(Canvas):
    """The answer to the last key, else what could not be read; not there if there is neither."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._known: list[Problem] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The present problems, the newest first."""
        return tuple(self._known)

    def show(self, frame: Frame) -> None:
        """Show this frame."""
        own = (frame.view.problem,) if frame.view.problem else ()
        present = (*own, *frame.fleet.snapshot.problems)
        kept = [problem for problem in self._known if problem in present]
        new = [problem for problem in dict.fromkeys(present) if problem not in self._known]
        self._known = [*reversed(new), *kept]
        ink, width = frame.ink, self.app.size.width
        pieces: list[Piece] = []
        if frame.view.message:
            pieces = [(" ▸ ", ink("accent", bold=True)), (frame.view.message, ink("text"))]
        elif self._known:
            first = self._known[0]
            said = printable(f"{first.source}: {first.message}")
            more = ""
            if len(self._known) > 1:
                more = f"  +{len(self._known) - 1} more: p"
            elif cell_len(said) > width - 3:
                more = "  all: p"
            said = fit(said, min(cell_len(said), width - 3 - len(more)))
            pieces = [
                (" ! ", ink("warn", bold=True)),
                (said, ink("warn")),
                (more, ink("accent")),
            ]
        self.display = bool(pieces)
        self.paint([line(pieces, width, ink("text"))])


class Footer(Canvas):
    """The keys most asked for; clicking one does it."""

    def __init__(self, actions: tuple[Action, ...], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._actions = [action for action in actions if action.in_footer]
        self._places: list[tuple[int, str]] = []
        """(right edge, action) of each entry."""

    def show(self, frame: Frame) -> None:
        """Show this frame."""
        ink, width = frame.ink, self.size.width
        pieces: list[Piece] = []
        self._places = []
        used = 0
        for action in self._actions:
            label = _pause_label(frame) if action.name == "pause" else action.label
            key, word = f" {action.shown_keys}", f" {label} "
            if used + len(key) + len(word) > width:
                break
            pieces += [(key, ink("accent", "chip", bold=True)), (word, ink("text", "chip"))]
            used += len(key) + len(word)
            self._places.append((used, action.name))
        self.paint([line(pieces, width, ink("text", "chip"))])

    async def on_click(self, event: events.Click) -> None:
        """Do what was clicked."""
        for right, action in self._places:
            if event.x < right:
                await self.app.run_action(action)
                return

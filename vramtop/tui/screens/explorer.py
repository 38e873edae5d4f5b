"""The batch-size explorer: curve, map, cursor, and the climb to the cliff."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.screen import ModalScreen
from textual.timer import Timer

from ...estimator.explored import Explored, Place
from ...estimator.workload import Workload
from ..exploration import Exploration
from ..picture import Picture
from ..player import Player
from ..scene import script
from ..theme import Ink, make_ink
from ..widgets.batch_curve import BatchCurve
from ..widgets.explorer_bars import ExplorerFooter, ExplorerTitle, Waiting
from ..widgets.gauge import Gauge
from ..widgets.maximum import Maximum
from ..widgets.point import PointPanel
from ..widgets.verdict_map import VerdictMap, position

_SETTLE_S: Final = 0.12
"""How long the cursor rests before a trace is replayed for its point."""
ONLY_ITS_BATCH: Final = "no what-if: its model cannot be rebuilt here, only its batch can be turned"
_WIDE_FROM: Final = 120
_HIGH_FROM: Final = 36


class Controller(Protocol):
    """What feeds the explorer."""

    exploration: Exploration

    def change(self, workload: Workload) -> None:
        """Ask about another workload."""
        ...

    def say(self, notice: str) -> None:
        """Show a line above the curve."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after every change."""
        ...

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Call no more."""
        ...


class ExplorerScreen(ModalScreen[str]):
    """Gives ``what-if`` where the user goes there with the point, "" where they just leave."""

    DEFAULT_CSS = """
    ExplorerScreen { background: $background; }
    ExplorerScreen > #explorer-title, ExplorerScreen > #explorer-footer { height: 1; }
    ExplorerScreen #explorer-maximum { height: 3; margin: 0 0 0 0; }
    ExplorerScreen #explorer-gauge { height: 1; }
    ExplorerScreen #explorer-body { height: 1fr; layout: vertical; }
    ExplorerScreen #explorer-pictures { height: 1fr; width: 1fr; }
    ExplorerScreen #explorer-curve, ExplorerScreen #explorer-map { height: 1fr; }
    ExplorerScreen #explorer-point { height: 5; width: 1fr; }
    ExplorerScreen #explorer-waiting { height: 1fr; display: none; }
    ExplorerScreen.-waiting #explorer-waiting { display: block; }
    ExplorerScreen.-waiting #explorer-maximum, ExplorerScreen.-waiting #explorer-gauge,
    ExplorerScreen.-waiting #explorer-body { display: none; }
    ExplorerScreen #explorer-map { display: none; }
    ExplorerScreen.-map #explorer-map { display: block; }
    ExplorerScreen.-map #explorer-curve { display: none; }
    ExplorerScreen.-wide #explorer-body { layout: horizontal; }
    ExplorerScreen.-wide #explorer-point { width: 58; height: 1fr; margin: 0 0 0 2; }
    ExplorerScreen.-high #explorer-maximum { height: 5; margin: 1 0 1 0; }
    ExplorerScreen.-high #explorer-gauge { margin: 0 0 1 0; height: 1; }
    """
    # The app that shows it has others, of the same names.
    HORIZONTAL_BREAKPOINTS = [(_WIDE_FROM, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(_HIGH_FROM, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, show=False)
        for keys, action in (
            ("left,h", "batch(-1)"),
            ("right,l", "batch(1)"),
            ("shift+left,pagedown", "batch_page(-1)"),
            ("shift+right,pageup", "batch_page(1)"),
            ("home,g", "batch_end(-1)"),
            ("end,G", "batch_end(1)"),
            ("up,k", "sequence(1)"),
            ("down,j", "sequence(-1)"),
            ("shift+up", "sequence(99)"),
            ("shift+down", "sequence(-99)"),
            ("m", "to_maximum"),
            ("v,tab", "turn"),
            ("x", "swap"),
            ("space", "play"),
            ("enter", "waterfall"),
            ("e", "apply"),
            ("question_mark,f1", "help"),
            ("escape,b", "leave"),
            ("q,ctrl+c", "app.quit"),
        )
        for key in keys.split(",")
    ]

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._explored: Explored | None = None
        self._of: object = None
        """The estimate that was explored."""
        self._place = Place(1, 1)
        self._swapped = False
        self.player = Player(self, self._played)
        self._settling: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, maximum, gauge, picture and point, keys (called by textual)."""
        yield ExplorerTitle(id="explorer-title")
        yield Waiting(id="explorer-waiting")
        yield Maximum(id="explorer-maximum")
        yield Gauge(id="explorer-gauge")
        with Horizontal(id="explorer-body"):
            with Container(id="explorer-pictures"):
                yield BatchCurve(id="explorer-curve")
                yield VerdictMap(id="explorer-map")
            yield PointPanel(id="explorer-point")
        yield ExplorerFooter(id="explorer-footer")

    def on_mount(self) -> None:
        """Show what is known, and hear of what comes."""
        self._controller.subscribe(self._changed)
        self._take_in()
        self.call_after_refresh(self._show)

    def on_unmount(self) -> None:
        """Hear no more."""
        self._controller.unsubscribe(self._changed)
        self._stop()

    def on_resize(self) -> None:
        """Paint for the new size."""
        self.call_after_refresh(self._show)

    def _changed(self) -> None:
        if self.is_attached:
            self._take_in()
            self._show()

    def _take_in(self) -> None:
        """Explore a new estimate; the cursor stays where it can."""
        exploration = self._controller.exploration
        estimate, predictor = exploration.estimate, exploration.predictor
        if estimate is self._of:
            return
        self._stop()
        before, self._of = self._explored, estimate
        if estimate is None or predictor is None:
            self._explored = None
            return
        self._explored = Explored(estimate, predictor)
        home = self._explored.workload
        if before is None or before.workload != home:
            self._place = Place(home.batch, home.sequence)
        self._move(self._place)

    def _show(self) -> None:
        """Paint everything; only lines that changed are sent."""
        if not self.is_attached:
            return
        ink = self._ink()
        exploration, explored = self._controller.exploration, self._explored
        self.query_one(ExplorerTitle).show(exploration, ink)
        self.set_class(explored is None, "-waiting")
        play = "animate"
        if self.player.is_halfway:
            play = "pause" if self.player.is_running else "go on"
        self.query_one(ExplorerFooter).show(ink, play)
        if explored is None:
            self.query_one(Waiting).show(exploration, ink)
            return
        self.show_picture(
            Picture(exploration, explored, self._place, ink, self.player.scene, self._swapped)
        )

    def _ink(self) -> Ink:
        app = self.app
        colors = app.console.color_system
        is_dark = app.current_theme.dark
        return make_ink(is_dark=is_dark, color_system=colors, no_color=app.no_color)

    def show_picture(self, picture: Picture) -> None:
        """Paint a picture; while a batch is climbed only what moves."""
        if picture.scene is None or picture.scene.act != "climb":
            self.query_one(Maximum).show(picture)
        self.query_one(Gauge).show(picture)
        self.query_one(PointPanel).show(picture)
        if self.has_class("-map"):
            self.query_one(VerdictMap).show(picture)
        else:
            self.query_one(BatchCurve).show(picture)

    # Moving.

    def _move(self, place: Place) -> None:
        """Put the cursor where there is something; the animation ends."""
        if self._explored is None:
            return
        self._stop()
        self._place = dataclasses.replace(
            place, batch=min(max(place.batch, 1), self._explored.at(place).last)
        )
        if self._explored.at(self._place).workload.sequence != self._explored.workload.sequence:
            self._explored.settle(self._place)
        elif not self._explored.is_exact(self._place):
            self._settling = self.set_timer(_SETTLE_S, self._settle)
        self._show()

    def _settle(self) -> None:
        self._settling = None
        if self._explored is not None and self.player.scene is None:
            self._explored.settle(self._place)
            self._show()

    def action_batch(self, by: int) -> None:
        """A batch up or down; in the map a square."""
        if self._explored is None:
            return
        if self.has_class("-map") and (grid := self.query_one(VerdictMap).grid) is not None:
            if self._swapped:
                self._sequence(by)
                return
            at, _ = position(grid, self._place)
            at = min(max(at + by, 0), len(grid.batches) - 1)
            self._move(dataclasses.replace(self._place, batch=grid.batches[at]))
            return
        self._move(dataclasses.replace(self._shown_place(), batch=self._shown_place().batch + by))

    def action_sequence(self, by: int) -> None:
        """The next longer or shorter sequence; in the swapped map a batch."""
        if self.has_class("-map") and self._swapped:
            grid = self.query_one(VerdictMap).grid
            if grid is not None:
                at, _ = position(grid, self._place)
                at = min(max(at - by, 0), len(grid.batches) - 1)  # batches grow downwards
                self._move(dataclasses.replace(self._place, batch=grid.batches[at]))
            return
        self._sequence(by)

    def _sequence(self, by: int) -> None:
        if self._explored is None:
            return
        lengths = self._explored.sequences
        here = self._shown_place()
        at = lengths.index(here.sequence) if here.sequence in lengths else 0
        at = min(max(at + by, 0), len(lengths) - 1)
        self._move(dataclasses.replace(here, sequence=lengths[at]))

    def action_batch_page(self, by: int) -> None:
        """A tenth of the axis."""
        if self._explored is not None:
            here = self._shown_place()
            step = max(self._explored.at(here).last // 10, 2)
            self._move(dataclasses.replace(here, batch=here.batch + by * step))

    def action_batch_end(self, to: int) -> None:
        """The first or the last batch of the axis."""
        if self._explored is not None:
            here = self._shown_place()
            last = self._explored.at(here).last
            self._move(dataclasses.replace(here, batch=1 if to < 0 else last))

    def action_to_maximum(self) -> None:
        """The largest batch that runs."""
        if self._explored is not None:
            here = self._shown_place()
            largest = self._explored.at(here).largest
            self._move(dataclasses.replace(here, batch=largest or here.batch))

    def _shown_place(self) -> Place:
        """Where the cursor is seen: at the animation's batch, where there is one."""
        if self.player.scene is None:
            return self._place
        return dataclasses.replace(self._place, batch=self.player.scene.batch)

    def on_batch_curve_moved(self, message: BatchCurve.Moved) -> None:
        """The curve was clicked."""
        self._move(dataclasses.replace(self._place, batch=message.batch))

    def on_verdict_map_moved(self, message: VerdictMap.Moved) -> None:
        """The map was clicked."""
        self._move(message.place)

    async def on_explorer_footer_asked(self, message: ExplorerFooter.Asked) -> None:
        """A key of the footer was clicked."""
        await self.run_action(message.action)

    # The animation.

    def action_play(self) -> None:
        """Begin, pause or go on; where no motion is wanted, its last picture."""
        if self._explored is None:
            return
        if self.player.is_running:
            self.player.halt()
        elif self.player.is_halfway:
            self.player.run()
        elif self.app.animation_level == "none":
            self.player.rest(script(self._explored.at(self._place)))
        else:
            self.player.begin(script(self._explored.at(self._place)))
        self._played()

    def _stop(self) -> None:
        """No animation and no timer."""
        self.player.clear()
        if self._settling is not None:
            self._settling.stop()
            self._settling = None

    def _played(self) -> None:
        """A new scene; at the end the cursor is on the maximum."""
        scene = self.player.scene
        if scene is not None and scene.act == "rest":
            self._place = dataclasses.replace(self._place, batch=max(scene.batch, 1))
        self._show()

    # What else keys do.

    def action_turn(self) -> None:
        """The map in place of the curve, and back."""
        self.toggle_class("-map")
        self.call_after_refresh(self._show)

    def action_swap(self) -> None:
        """Swap the map's axes, or turn to it."""
        if self.has_class("-map"):
            self._swapped = not self._swapped
            self._show()
        else:
            self.action_turn()

    def action_waterfall(self) -> None:
        """The whole of the point."""
        from .point import PointScreen

        if self._explored is not None:
            self._move(self._shown_place())
            self._explored.settle(self._place)
            exploration, ink = self._controller.exploration, self._ink()
            picture = Picture(exploration, self._explored, self._place, ink)
            self.app.push_screen(PointScreen(picture))

    def action_apply(self) -> None:
        """To the what-if pane, with this point."""
        if self._controller.exploration.is_fitted:
            self._controller.say(ONLY_ITS_BATCH)
            return
        if self._explored is not None:
            place = self._shown_place()
            workload = self._controller.exploration.workload
            self._controller.change(
                dataclasses.replace(workload, batch=place.batch, sequence=place.sequence)
            )
        self.dismiss("what-if")

    def action_leave(self) -> None:
        """Back to where it was opened."""
        self.dismiss("")

    def action_help(self) -> None:
        """The keys."""
        from .explorer_help import ExplorerHelp

        self.app.push_screen(ExplorerHelp(self._ink()))

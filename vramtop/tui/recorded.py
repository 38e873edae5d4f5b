"""The part of the app that records what it shows, and that plays what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import localtime, strftime

from textual.message import Message

from ..core.fleet import Fleet
from ..core.model import Problem
from ..core.outlook import foresee
from ..core.units import format_bytes
from ..errors import VramtopError
from ..sources.base import SnapshotSource
from ..sources.recording.recorder import Recorder
from ..sources.recording.replay import Replay
from .explorers import Explorers
from .feed import Feed
from .frame import Frame, View

PERIODS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_SOURCE = "recording"


class ReplayFeed:
    """From a replay's thread to the screen: the fleet at the moment that was reached last."""

    def __init__(self, replay: Replay, notify: Callable[[], object]) -> None:
        self._replay = replay
        self._notify = notify
        self._drained: Fleet | None = None
        """As the replay gave it, without forecasts."""

    def start(self) -> None:
        """Begin to play."""
        self._replay.start(self._notify)

    def stop(self) -> None:
        """End the thread."""
        self._replay.stop()

    def drain(self, fleet: Fleet) -> Fleet:
        """The fleet to show; the same one where only the pace has changed."""
        reached, _ = self._replay.shown
        if reached is self._drained:
            return fleet
        self._drained = reached
        return foresee(reached)


class SnapshotsWait(Message):
    """The feed has something to show."""

    def can_replace(self, message: Message) -> bool:
        """However many wait, one picture is enough (asked by textual)."""
        return isinstance(message, SnapshotsWait)


class Recorded(Explorers):
    """An app whose source may be a recording, and otherwise can become one."""

    _feed: Feed | ReplayFeed

    def __init__(self, view: View, source: SnapshotSource | Replay) -> None:
        if isinstance(source, Replay):
            view = replace(view, playback=source.shown[1])
        else:
            view = replace(view, period_s=source.period_s)
        super().__init__(view)
        self._replay = source if isinstance(source, Replay) else None
        self._is_live = self._replay is None
        self._live: Feed | None = None
        self._recorder: Recorder | None = None

        def notify() -> None:
            self.post_message(SnapshotsWait())

        if isinstance(source, Replay):
            self._feed = ReplayFeed(source, notify)
        else:
            self._feed = self._live = Feed(source, notify)

    def on_mount(self) -> None:
        """See whether the recorder still writes."""
        self.watch(self, "frame", self._check_recorder, init=False)

    def on_unmount(self) -> None:
        """End the threads; what was recorded is whole."""
        self._feed.stop()
        if self._recorder is not None:
            self._recorder.close()

    def action_record(self) -> None:
        """Begin to record into a file in the working directory, or end that."""
        if self._live is None:
            return
        if self._recorder is not None:
            self._end_recording()
            return
        path = Path(strftime("vramtop-%Y%m%d-%H%M%S.vramtop", localtime()))
        try:
            self._recorder = Recorder(path)
        except VramtopError as error:
            self._change(message=f"not recording: {error}")
            return
        self._live.record(self._recorder, self._fleet)
        said = f"recording to ./{path}; r ends it"
        self._change(is_recording=True, problem=None, message=said)

    def _end_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if self._live is None or recorder is None:
            return
        self._live.record(None, self._fleet)
        recorder.close()
        if recorder.problem:
            said = Problem(_SOURCE, f"stopped after {recorder.count} snapshots: {recorder.problem}")
            self._change(is_recording=False, problem=said)
            return
        dropped = f", {recorder.dropped} lost to a slow disk" * bool(recorder.dropped)
        size = format_bytes(recorder.written_bytes)
        self._change(
            is_recording=False,
            message=f"{recorder.count} snapshots{dropped}, {size}: vramtop replay {recorder.path}",
        )

    def _check_recorder(self, _: Frame | None) -> None:
        if self._recorder is not None and self._recorder.problem:
            self.call_later(self._end_recording)

    def action_not_here(self) -> None:
        """A key that acts on processes or records, where that cannot be."""
        if self._replay is not None:
            said = "a replay shows what was: no signals, no attach, nothing to record"
        else:
            said = "signals and attach are taken away: readonly"
        self._change(message=said)

    # How fast it goes, live or not.

    def _follow_replay(self) -> None:
        """Take over where the replay is."""
        if self._replay is not None:
            _, playback = self._replay.shown
            cut = playback.at_end and playback.ending
            problem = Problem(_SOURCE, playback.ending) if cut else None
            self._view = replace(self._view, playback=playback, problem=problem)

    def action_pause(self) -> None:
        """Freeze the screen, or let it go on; a replay halts itself."""
        if self._replay is None:
            self._change(paused=not self._view.paused)
        else:
            self._drive(Replay.toggle_pause)

    def action_faster(self) -> None:
        """Read more often."""
        self._set_period(max((p for p in PERIODS_S if p < self._view.period_s), default=None))

    def action_slower(self) -> None:
        """Read less often."""
        self._set_period(min((p for p in PERIODS_S if p > self._view.period_s), default=None))

    def _set_period(self, period_s: float | None) -> None:
        if period_s is not None and self._live is not None:
            self._live.source.period_s = period_s
            self._change(period_s=period_s)

    def action_seek(self, by_s: float) -> None:
        """So many seconds on or back."""
        self._drive(lambda replay: replay.seek(by_s))

    def action_step(self, by: int) -> None:
        """So many snapshots on or back."""
        self._drive(lambda replay: replay.step(by))

    def action_to_end(self, last: bool) -> None:
        """To the first or the last snapshot."""
        self._drive(lambda replay: replay.seek_end(last=last))

    def action_speed(self, by: int) -> None:
        """Faster or slower."""
        self._drive(lambda replay: replay.change_speed(by))

    def _drive(self, command: Callable[[Replay], object]) -> None:
        if self._replay is not None:
            self._change()  # what was answered to the key before is read
            command(self._replay)

"""Why a process failed: the story of a post-mortem, told anew as more of it is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip

from ...core.fleet import ProcessKey
from ...core.model import PostMortem, Process
from ...core.oom_figures import failed_device, figures
from ...core.postmortem_story import Story, story
from ...draw.postmortem import Toned, story_lines
from ...errors import VramtopError
from ..frame import Frame
from ..paint import Piece, line
from ..panes.base import sentences
from ..theme import TEXTURES, Ink
from .overlay import OverlayScreen

if TYPE_CHECKING:
    from ...estimator.expected import Expecting
    from ...predict.postmortem import Foreseen


class PostMortemScreen(OverlayScreen):
    """One failed process; its file is read, and its step predicted, beside the screen's thread."""

    TITLE_TEXT = "Why"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w", "dismiss", show=False)]

    def __init__(self, frame: Frame, key: ProcessKey) -> None:
        super().__init__(frame)
        self._key = key
        self._file: PostMortem | None = None
        self._read_path: str | None = None
        self._judged: Expecting | None = None
        """What the last prediction was made from."""
        self._foreseen: Foreseen | VramtopError | None = None

    def show(self, frame: Frame) -> None:
        """Show this frame, and ask for what it lets be known beyond it."""
        self._frame = frame
        super().show(frame)
        process = self._process(frame)
        if process is not None:
            self._read(process)
            self._predict(frame, process)

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """The story, as far as it is known."""
        process = self._process(frame)
        told = None if process is None else self._story(frame, process)
        if process is None or told is None:
            return sentences(["the process is forgotten: `vramtop postmortem`"], width, frame)
        ink = frame.ink
        drawn = story_lines(told, width, mono=ink.mono)
        lines = [line([_piece(part, ink) for part in parts], width, ink("text")) for parts in drawn]
        head = f"pid {process.pid} · {process.command or 'N/A'}"
        if told.failure.file is not None:
            foot = [f"kept: vramtop postmortem {told.failure.file}"]
        else:
            foot = []
        blank = line([], width, ink("text"))
        return [
            *sentences([head], width, frame),
            blank,
            *lines,
            *([blank, *sentences(foot, width, frame)] if foot else []),
        ]

    def _process(self, frame: Frame) -> Process | None:
        """With what it wrote down at the moment itself, where that was read."""
        process = frame.fleet.process(self._key)
        if process is None or self._file is None:
            return process
        from ...sources.figures import with_process_figures

        probe = replace(self._file.process.probe, history=None)
        resident = self._file.process.host_rss_bytes or process.host_rss_bytes
        return replace(process, probe=with_process_figures(probe, process.devices, resident))

    def _story(self, frame: Frame, process: Process) -> Story | None:
        made, predicted, text, batch = self._foreseen, None, "", None
        if isinstance(made, VramtopError):
            text = f"not known: {made}"
        elif made is not None:
            predicted, text, batch = made.predicted, made.text, made.batch
        else:
            text = self._progress(frame, process)
        return story(
            frame.fleet,
            process,
            traceback=self._file.traceback if self._file else None,
            predicted=predicted,
            predicted_text=text,
            batch=batch,
        )

    def _progress(self, frame: Frame, process: Process) -> str:
        failure = process.probe.failure
        device = failed_device(process, failure) if failure else None
        made = frame.predict(process, device, frame.fleet) if frame.predict and device else None
        if made is None:
            return ""
        if made.progress:
            return f"{made.progress} …"
        return f"not known: {made.problem}" if made.problem and made.expecting is None else ""

    def _read(self, process: Process) -> None:
        failure = process.probe.failure
        path = failure.file if failure else None
        if path is None or path == self._read_path:
            return
        self._read_path = path

        def work() -> None:
            from ...sources.postmortem import read

            try:
                found = read(Path(path))
            except VramtopError:
                return  # what was seen of it is told all the same
            self.app.call_from_thread(self._came, found)

        self.run_worker(work, thread=True, group="read")

    def _came(self, found: PostMortem) -> None:
        if found.process.pid == self._key[0]:
            self._file, self._judged = found, None
            self.show(self._frame)

    def _predict(self, frame: Frame, process: Process) -> None:
        """Judge the newest prediction; replaying it takes too long for the screen's thread."""
        failure = process.probe.failure
        device = failed_device(process, failure) if failure else None
        if failure is None or device is None or frame.predict is None:
            return
        made = frame.predict(process, device, frame.fleet)
        expecting = made.expecting if made else None
        if expecting is None or expecting is self._judged:
            return
        self._judged = expecting
        at = figures(frame.fleet, process, failure)
        observed = frame.fleet.observed.get((process.key, device), ())

        def work() -> None:
            from ...predict.postmortem import judged

            try:
                result: Foreseen | VramtopError = judged(expecting, process, at, observed)
            except VramtopError as error:
                result = error
            self.app.call_from_thread(self._was_judged, result)

        self.run_worker(work, thread=True, group="judge")

    def _was_judged(self, result: Foreseen | VramtopError) -> None:
        self._foreseen = result
        self.show(self._frame)


def _piece(part: Toned, ink: Ink) -> Piece:
    text, tone, on = part
    if tone == "strong":
        return text, ink("text", on, bold=True)
    if tone in TEXTURES and not ink.mono:
        text = text.replace("█", TEXTURES[tone]).replace("■", TEXTURES[tone])
    return text, ink(tone, on, bold=tone == "error")
